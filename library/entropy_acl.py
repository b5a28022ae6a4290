"""Install the list of credentials on a broker and have the running broker take it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: entropy_acl
short_description: Install the list of credentials on a broker, and have the broker confirm it
description:
  - Writes the whole list in one step, and asks the broker, if it runs, to take it. The broker is
    not restarted; it answers with the generation that is in force.
  - The list holds public keys and pre-shared keys, never the secret of a VM.
  - A list that is older than what the broker already has is refused.
options:
  path:
    description: Where the broker reads its list.
    type: path
    default: /etc/entropy/broker/acl.json
  site_id:
    description: The name of the fleet. A list of another fleet in O(path) is not overwritten.
    type: str
    required: true
  generation:
    description: The generation that M(entropy_credential) returned.
    type: int
    required: true
  entries:
    description:
      - All credentials that are valid, as the lookup P(entropy_acl_entries#lookup) gives them.
    type: list
    elements: dict
    required: true
    suboptions:
      id:
        description: The id of the credential.
        type: str
        required: true
      key_id:
        description: The id of the key, 16 hexadecimal digits. Two entries may share an O(entries[].id)
          while a key is being replaced.
        type: str
        required: true
      public_key:
        description: The X25519 public key, in base64.
        type: str
        required: true
      psk:
        description: The pre-shared key, in base64. A secret.
        type: str
        required: true
      permissions:
        description: What the holder may do.
        type: list
        elements: str
        choices: [draw, feed, peer]
        required: true
      rate_bytes_per_second:
        description: How fast the holder may draw, in bytes per second.
        type: int
      burst_bytes:
        description: How many bytes the holder may draw at once.
        type: int
      credit_bits_per_second:
        description: How much entropy the holder may claim, in bits per second.
        type: int
  owner:
    description: Who owns the file.
    type: str
    default: root
  group:
    description: The group of the file, which is the broker's.
    type: str
    default: entropy-broker
  mode:
    description: The mode of the file. Write or execute for the group, or anything for others, is
      refused, as the broker would refuse it.
    type: raw
    default: "0640"
  control_socket:
    description:
      - The control socket of the broker. When nothing listens there the file alone is written and
        the broker reads it when it starts.
    type: path
    default: /run/entropy-broker/control.sock
  timeout_seconds:
    description: How long the broker may take to answer.
    type: int
    default: 10
attributes:
  check_mode:
    description: Asks the broker what it holds and changes nothing. A host without the package,
      the group or the directory is a change, not a failure.
    support: full
  diff_mode:
    description: Shows ids, key ids, permissions and limits.
    support: full
  idempotent:
    description: Changed only if the file changed or the running broker held an older generation.
    support: full
seealso:
  - module: entropy_credential
author: The entropy project
"""

EXAMPLES = r"""
- name: Publish the credentials to every broker, whatever --limit says
  entropy_acl:
    site_id: lab
    generation: "{{ issued.generation }}"
    entries: "{{ lookup('entropy_acl_entries', state_dir=entropy_state_dir) }}"
  delegate_to: "{{ item }}"
  run_once: true
  loop: "{{ groups['entropy_brokers'] }}"
  register: published
"""

RETURN = r"""
generation:
  description: The generation that O(path) now holds (in check mode would hold).
  returned: always
  type: int
  sample: 7
running:
  description: Whether a broker answered on the control socket.
  returned: always
  type: bool
confirmed_generation:
  description: >-
    The generation that the running broker says is in force. Null when no broker runs. In check
    mode the one that it has now.
  returned: always
  type: int
  sample: 7
path:
  description: The file.
  returned: always
  type: str
  sample: /etc/entropy/broker/acl.json
"""
