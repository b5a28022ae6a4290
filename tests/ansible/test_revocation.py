"""Revocation: at once, for good, and never of more than was meant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from entropy.errors import CredentialError
from module_utils.entropy_store import Vault
from tests.ansible.fleet import Fleet

ALL: dict[str, dict[str, Any]] = {
    "vm1": {},
    "vm2": {"tenant": "acme"},
    "vm3": {"tenant": "acme", "external": True},
    "rng1": {"permissions": ["feed"]},
}


@pytest.fixture
def fleet(tmp_path: Path, vault: Vault) -> Fleet:
    fleet = Fleet(tmp_path / "state", vault)
    fleet.ensure(ALL, "b1")
    return fleet


def ids(fleet: Fleet) -> set[str]:
    return {entry["id"] for entry in fleet.entries()}


def test_what_is_revoked_is_in_no_list_and_its_secret_is_gone(fleet: Fleet) -> None:
    outcome = fleet.do("revoked", ids=["vm1"], check=True)
    assert (outcome.changed, outcome.plan.revoked) == (True, ["vm1"])
    assert "vm1: [draw], revoked" in outcome.as_result()["diff"]["after"]
    assert ids(fleet) == set(ALL)
    assert fleet.do("revoked", ids=["vm1"]).plan.revoked == ["vm1"]
    assert ids(fleet) == {"vm2", "vm3", "rng1"}
    assert fleet.handed().revoked == ["vm1"]
    assert not (fleet.state_dir / "credentials/vm1.json").exists()
    assert fleet.ledger().generation == 2
    fleet.assert_sound()
    assert not fleet.do("revoked", ids=["vm1"]).changed


def test_a_tenant_goes_as_a_whole(fleet: Fleet) -> None:
    assert fleet.do("revoked", tenant="acme").plan.revoked == ["vm2", "vm3"]
    assert ids(fleet) == {"vm1", "rng1"}


def test_both_keys_of_a_rotation_go(fleet: Fleet) -> None:
    fleet.do("rotated", ids=["vm1"])
    fleet.do("revoked", ids=["vm1"])
    assert "vm1" not in ids(fleet)
    fleet.assert_sound()


def test_a_revoked_id_stays_revoked_until_it_is_admitted_again(fleet: Fleet) -> None:
    old = fleet.credential("vm1")
    fleet.do("revoked", ids=["vm1"])
    for arguments in ({}, {"rebuilt": ["vm1"]}):
        outcome = fleet.ensure(ALL, "b1", **arguments)
        assert (outcome.changed, outcome.plan.denied, outcome.plan.issued) == (False, ["vm1"], [])
    with pytest.raises(CredentialError, match=r"vm1 was revoked on 20.*name it in reissue"):
        fleet.text("vm1")
    with pytest.raises(CredentialError, match=r"ids: vm1 was revoked.* reissue admits it again"):
        fleet.do("rotated", ids=["vm1"])
    # Of a group of machines the others are rotated all the same.
    some = fleet.do("rotated", ids=["vm1", "rng1"], check=True).plan
    assert (some.rotated, some.denied) == (["rng1"], ["vm1"])
    assert not fleet.do("rotated", rotate_after="1d").changed
    outcome = fleet.ensure(ALL, "b1", reissue=["vm1"])
    assert (outcome.plan.issued, outcome.plan.denied) == (["vm1"], [])
    assert fleet.credential("vm1").secret != old.secret
    fleet.assert_sound()
    assert not fleet.ensure(ALL, "b1", reissue=["vm1"]).changed


def test_a_truncated_inventory_revokes_nobody(fleet: Fleet) -> None:
    outcome = fleet.ensure({}, bootstrap=False)
    assert (outcome.changed, outcome.plan.orphans) == (False, ["rng1", "vm1", "vm2"])
    assert ids(fleet) == set(ALL)


def test_an_external_client_is_nobodys_orphan(fleet: Fleet) -> None:
    plan = fleet.ensure({}, orphans="revoke").plan
    assert (plan.revoked, plan.orphans) == (["rng1", "vm1", "vm2"], [])
    assert plan.unlisted == ["vm3"]
    assert ids(fleet) == {"vm3"}


@pytest.mark.parametrize("check", [True, False])
def test_never_more_at_once_than_allowed(fleet: Fleet, check: bool) -> None:
    before = fleet.files()
    for revoke in (
        lambda: fleet.ensure({}, orphans="revoke", max_revoke=2, check=check),
        lambda: fleet.do("revoked", ids=["vm1", "vm2", "vm3"], max_revoke=2, check=check),
        lambda: fleet.do("revoked", tenant="acme", max_revoke=1, check=check),
    ):
        with pytest.raises(CredentialError, match=r"more than max_revoke allows .* Nothing was"):
            revoke()
    assert fleet.files() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "needs ids or tenant: it never means everybody"),
        ({"ids": ["vm1", "vm8", "vm9"]}, "ids: vm8, vm9 never had a credential here"),
        ({"tenant": "nobody"}, "no credential belongs to nobody"),
        ({"tenant": "A C M E"}, "'A C M E' is not a tenant"),
        ({"ids": ["vm1"], "reissue": ["vm1"]}, "reissue belongs to state=present"),
        ({"ids": ["vm1"], "orphans": "revoke"}, "orphans=revoke belongs to state=present"),
    ],
)
def test_what_cannot_be_revoked(fleet: Fleet, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(CredentialError, match=message):
        fleet.do("revoked", **arguments)
    assert ids(fleet) == set(ALL)


def test_terms_reach_the_brokers_and_the_tenant_does_not(fleet: Fleet) -> None:
    terms: dict[str, Any] = {
        "addresses": ["10.0.0.7", "10.1.0.0/16"],
        "not_after": "2030-01-31T11:00:00+01:00",
        "tenant": "acme",
    }
    assert fleet.ensure({**ALL, "vm1": terms}).plan.updated == ["vm1"]
    (entry,) = (entry for entry in fleet.entries() if entry["id"] == "vm1")
    assert entry["addresses"] == ["10.0.0.7/32", "10.1.0.0/16"]
    assert entry["not_after_unix"] == 1896084000
    assert "tenant" not in entry
    assert fleet.ledger().generation == 2
    # Whose it is concerns the controller alone.
    assert fleet.ensure({**ALL, "vm1": {**terms, "tenant": "other"}}).plan.updated == ["vm1"]
    assert fleet.ledger().generation == 2
