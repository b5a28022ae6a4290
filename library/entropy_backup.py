"""Save and restore a fleet's state directory, on the controller (documentation only)."""

from __future__ import annotations

DOCUMENTATION = r"""
module: entropy_backup
short_description: Save a fleet's state directory in one encrypted file, and restore it
description:
  - The file holds the ledger, every credential, the list for the brokers, the certificates and the
    CA, encrypted with the vault password of the run. Keep it on another machine than the
    controller, and the password somewhere else again.
  - Runs on the controller, as an action plugin, and never contacts a host.
options:
  state_dir:
    description: The directory that M(entropy_credential) keeps. An absolute path.
    type: path
    required: true
  site_id:
    description: The name of the fleet. A state directory or a backup of another one is refused.
    type: str
    required: true
  path:
    description: The file, on the controller. An absolute path.
    type: path
    required: true
  state:
    description:
      - V(saved) writes O(path). A state directory that does not agree with its ledger is not
        saved, and a backup of a newer generation is not overwritten.
      - V(restored) writes O(state_dir). One that is not older than the backup is not touched.
    type: str
    choices: [saved, restored]
    default: saved
  reports:
    description: For O(state=restored), what M(entropy_broker_info) returns as
      RV(entropy_broker_info#module:report), one for each broker that could be asked. A backup that
      is older than what a broker holds is refused.
    type: list
    elements: dict
    default: []
  supersede:
    description: Restore although the backup is older than what is there or than what a broker
      holds. M(entropy_credential) needs its own C(supersede) then.
    type: bool
    default: false
attributes:
  check_mode:
    description: Says whether anything would change and writes nothing.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
  idempotent:
    description: The same state is saved once, and restored once.
    support: full
seealso:
  - module: entropy_credential
author: The entropy project
"""

EXAMPLES = r"""
- name: Save
  entropy_backup:
    state_dir: "{{ entropy_state_dir }}"
    site_id: lab
    path: /srv/backup/entropy-lab.vault
  run_once: true

- name: Restore
  entropy_backup:
    state: restored
    state_dir: "{{ entropy_state_dir }}"
    site_id: lab
    path: /srv/backup/entropy-lab.vault
  run_once: true
"""

RETURN = r"""
path:
  description: The file.
  returned: always
  type: str
  sample: /srv/backup/entropy-lab.vault
site_id:
  description: The name of the fleet in it.
  returned: always
  type: str
  sample: lab
generation:
  description: The generation of the ledger in it.
  returned: always
  type: int
  sample: 7
n_ids:
  description: How many ids the ledger in it knows.
  returned: always
  type: int
  sample: 12
"""

from ansible.module_utils.basic import AnsibleModule  # noqa: E402

ARGUMENTS = ("state_dir", "site_id", "path", "state", "reports", "supersede")


def main() -> None:
    """Say what is wrong when the action plugin of the same name was not found."""
    module = AnsibleModule(
        argument_spec={name: {"type": "raw"} for name in ARGUMENTS}, supports_check_mode=True
    )
    module.fail_json(
        msg="entropy_backup runs on the controller and its action plugin was not found: add the "
        "project's plugins/action to action_plugins in ansible.cfg"
    )


if __name__ == "__main__":
    main()
