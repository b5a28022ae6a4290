"""In which order playbooks/brokers.yml takes the brokers: real runs of it, on pretended ones."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

PLAYBOOKS = Path(__file__).parents[2] / "playbooks"
NAMES = ("broker1", "broker2", "broker3")
# In place of ours: a broker holds what it is asked about.
INFO = """
from ansible.module_utils.basic import AnsibleModule
module = AnsibleModule({"vips": {"type": "list", "elements": "str"}})
module.exit_json(held_vips=module.params["vips"])
"""
FLEET = """
fleet_vips: "{{ ['10.0.0.10'] if inventory_hostname == holder else [] }}"
fleet_own_broker: {id: "{{ inventory_hostname }}", address: "", address_ipv6: ""}
fleet_other_brokers: []
fleet_denied: []
fleet_haproxy: false
fleet_keepalived: false
"""
ROUNDS = """
- ansible.builtin.import_playbook: brokers.yml
  vars: {holder: broker1}
- ansible.builtin.import_playbook: brokers.yml
  vars: {holder: broker2, brokers_round: second}
"""


def test_whoever_holds_the_address_is_the_last_in_every_round(tmp_path: Path) -> None:
    """The address moves while the first round restarts brokers."""
    shutil.copy(PLAYBOOKS / "brokers.yml", tmp_path)
    files = {"vars/fleet.yml": FLEET, "vars/brokers.yml": "{}", "rounds.yml": ROUNDS}
    files |= {"library/entropy_broker_info.py": INFO}
    files |= {f"roles/entropy_{name}/tasks/absent.yml": "[]" for name in ("haproxy", "keepalived")}
    files |= {"roles/entropy_broker/tasks/main.yml": "[{debug: {msg: 'NOW {{ holder }}'}}]"}
    files |= {"inventory.yml": yaml.dump({"entropy_brokers": {"hosts": dict.fromkeys(NAMES)}})}
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    words = [sys.executable, "-m", "ansible", "playbook", "-i", "inventory.yml"]
    words += ["-e", json.dumps(local | {"ansible_become": False}), "rounds.yml"]
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "HOME": str(tmp_path)}
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    turns = re.findall(r'ok: \[(\w+)\] => \{\s*"msg": "NOW (\w+)"', done.stdout)
    assert turns == [
        *((name, "broker1") for name in ("broker2", "broker3", "broker1")),
        *((name, "broker2") for name in ("broker1", "broker3", "broker2")),
    ]


def test_no_playbook_runs_two_rounds_of_one_name() -> None:
    for path in PLAYBOOKS.glob("*.yml"):
        plays = yaml.safe_load(path.read_text())
        imports = [p for p in plays if p.get("ansible.builtin.import_playbook") == "brokers.yml"]
        rounds = [play.get("vars", {}).get("brokers_round") for play in imports]
        assert len(set(rounds)) == len(rounds), path.name
