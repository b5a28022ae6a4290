"""What brokers report gives away a ledger that is lost, old, or another fleet's."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from entropy.errors import CredentialError
from module_utils.entropy_store import Vault
from tests.ansible.fleet import LARGER, SMALL, Fleet, report


@pytest.fixture
def fleet(tmp_path: Path, vault: Vault) -> Fleet:
    """A fleet at generation 2, and a copy of its state directory from before."""
    fleet = Fleet(tmp_path / "state", vault)
    fleet.ensure(SMALL, "b1")
    shutil.copytree(fleet.state_dir, tmp_path / "old")
    fleet.ensure(LARGER, "b1")
    return fleet


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("bootstrap", [True, False])
def test_a_lost_state_directory_starts_no_second_fleet(
    fleet: Fleet, check: bool, bootstrap: bool
) -> None:
    shutil.rmtree(fleet.state_dir)
    with pytest.raises(CredentialError, match=r"b1 holds generation 2.*Restore the newest backup"):
        fleet.ensure(LARGER, "b1", reports=[report(2)], bootstrap=bootstrap, check=check)
    assert not fleet.state_dir.exists()


def test_a_fleet_begins_where_no_broker_holds_a_list(tmp_path: Path, vault: Vault) -> None:
    fleet = Fleet(tmp_path / "state", vault)
    assert fleet.ensure(SMALL, "b1", reports=[{}, report(0)]).changed
    assert not fleet.ensure(SMALL, "b1", reports=[{}, report(1), report(0)]).changed


@pytest.mark.parametrize("state", ["present", "rotated", "revoked", "authority_rolled"])
def test_an_old_copy_is_refused(fleet: Fleet, tmp_path: Path, state: str) -> None:
    old = Fleet(tmp_path / "old", fleet.store.vault)
    before = old.files()
    with pytest.raises(CredentialError, match=r"is at generation 1, and b1 holds generation 2"):
        old.ensure(
            SMALL,
            reports=[report(1, broker_id="b2"), report(2)],
            state=state,
            ids=["vm1"] if state in ("rotated", "revoked") else (),
        )
    assert old.files() == before


def test_where_there_is_no_newer_backup_the_old_one_goes_on(fleet: Fleet, tmp_path: Path) -> None:
    old = Fleet(tmp_path / "old", fleet.store.vault)
    outcome = old.ensure(SMALL, "b1", reports=[report(9)], supersede=True)
    assert outcome.after.generation == 10
    old.assert_sound()
    assert not old.ensure(SMALL, "b1", reports=[report(10)]).changed


def test_another_sites_broker_is_refused(fleet: Fleet) -> None:
    with pytest.raises(CredentialError, match="the broker b1 holds a list of the site berlin"):
        fleet.ensure(LARGER, reports=[report(1, site_id="berlin")])


@pytest.mark.parametrize(
    "wrong", [{"generation": 1}, {"keys": 3}, {**report(1), "keys": {"vm1": {"00": {}}}}]
)
def test_what_is_no_report(fleet: Fleet, wrong: dict[str, object]) -> None:
    with pytest.raises(CredentialError, match="reports: give what entropy_broker_info returns"):
        fleet.ensure(LARGER, reports=[wrong])
