"""Install one secret file: a credential or a TLS key."""

from __future__ import annotations

DOCUMENTATION = r"""
module: entropy_keyfile
short_description: Install a credential or a TLS key on a host
description:
  - Writes one secret file in one step and never shows what is in it, neither in the result nor in
    a diff.
  - The file has its owner, group and mode before it has its name, so nobody else can read it at
    any moment.
options:
  path:
    description: The file. Its directory must exist; the package makes it.
    type: path
    required: true
  content:
    description:
      - The text, as the lookup P(entropy_secret#lookup) gives it. Either a credential (JSON) or a
        private key (PEM).
      - An empty string is what that lookup gives in check mode before the secret was made. It is
        accepted in check mode only.
    type: str
    required: true
  owner:
    description: Who owns the file.
    type: str
    default: root
  group:
    description: The group of the file, which is that of the service that reads it.
    type: str
    required: true
  mode:
    description: The mode of the file. Write or execute for the group, or anything for others, is
      refused, as the daemons would refuse it.
    type: raw
    default: "0640"
attributes:
  check_mode:
    description: Changes nothing. A host without the package, the group or the directory is a
      change, not a failure.
    support: full
  diff_mode:
    description: Shows id, key id, owner, group and mode.
    support: full
  idempotent:
    description: Changed only if content, owner, group or mode differ.
    support: full
seealso:
  - plugin: entropy_secret
    plugin_type: lookup
author: The entropy project
"""

EXAMPLES = r"""
- name: Install the VM's credential
  entropy_keyfile:
    path: /etc/entropy/credential.json
    content: "{{ lookup('entropy_secret', inventory_hostname, state_dir=entropy_state_dir) }}"
    group: entropy-client

- name: Install the broker's TLS key
  entropy_keyfile:
    path: /etc/entropy/broker/tls.key
    content: "{{ lookup('entropy_secret', 'tls:' ~ inventory_hostname, state_dir=entropy_state_dir) }}"
    group: entropy-broker
"""

RETURN = r"""
path:
  description: The file.
  returned: always
  type: str
  sample: /etc/entropy/credential.json
id:
  description: The id in the credential. Null for a TLS key.
  returned: always
  type: str
  sample: vm1
key_id:
  description: The id of the key in the credential. Null for a TLS key.
  returned: always
  type: str
  sample: 0b1f6a2c9d3e4f50
"""
