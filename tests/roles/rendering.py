"""Render a role's template for a host of an inventory, with the variables that its playbook gives.

It is Ansible's own engine, inventory and filters; only the connection to a host is left out.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import filter_loader
from ansible.template import Templar, trust_as_template
from ansible.vars.hostvars import HostVars
from ansible.vars.manager import VariableManager

CHECKOUT = Path(__file__).resolve().parents[2]
INVENTORIES = Path(__file__).resolve().parent / "inventories"

# Which playbook runs a role.
PLAYBOOKS = {
    "entropy_broker": "brokers",
    "entropy_haproxy": "brokers",
    "entropy_keepalived": "brokers",
    "entropy_feeder": "feeders",
    "entropy_client": "clients",
    "entropy_gateway": "gateways",
    "entropy_package": "packages",
    "entropy_credentials": "credentials",
    "entropy_preflight": "preflight",
}


class Inventory:
    """An inventory of tests/roles/inventories, or any by its path."""

    def __init__(self, name: str) -> None:
        path = INVENTORIES / f"{name}.yml"
        self.loader = DataLoader()
        self.hosts = InventoryManager(self.loader, sources=[str(path if path.exists() else name)])
        self.variables = VariableManager(loader=self.loader, inventory=self.hosts)
        self.hostvars = HostVars(self.hosts, self.variables, self.loader)
        filter_loader.add_directory(str(CHECKOUT / "plugins/filter"))

    def render(self, role: str, template: str, host: str, **more: Any) -> str:
        """The text of `template` as `role` would write it on `host`."""
        text = (CHECKOUT / "roles" / role / "templates" / template).read_text()
        return str(self._templar(role, host, more).template(trust_as_template(text)))

    def value(self, role: str, expression: str, host: str) -> Any:
        """What an expression is worth inside `role` on `host`."""
        return self._templar(role, host, {}).template(trust_as_template("{{ " + expression + " }}"))

    def _templar(self, role: str, host: str, more: dict[str, Any]) -> Templar:
        variables = {
            **_yaml(f"roles/{role}/defaults/main.yml"),
            **self.variables.get_vars(host=self.hosts.get_host(host)),
            **_yaml("playbooks/vars/fleet.yml"),
            **_yaml(f"roles/{role}/vars/main.yml"),
            **_given(role),
            "ansible_managed": "Ansible managed",
            "ansible_check_mode": False,
            "hostvars": self.hostvars,
            **more,
        }
        return Templar(loader=self.loader, variables=variables)


@cache
def _yaml(path: str) -> Any:
    """A YAML file of ours whose templates are to be trusted, as those of a playbook are."""
    if not (CHECKOUT / path).exists():
        return {}
    return DataLoader().load_from_file(str(CHECKOUT / path), trusted_as_template=True)


def _given(role: str) -> dict[str, Any]:
    """The variables that the role's playbook hands to it."""
    plays = _yaml(f"playbooks/{PLAYBOOKS[role]}.yml")
    # What several playbooks hand to a role alike stands in a file of its own.
    found: dict[str, Any] = dict(_yaml(f"playbooks/vars/{PLAYBOOKS[role]}.yml"))
    outer = [task for play in plays for task in play["tasks"]]
    for task in (inner for one in outer for inner in one.get("block", [one])):
        for verb in ("ansible.builtin.import_role", "ansible.builtin.include_role"):
            if task.get(verb, {}).get("name") == role:
                found |= task.get("vars", {})
    assert found, f"playbooks/{PLAYBOOKS[role]}.yml does not run {role}"
    return found


def defaults(role: str) -> set[str]:
    return set(yaml.safe_load((CHECKOUT / f"roles/{role}/defaults/main.yml").read_text()))


def options(role: str) -> set[str]:
    """The options that the role's argument specification knows."""
    spec = yaml.safe_load((CHECKOUT / f"roles/{role}/meta/argument_specs.yml").read_text())
    return {name for entry in spec["argument_specs"].values() for name in entry["options"]}
