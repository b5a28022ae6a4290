"""Make and keep the credentials of the whole fleet, on the controller (documentation only)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: entropy_credential
short_description: Make, rotate and revoke the credentials and certificates of a fleet
description:
  - One call for the whole fleet. Makes what is missing in O(state_dir) and leaves the rest alone.
  - Runs on the controller, as an action plugin, because the VMs are the machines that are short of
    randomness and because only the controller knows the vault password. It never contacts a host,
    so C(delegate_to) has no effect. Use C(run_once) and keep it out of plays with C(serial).
  - O(state_dir)C(/ledger.json) holds no secret and is the commit record. New keys, their files
    and the list for the brokers are written before it, and what it has ended is deleted after it,
    so a run that was interrupted at any point is completed by the next one.
  - O(state_dir)C(/credentials/ID.json), C(acl.json), C(ca/NAME.key) and C(tls/BROKER.key) are
    encrypted with the vault password of the run (the identity that
    C(vault_encrypt_identity) names, else the first one).
  - In a rotation an id has two valid keys. The old one ends when the brokers report that the new
    one was used and that no session is open with the old one, or when O(overlap) has passed. Every
    run finishes the rotations that are due.
  - A certificate with less than a third of its life left is made anew.
options:
  state_dir:
    description:
      - The directory that holds ledger, credentials and the fleet's CA. An absolute path.
      - Keep it out of public repositories and back it up with M(entropy_backup). Without it no
        broker can be given a new credential.
    type: path
    required: true
  site_id:
    description:
      - The name of the fleet, 1 to 63 of C(a-z 0-9 -). It is part of every credential and
        certificate and cannot be changed later. A ledger or a broker of another site is refused.
    type: str
    required: true
  state:
    description:
      - V(present) makes what is missing, gives every id the terms that O(credentials) names, and
        finishes rotations.
      - V(rotated) gives ids a second key. Which ids, O(ids), O(tenant) and O(rotate_after) say;
        without O(ids) and O(tenant) all but the external ones.
      - V(revoked) ends all keys of O(ids) and of O(tenant). A revoked id stays revoked, even if
        it is asked for again, until O(reissue) names it.
      - V(authority_rolled) takes one step in replacing the CA. First a second one is made, and
        RV(ca_pem) holds both. Then it signs, and the certificates of O(brokers) are made anew.
        Then RV(ca_pem) holds it alone. A step is taken only when O(overlap) has passed since the
        one before; install RV(ca_pem) on every machine between the steps.
    type: str
    choices: [present, rotated, revoked, authority_rolled]
    default: present
  credentials:
    description:
      - One entry for each credential that the fleet needs, whatever C(--limit) says. Needed with
        O(state=present). With O(state=authority_rolled) only RV(denied) is made from it, and
        otherwise it is not looked at.
      - The same id twice is an error.
    type: list
    elements: dict
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
        description: How fast the holder may draw. The broker's own limit if left out.
        type: int
      burst_bytes:
        description: How much the holder may draw at once. The broker's own limit if left out.
        type: int
      credit_bits_per_second:
        description: How much a feeder may claim. The broker's own limit if left out.
        type: int
      tenant:
        description: Whose the machine is, in the letters of an id. The brokers are not told.
        type: str
      external:
        description: A machine that no play contacts. It is never an orphan, is rotated only by
          O(ids) or O(tenant), and may do nothing but V(draw).
        type: bool
        default: false
      bootstrap:
        description:
          - The first key of this id is handed out, as C(entropy credential export) does, and so
            ends O(bootstrap_lifetime) after its first use, unless it was replaced.
          - A lasting key takes its place when the brokers report the first use, or when the id is
            asked for without this option. Until one of the two ends both are valid.
          - An id that has a lasting key already keeps it.
        type: bool
        default: false
      addresses:
        description: Addresses and networks that the holder is expected from. Advice. A login from
          elsewhere is served, counted, and raises an alarm at the broker.
        type: list
        elements: str
        default: []
      not_after:
        description: When every key of this id ends, like V(2030-01-31T10:00:00Z). Never if left
          out.
        type: str
  brokers:
    description: The brokers that need a TLS certificate, by id, 1 to 63 of C(a-z 0-9 -).
    type: list
    elements: str
    default: []
  ids:
    description: Which ids are rotated or revoked. One that the ledger does not know is an error.
    type: list
    elements: str
    default: []
  tenant:
    description: Whose ids are rotated or revoked. A tenant without any is an error.
    type: str
  rotate_after:
    description:
      - Rotate only keys that are older than this, like V(90d). A number with C(s), C(m), C(h),
        C(d) or C(w).
      - With O(state=rotated) every chosen key if left out. With O(state=present) none if left
        out. An id with a rotation under way is not rotated again.
    type: str
  overlap:
    description:
      - How long an old key works on in a rotation that begins now, if the new one is not seen.
        The brokers know its end too.
      - With O(state=authority_rolled) the least time between two steps. V(0s) for a play that has
        just installed RV(ca_pem) everywhere.
    type: str
    default: 7d
  rebuilt:
    description:
      - Ids whose host has lost its credential, as a machine has that was built anew under the
        same name. Each gets a new key, and its old ones are revoked at once.
      - An id that the ledger does not know is simply issued, so a play may name every host that
        has no file.
    type: list
    elements: str
    default: []
  reissue:
    description: Revoked ids that may have a key again. Each gets a new one.
    type: list
    elements: str
    default: []
  orphans:
    description: What happens to ids that are in the ledger and not in O(credentials). External
      ones are never orphans. Whoever is only reported keeps working.
    type: str
    choices: [report, revoke]
    default: report
  max_revoke:
    description: A run that would revoke more ids than this is refused and changes nothing.
    type: int
    default: 10
  bootstrap_lifetime:
    description: How long a bootstrap key that this run makes works after its first use.
    type: str
    default: 24h
  reports:
    description:
      - What M(entropy_broker_info) returns as RV(entropy_broker_info#module:report), one for each
        broker that could be asked.
      - They tell which keys were used, and give away a ledger that is older than what a broker
        holds, or one that is missing although a broker was given a list. Both are refused, the
        latter whatever O(bootstrap) says.
    type: list
    elements: dict
    default: []
  bootstrap:
    description:
      - Allow a new, empty state directory to be made. Without it a missing ledger is an error, so
        that a lost directory or a wrong path never starts a second fleet.
    type: bool
    default: false
  supersede:
    description:
      - Go on with this ledger although a broker holds a newer list, because there is no newer
        backup. The generation continues above the brokers'. What was revoked since the backup
        works again until it is revoked again.
    type: bool
    default: false
attributes:
  check_mode:
    description: Reports what would change and writes nothing.
    support: full
  diff_mode:
    description: Shows ids, terms, limits, the states of keys and fingerprints; never a secret.
    support: full
  idempotent:
    description: A second run with the same arguments changes nothing, but for
      O(state=authority_rolled), in which each call may take a step, and for O(rebuilt).
    support: partial
seealso:
  - module: entropy_acl
  - module: entropy_backup
  - plugin: entropy_secret
    plugin_type: lookup
  - plugin: entropy_acl_entries
    plugin_type: lookup
  - plugin: entropy_external_clients
    plugin_type: lookup
author: The entropy project
"""

EXAMPLES = r"""
- name: Ask every broker what it holds
  entropy_broker_info:
    report: true
  delegate_to: "{{ item }}"
  run_once: true
  loop: "{{ groups['entropy_brokers'] }}"
  ignore_unreachable: true
  register: looks

- name: Issue what the fleet needs
  entropy_credential:
    state_dir: "{{ entropy_state_dir }}"
    site_id: lab
    credentials:
      - {id: vm1}
      - {id: vm2, rate_bytes_per_second: 128, tenant: acme}
      - {id: rng1, permissions: [feed], credit_bits_per_second: 200000}
      - {id: broker1, permissions: [peer]}
    brokers: [broker1]
    reports: "{{ looks.results | selectattr('report', 'defined') | map(attribute='report') }}"
    bootstrap: "{{ entropy_bootstrap | default(false) | bool }}"
  run_once: true
  register: issued

- name: Give every key that is older than 90 days a successor
  entropy_credential:
    state_dir: "{{ entropy_state_dir }}"
    site_id: lab
    state: rotated
    rotate_after: 90d
    overlap: 7d
  run_once: true

- name: Revoke all that a tenant has
  entropy_credential:
    state_dir: "{{ entropy_state_dir }}"
    site_id: lab
    state: revoked
    tenant: acme
    max_revoke: 40
  run_once: true
"""

RETURN = r"""
generation:
  description: The number of the list that the brokers must hold. It grows when that changes.
  returned: always
  type: int
  sample: 7
issued:
  description: The ids for which a credential was made, O(rebuilt) and O(reissue) among them.
  returned: always
  type: list
  elements: str
  sample: [vm2]
updated:
  description: The ids whose terms changed; their keys stay.
  returned: always
  type: list
  elements: str
rotated:
  description: The ids that have two valid keys since this run. Their hosts must be given the new.
  returned: always
  type: list
  elements: str
  sample: [vm1]
waiting:
  description: Every id with two valid keys.
  returned: always
  type: list
  elements: dict
  contains:
    id:
      description: The id.
      type: str
    until:
      description: When the old key ends at the latest, in ISO 8601, UTC.
      type: str
    seen:
      description: Whether a broker has seen the new key. Then only a session that is open with the
        old one keeps that alive.
      type: bool
retired:
  description: The ids whose old key ended in this run because the new one is in use.
  returned: always
  type: list
  elements: str
stragglers:
  description: The ids whose old key ended in this run, at the overlap's end, with their new one
    unseen. They are cut off until it is installed.
  returned: always
  type: list
  elements: str
revoked:
  description: The ids that were revoked in this run.
  returned: always
  type: list
  elements: str
denied:
  description: The ids that were asked for and were revoked before. They have no key.
  returned: always
  type: list
  elements: str
orphans:
  description: The ids that are in the ledger and were not asked for. They stay valid.
  returned: always
  type: list
  elements: str
unlisted:
  description: The external ids that are in the ledger and were not asked for. They stay valid.
  returned: always
  type: list
  elements: str
bootstraps:
  description: Every id whose key is a bootstrap key.
  returned: always
  type: list
  elements: dict
  contains:
    id:
      description: The id.
      type: str
    expires:
      description: When that key ends, in ISO 8601, UTC. Null before a broker has seen it.
      type: str
ca_pem:
  description: What every machine must trust. Two certificates while the CA is being replaced. An
    empty string in check mode before there is one.
  returned: always
  type: str
authority:
  description: The CA that signs.
  returned: always
  type: dict
  contains:
    fingerprint:
      description: SHA-256 of its certificate.
      type: str
    expires:
      description: The end of its validity, in ISO 8601, UTC.
      type: str
    roll:
      description: V(none); V(trusting) while the next one does not sign yet; V(signing) while it
        does and the one before is trusted still.
      type: str
    next_step_after:
      description: When the next step of a roll may be taken with this O(overlap), or empty.
      type: str
    roll_advised:
      description: Whether less than a third of its life is left.
      type: bool
certificates:
  description: The certificate of each of O(brokers), by its id. In check mode, before one is
    made, the strings are empty.
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
"""

from ansible.module_utils.basic import AnsibleModule  # noqa: E402

ARGUMENTS = (
    *("state_dir", "site_id", "state", "credentials", "brokers", "ids", "tenant", "overlap"),
    *("rotate_after", "rebuilt", "reissue", "orphans", "max_revoke", "bootstrap_lifetime"),
    *("reports", "bootstrap", "supersede"),
)


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
