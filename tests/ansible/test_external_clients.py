"""The list of clients that no play contacts."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleError
from ansible.plugins.loader import lookup_loader

from module_utils.entropy_store import Vault
from tests.ansible.fleet import Fleet

ROOT = Path(__file__).parents[2]
LIST = """
- {id: customer-1, tenant: acme}
- id: customer-2
  tenant: acme
  bootstrap: false
  not_after: 2030-01-31T10:00:00Z
  addresses: [192.0.2.0/24]
"""


def clients(**options: Any) -> list[dict[str, Any]]:
    lookup_loader.add_directory(str(ROOT / "plugins/lookup"))
    (found,) = lookup_loader.get("entropy_external_clients").run([], {}, **options)
    return list(found)


def test_from_a_file(tmp_path: Path, vault: Vault) -> None:
    path = tmp_path / "customers.yml"
    path.write_text(LIST)
    one, two = clients(file=str(path))
    assert one == {
        "id": "customer-1",
        "tenant": "acme",
        "bootstrap": True,
        "external": True,
        "permissions": ["draw"],
    }
    assert (two["bootstrap"], two["external"]) == (False, True)
    fleet = Fleet(tmp_path / "state", vault)
    fleet.ensure({element.pop("id"): element for element in (one, two)})
    assert {entry["id"] for entry in fleet.entries()} == {"customer-1", "customer-2"}
    assert fleet.ensure({}).plan.unlisted == ["customer-1", "customer-2"]


def test_from_a_command() -> None:
    program = f"print({LIST!r})"
    found = clients(command=[sys.executable, "-c", program], bootstrap=False)
    assert [(c["id"], c["bootstrap"]) for c in found] == [
        ("customer-1", False),
        ("customer-2", False),
    ]
    assert clients(command=["echo", "[]"]) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "needs either file or command"),
        ({"file": "/x", "command": ["true"]}, "needs either file or command"),
        ({"file": "/nowhere"}, "/nowhere: No such file"),
        ({"command": ["/nowhere"]}, "/nowhere cannot be run: No such file"),
        ({"command": ["sh", "-c", "echo so sorry >&2; exit 3"]}, "ended with status 3: so sorry"),
        ({"command": ["true"]}, "true: a list is needed"),
        ({"command": ["echo", "{id: vm1}"]}, "a list is needed"),
        ({"command": ["echo", "[{name: vm1}]"]}, "a list is needed"),
        ({"command": ["echo", "[{id: vm1"]}, "neither YAML nor JSON"),
        ({"command": ["echo", "[{id: vm1, permissions: [feed]}]"]}, "vm1: unknown key permissions"),
    ],
)
def test_what_is_wrong_is_said(options: dict[str, Any], message: str) -> None:
    with pytest.raises(AnsibleError, match=message):
        clients(**options)
