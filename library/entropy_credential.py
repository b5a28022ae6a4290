"""Make and keep the credentials of the whole fleet, on the controller (documentation only)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: entropy_credential
short_description: Make and keep the credentials and certificates of a fleet, on the controller
description:
  - One call for the whole fleet. Makes what is missing in O(state_dir) and leaves the rest alone.
  - Runs on the controller, as an action plugin, because the VMs are the machines that are short of
    randomness and because only the controller knows the vault password. It never contacts a host,
    so C(delegate_to) has no effect. Use C(run_once) and keep it out of plays with C(serial).
  - O(state_dir)C(/ledger.json) holds no secret and is the commit record. A credential, its file
    and the list for the brokers are written before it, so a run that was interrupted at any point
    is completed by the next one.
  - O(state_dir)C(/credentials/ID.json), C(acl.json), C(ca/ca.key) and C(tls/BROKER.key) are
    encrypted with the vault password of the run (the identity that
    C(vault_encrypt_identity) names, else the first one).
  - An id that is in the ledger and not in O(credentials) is an orphan. It is reported and keeps
    working; nothing is ever revoked because an inventory was cut short.
  - A certificate with less than a third of its life left is made anew.
options:
  state_dir:
    description:
      - The directory that holds ledger, credentials and the fleet's CA. An absolute path.
      - Keep it out of public repositories and back it up. Without it no broker can be given a new
        credential.
    type: path
    required: true
  site_id:
    description:
      - The name of the fleet, 1 to 63 of C(a-z 0-9 -). It is part of every credential and
        certificate and cannot be changed later. A ledger of another site is refused.
    type: str
    required: true
  credentials:
    description:
      - One entry for each credential that the fleet needs, whatever C(--limit) says.
      - The same id twice is an error.
    type: list
    elements: dict
    required: true
    suboptions:
      id:
        description: The name, 1 to 63 of C(a-z 0-9 . _ -), starting and ending with C(a-z 0-9).
        type: str
        required: true
      permissions:
        description: What the holder may do. A VM needs V(draw) alone.
        type: list
        elements: str
        choices: [draw, feed, peer]
        default: [draw]
      rate_bytes_per_second:
        description: How fast the holder may draw, in bytes per second. The broker's own limit if
          left out.
        type: int
      burst_bytes:
        description: How many bytes the holder may draw at once. The broker's own limit if left
          out.
        type: int
      credit_bits_per_second:
        description: How much entropy a feeder may claim, in bits per second. The broker's own
          limit if left out.
        type: int
  brokers:
    description:
      - The brokers that need a TLS certificate, by id, 1 to 63 of C(a-z 0-9 -).
    type: list
    elements: str
    default: []
  state:
    description: V(present) makes what is missing.
    type: str
    choices: [present]
    default: present
  bootstrap:
    description:
      - Allow a new, empty state directory to be made. Without it a missing ledger is an error,
        so that a lost directory or a wrong path never starts a second fleet by accident.
    type: bool
    default: false
attributes:
  check_mode:
    description: Reports what would change and writes nothing.
    support: full
  diff_mode:
    description: Shows ids, permissions, limits and fingerprints; never a secret.
    support: full
  idempotent:
    description: A second run with the same arguments changes nothing.
    support: full
seealso:
  - module: entropy_acl
  - plugin: entropy_secret
    plugin_type: lookup
  - plugin: entropy_acl_entries
    plugin_type: lookup
author: The entropy project
"""

EXAMPLES = r"""
- name: Issue what the fleet needs
  entropy_credential:
    state_dir: "{{ entropy_state_dir }}"
    site_id: lab
    credentials:
      - {id: vm1}
      - {id: vm2, rate_bytes_per_second: 128}
      - {id: rng1, permissions: [feed], credit_bits_per_second: 200000}
      - {id: broker1, permissions: [peer]}
    brokers: [broker1]
    bootstrap: "{{ entropy_bootstrap | default(false) | bool }}"
  run_once: true
  register: issued

- name: Say which credentials no host in the inventory uses
  ansible.builtin.debug:
    msg: "Still valid, and in no inventory: {{ issued.orphans | join(', ') }}"
  run_once: true
  when: issued.orphans | length > 0

- name: Install the CA
  ansible.builtin.copy:
    content: "{{ issued.ca_pem }}"
    dest: /etc/entropy/ca.pem
    owner: root
    group: root
    mode: "0644"

- name: Install the broker's certificate
  ansible.builtin.copy:
    content: "{{ issued.certificates[inventory_hostname].certificate_pem }}"
    dest: /etc/entropy/broker/tls.pem
    owner: root
    group: root
    mode: "0644"
"""

RETURN = r"""
generation:
  description: >-
    The number of the list of credentials that the brokers must hold. It grows whenever that list
    changes. In check mode the number that it would get.
  returned: always
  type: int
  sample: 7
issued:
  description: The ids for which a credential was made (in check mode would be made).
  returned: always
  type: list
  elements: str
  sample: [vm2]
updated:
  description: The ids whose permissions or limits changed; their keys stay as they are.
  returned: always
  type: list
  elements: str
  sample: []
orphans:
  description: The ids that are in the ledger and were not asked for. They stay valid.
  returned: always
  type: list
  elements: str
  sample: [vm9]
ca_pem:
  description: The fleet's CA certificate. An empty string in check mode before there is one.
  returned: always
  type: str
certificates:
  description: >-
    The certificate of each of O(brokers), by its id. In check mode, before one is made, the
    strings are empty.
  returned: always
  type: dict
  contains:
    fingerprint:
      description: SHA-256 of the certificate, as C(openssl x509 -fingerprint -sha256) shows it.
      type: str
    expires:
      description: The end of its validity, in ISO 8601, UTC.
      type: str
    certificate_pem:
      description: The certificate itself, which is public.
      type: str
  sample:
    broker1:
      fingerprint: "4F:1B:..."
      expires: "2028-01-31T10:00:00Z"
      certificate_pem: "-----BEGIN CERTIFICATE-----..."
"""

from ansible.module_utils.basic import AnsibleModule  # noqa: E402

ARGUMENTS = ("state_dir", "site_id", "credentials", "brokers", "state", "bootstrap")


def main() -> None:
    """Say what is wrong when the action plugin of the same name was not found."""
    module = AnsibleModule(
        argument_spec={name: {"type": "raw"} for name in ARGUMENTS}, supports_check_mode=True
    )
    module.fail_json(
        msg="entropy_credential runs on the controller and its action plugin was not found: add "
        "the project's plugins/action to action_plugins in ansible.cfg"
    )


if __name__ == "__main__":
    main()
