"""Rotations: two keys are valid, and the old one ends when the new one is in use, or in time."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest

from entropy.credentials import parse_acl
from entropy.errors import CredentialError
from module_utils.entropy_acl_document import document, dump
from module_utils.entropy_ledger import ACTIVE, PENDING, RETIRING, REVOKED
from module_utils.entropy_store import Vault
from tests.ansible.fleet import NOW, SMALL, Fleet, report

DAY = datetime.timedelta(days=1)
THREE: dict[str, dict[str, Any]] = {"vm1": {}, "vm2": {"tenant": "acme"}, "vm3": {}}


@pytest.fixture
def fleet(tmp_path: Path, vault: Vault) -> Fleet:
    """A fleet of THREE with one broker."""
    fleet = Fleet(tmp_path / "state", vault)
    fleet.ensure(THREE, "b1")
    return fleet


def listed(fleet: Fleet) -> set[tuple[str, str]]:
    """The ids and keys that the brokers are to know, as a broker reads them."""
    acl = parse_acl(dump(document("lab", fleet.ledger().generation, fleet.entries())), "acl.json")
    return {(name, key_id.hex()) for name, key_id in acl.entries}


def test_both_keys_are_valid_and_the_host_is_given_the_new_one(fleet: Fleet) -> None:
    old = fleet.credential("vm1")
    plan = fleet.do("rotated", ids=["vm1"]).plan
    assert (plan.rotated, plan.issued, plan.retired) == (["vm1"], [], [])
    new = fleet.credential("vm1")
    assert new.secret != old.secret
    assert listed(fleet) >= {("vm1", old.key_id.hex()), ("vm1", new.key_id.hex())}
    assert fleet.key_ids("vm1", RETIRING) == [old.key_id.hex()]
    assert fleet.key_ids("vm1", PENDING) == [new.key_id.hex()]
    assert fleet.ledger().generation == 2
    assert fleet.text(f"key:{old.key_id.hex()}:vm1")
    fleet.assert_sound()


def test_the_old_key_has_an_end_that_the_brokers_know(fleet: Fleet) -> None:
    fleet.do("rotated", ids=["vm1"], overlap="2d")
    ends = {e["key_id"]: e.get("not_after_unix") for e in fleet.entries() if e["id"] == "vm1"}
    (old,), (new,) = fleet.key_ids("vm1", RETIRING), fleet.key_ids("vm1", PENDING)
    assert ends == {old: int((NOW + 2 * DAY).timestamp()), new: None}


def test_the_old_key_ends_when_the_new_one_was_seen(fleet: Fleet) -> None:
    fleet.do("rotated", ids=["vm1"])
    (old,), (new,) = fleet.key_ids("vm1", RETIRING), fleet.key_ids("vm1", PENDING)
    outcome = fleet.ensure(THREE, "b1")
    assert not outcome.changed
    assert [(w["id"], w["seen"]) for w in outcome.as_result()["waiting"]] == [("vm1", False)]
    outcome = fleet.ensure(THREE, "b1", reports=[fleet.used("vm1", new)])
    assert (outcome.plan.retired, outcome.plan.stragglers) == (["vm1"], [])
    assert (fleet.key_ids("vm1", ACTIVE), fleet.key_ids("vm1", REVOKED)) == ([new], [old])
    assert ("vm1", old) not in listed(fleet)
    assert fleet.ledger().generation == 3
    fleet.assert_sound()
    assert not fleet.ensure(THREE, "b1", reports=[fleet.used("vm1", new)]).changed


def test_a_session_with_the_old_key_keeps_it_alive(fleet: Fleet) -> None:
    fleet.do("rotated", ids=["vm1"])
    (old,), (new,) = fleet.key_ids("vm1", RETIRING), fleet.key_ids("vm1", PENDING)
    reports = [
        report(2, {"vm1": {new: (1, 1), old: (1, 0)}}),
        report(2, {"vm1": {new: (None, 0), old: (1, 1)}}, broker_id="b2"),
    ]
    outcome = fleet.ensure(THREE, "b1", reports=reports)
    assert not outcome.changed
    assert outcome.as_result()["waiting"][0]["seen"]
    # But not for ever.
    outcome = fleet.ensure(THREE, "b1", reports=reports, now=NOW + 7 * DAY)
    assert (outcome.plan.retired, outcome.plan.stragglers) == (["vm1"], [])


def test_whoever_was_away_keeps_the_old_key_until_the_overlap_ends(fleet: Fleet) -> None:
    fleet.do("rotated", overlap="7d")
    seen = {name: fleet.key_ids(name, PENDING)[0] for name in ("vm1", "vm3")}
    used = report(2, {name: {key_id: (1, 0)} for name, key_id in seen.items()})
    plan = fleet.ensure(THREE, "b1", reports=[used]).plan
    assert (plan.retired, plan.stragglers) == (["vm1", "vm3"], [])
    (old,) = fleet.key_ids("vm2", RETIRING)
    assert ("vm2", old) in listed(fleet)
    assert not fleet.ensure(THREE, "b1", now=NOW + 6 * DAY).changed
    plan = fleet.ensure(THREE, "b1", now=NOW + 7 * DAY).plan
    assert (plan.retired, plan.stragglers) == ([], ["vm2"])
    assert ("vm2", old) not in listed(fleet)
    # It is given the new one whenever it comes back.
    assert fleet.credential("vm2").key_id.hex() == fleet.key_ids("vm2", ACTIVE)[0]
    fleet.assert_sound()


def test_an_interrupted_rotation_is_gone_on_with(fleet: Fleet) -> None:
    """As after a kill between publishing and installing: no third key, the same new one."""
    fleet.do("rotated", ids=["vm1"])
    new = fleet.text("vm1")
    for again in (
        lambda: fleet.do("rotated", ids=["vm1"]),
        lambda: fleet.do("rotated", ids=["vm1"], check=True),
        lambda: fleet.ensure(THREE, "b1"),
    ):
        assert not again().changed
        assert fleet.text("vm1") == new


@pytest.mark.parametrize(
    ("arguments", "rotated"),
    [
        ({}, ["vm1", "vm2", "vm3"]),
        ({"ids": ["vm3", "vm1"]}, ["vm1", "vm3"]),
        ({"tenant": "acme"}, ["vm2"]),
        ({"ids": ["vm1"], "tenant": "acme"}, ["vm1", "vm2"]),
        ({"rotate_after": "1d"}, []),
    ],
)
def test_who_is_rotated(fleet: Fleet, arguments: dict[str, Any], rotated: list[str]) -> None:
    assert fleet.do("rotated", check=True, **arguments).plan.rotated == rotated
    assert fleet.do("rotated", **arguments).plan.rotated == rotated
    fleet.assert_sound()


def test_only_old_keys_are_rotated(fleet: Fleet) -> None:
    fleet.ensure({**THREE, "vm4": {}}, "b1", now=NOW + 50 * DAY)
    later = NOW + 91 * DAY
    assert fleet.do("rotated", rotate_after="90d", now=later, check=True).plan.rotated == [*THREE]
    # A run of the whole fleet may do it by itself.
    outcome = fleet.ensure({**THREE, "vm4": {}}, "b1", rotate_after="90d", now=later)
    assert outcome.plan.rotated == [*THREE]
    assert not fleet.ensure({**THREE, "vm4": {}}, "b1", rotate_after="90d", now=later).changed


def test_a_second_rotation_follows_the_first(fleet: Fleet) -> None:
    for _ in range(6):
        fleet.do("rotated", ids=["vm1"])
        (new,) = fleet.key_ids("vm1", PENDING)
        fleet.ensure(THREE, "b1", reports=[fleet.used("vm1", new)])
    assert fleet.key_ids("vm1", ACTIVE) == [new]
    assert len(fleet.key_ids("vm1", REVOKED)) == 3  # no more is remembered
    fleet.assert_sound()


def test_a_change_of_terms_in_a_rotation_is_of_both_keys(fleet: Fleet) -> None:
    fleet.do("rotated", ids=["vm1"])
    wanted = {**THREE, "vm1": {"permissions": ["draw", "peer"], "burst_bytes": 99}}
    assert fleet.ensure(wanted, "b1").plan.updated == ["vm1"]
    terms = [(e["permissions"], e["burst_bytes"]) for e in fleet.entries() if e["id"] == "vm1"]
    assert terms == [(["draw", "peer"], 99)] * 2
    fleet.assert_sound()


def test_the_brokers_list_can_be_made_again_in_a_rotation(fleet: Fleet) -> None:
    fleet.do("rotated")
    entries = fleet.entries()
    (fleet.state_dir / "acl.json").unlink()
    assert fleet.entries() == entries
    assert fleet.ensure(THREE, "b1").changed
    assert fleet.entries() == entries


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ids": ["vm9"]}, "ids: vm9 never had a credential here"),
        ({"tenant": "nobody"}, "tenant: no credential belongs to nobody"),
        ({"overlap": "7"}, "overlap: '7' is not a duration"),
        ({"rotate_after": "a week"}, "rotate_after: 'a week' is not a duration"),
        ({"rebuilt": ["vm1"]}, "rebuilt belongs to state=present"),
    ],
)
def test_what_cannot_be_rotated(fleet: Fleet, arguments: dict[str, Any], message: str) -> None:
    before = fleet.files()
    with pytest.raises(CredentialError, match=message):
        fleet.do("rotated", **arguments)
    assert fleet.files() == before


# Machines that are built anew


def test_a_rebuilt_machine_keeps_its_id_and_gets_a_new_key(fleet: Fleet) -> None:
    old = fleet.credential("vm1")
    plan = fleet.ensure({**THREE, "vm4": {}}, "b1", rebuilt=["vm1", "vm4"]).plan
    assert plan.issued == ["vm1", "vm4"]
    assert ("vm1", old.key_id.hex()) not in listed(fleet)  # what the old disk holds is of no use
    assert fleet.credential("vm1").secret != old.secret
    assert fleet.ledger().generation == 2
    fleet.assert_sound()


def test_a_machine_that_is_rebuilt_in_a_rotation(fleet: Fleet) -> None:
    fleet.do("rotated", ids=["vm1"])
    fleet.ensure(THREE, "b1", rebuilt=["vm1"])
    assert [name for name, _ in sorted(listed(fleet))] == ["vm1", "vm2", "vm3"]
    fleet.assert_sound()


# Bootstrap keys


def test_a_bootstrap_key_ends_after_its_first_use_unless_it_is_replaced(fleet: Fleet) -> None:
    asked = {**THREE, "vm9": {"bootstrap": True}}
    fleet.ensure(asked, "b1")
    handed_out = fleet.credential("vm9").key_id.hex()
    (entry,) = (e for e in fleet.entries() if e["id"] == "vm9")
    assert (entry["expires_after_use_seconds"], entry.get("not_after_unix")) == (86400, None)
    outcome = fleet.ensure(asked, "b1")
    assert not outcome.changed
    assert outcome.as_result()["bootstraps"] == [{"id": "vm9", "expires": None}]
    # Two brokers saw it; the earlier counts, for both.
    first = int(NOW.timestamp())
    reports = [
        report(2, {"vm9": {handed_out: (first + 500, 0)}}),
        report(2, {"vm9": {handed_out: (first, 0)}}, broker_id="b2"),
    ]
    assert fleet.ensure(asked, "b1", reports=reports).plan.rotated == ["vm9"]
    ends = {e["key_id"]: e for e in fleet.entries() if e["id"] == "vm9"}
    lasting = fleet.credential("vm9").key_id.hex()
    assert ends[handed_out]["not_after_unix"] == first + 86400
    assert "expires_after_use_seconds" not in ends[lasting]
    assert not fleet.ensure(asked, "b1", reports=reports).changed
    # Whoever hands nothing out after it is cut off then, and named.
    plan = fleet.ensure(asked, "b1", reports=reports, now=NOW + DAY).plan
    assert plan.stragglers == ["vm9"]
    fleet.assert_sound()


def test_a_bootstrap_key_is_replaced_once_its_machine_can_be_reached(fleet: Fleet) -> None:
    fleet.ensure({**THREE, "vm9": {"bootstrap": True}}, "b1")
    asked = {**THREE, "vm9": {}}
    assert fleet.ensure(asked, "b1").plan.rotated == ["vm9"]
    (lasting,) = fleet.key_ids("vm9", PENDING)
    assert fleet.ensure(asked, "b1", reports=[fleet.used("vm9", lasting)]).plan.retired == ["vm9"]
    # A lasting key stays, whatever is asked.
    assert not fleet.ensure({**THREE, "vm9": {"bootstrap": True}}, "b1").changed


def test_external_clients_are_rotated_by_name_only(tmp_path: Path, vault: Vault) -> None:
    fleet = Fleet(tmp_path / "state", vault)
    asked = {**SMALL, "customer": {"external": True, "tenant": "acme"}}
    fleet.ensure(asked)
    assert fleet.do("rotated", check=True).plan.rotated == ["rng1", "vm1"]
    later = NOW + 90 * DAY
    assert fleet.ensure(asked, rotate_after="1d", now=later, check=True).plan.rotated == [
        "rng1",
        "vm1",
    ]
    assert fleet.do("rotated", tenant="acme").plan.rotated == ["customer"]
