"""The ledger's text: what this release writes, and what the first one wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from module_utils.entropy_ledger import dump_ledger, parse_ledger
from module_utils.entropy_store import Vault
from tests.ansible.fleet import LARGER, SMALL, Fleet


def test_what_is_written_is_read(tmp_path: Path, vault: Vault) -> None:
    fleet = Fleet(tmp_path / "state", vault)
    terms: dict[str, Any] = {"tenant": "acme", "external": True, "addresses": ["10.0.0.0/8"]}
    fleet.ensure({**LARGER, "vm9": {**terms, "bootstrap": True}}, "b1")
    fleet.do("rotated", ids=["vm1"])
    fleet.do("revoked", ids=["vm2"])
    fleet.do("authority_rolled", "b1")
    ledger = fleet.ledger()
    assert parse_ledger(dump_ledger(ledger).encode(), "x") == ledger


@pytest.fixture
def old_fleet(tmp_path: Path, vault: Vault) -> Fleet:
    """A fleet as the first release left it."""
    fleet = Fleet(tmp_path / "state", vault)
    fleet.ensure(SMALL, "b1")
    path = fleet.state_dir / "ledger.json"
    data = json.loads(path.read_text())
    data["version"] = 1
    data["authority"] = data.pop("authorities")[0]["certificate"]
    for credential in data["credentials"].values():
        for name in ("tenant", "external", "addresses", "not_after"):
            del credential[name]
    path.write_text(json.dumps(data, indent=1, sort_keys=True) + "\n")
    return fleet


def test_what_the_first_release_wrote_is_read_and_left_alone(old_fleet: Fleet) -> None:
    before = old_fleet.files()
    assert not old_fleet.ensure(SMALL, "b1").changed
    old_fleet.assert_sound()
    assert old_fleet.files() == before


def test_and_is_written_anew_when_something_changes(old_fleet: Fleet) -> None:
    secret = old_fleet.credential("vm1").secret
    assert old_fleet.ensure(LARGER, "b1").plan.issued == ["vm2"]
    assert json.loads((old_fleet.state_dir / "ledger.json").read_text())["version"] == 2
    assert old_fleet.credential("vm1").secret == secret
    old_fleet.assert_sound()
    assert old_fleet.do("rotated", ids=["rng1"]).plan.rotated == ["rng1"]
    old_fleet.assert_sound()
