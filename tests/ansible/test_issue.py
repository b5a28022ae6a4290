"""Issuing: what is made, what stays, what is refused."""

from __future__ import annotations

import datetime
import fcntl
import json
import os
import shutil
from pathlib import Path

import pytest

from entropy.authority import certificate_names, remaining_fraction
from entropy.errors import CredentialError
from module_utils import entropy_store
from module_utils.entropy_store import Store, Vault
from tests.ansible.fleet import LARGER, NOW, SMALL, Fleet


@pytest.fixture
def fleet(tmp_path: Path, vault: Vault) -> Fleet:
    """A fleet that was issued SMALL with one broker."""
    fleet = Fleet(tmp_path / "state", vault)
    fleet.ensure(SMALL, "b1")
    return fleet


def test_a_fleet_begins(tmp_path: Path, vault: Vault) -> None:
    fleet = Fleet(tmp_path / "deep" / "state", vault)
    outcome = fleet.ensure(SMALL, "b1")
    assert outcome.changed
    assert (outcome.plan.issued, outcome.plan.updated, outcome.plan.orphans) == (
        ["rng1", "vm1"],
        [],
        [],
    )
    assert fleet.ledger().generation == 1
    fleet.assert_sound()
    assert fleet.credential("rng1").permissions == {"feed"}
    assert certificate_names(outcome.certificate_pems["b1"]) == ["b1.lab.entropy.internal"]


def test_only_its_owner_can_read_any_of_it(fleet: Fleet) -> None:
    for path in [fleet.state_dir, *fleet.state_dir.rglob("*")]:
        assert path.stat().st_mode & 0o077 == 0, path


def test_what_is_secret_is_encrypted(fleet: Fleet) -> None:
    readable = {name for name, data in fleet.files().items() if not data.startswith(b"cheap")}
    assert readable == {".lock", "ledger.json", "ca/ca.pem", "tls/b1.pem"}
    secret = json.loads(fleet.text("vm1"))["secret"]
    assert not any(secret.encode() in data for data in fleet.files().values())


def test_a_second_run_changes_nothing(fleet: Fleet) -> None:
    before = fleet.files()
    for check in (True, False):
        outcome = fleet.ensure(SMALL, "b1", check=check, bootstrap=False)
        assert not outcome.changed
        assert outcome.plan.issued == []
        assert outcome.ca_pem == before["ca/ca.pem"]
    assert fleet.files() == before


def test_no_secret_is_decrypted_when_nothing_changes(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> bytes:
        raise AssertionError("a secret was decrypted")

    monkeypatch.setattr(fleet.store.vault, "decrypt", never)
    assert not fleet.ensure(SMALL, "b1").changed


def test_more_is_issued_and_keys_stay(fleet: Fleet) -> None:
    before = {name: fleet.credential(name) for name in SMALL}
    outcome = fleet.ensure(LARGER, "b1", "b2", bootstrap=False)
    assert (outcome.plan.issued, outcome.plan.updated) == (["vm2"], ["rng1", "vm1"])
    assert outcome.after.generation == 2
    fleet.assert_sound()
    for name, credential in before.items():
        assert fleet.credential(name).secret == credential.secret
    assert fleet.credential("vm1").permissions == {"draw", "peer"}
    entries = {entry["id"]: entry for entry in fleet.entries()}
    assert entries["rng1"]["credit_bits_per_second"] == 1000


def test_one_change_is_one_generation(fleet: Fleet) -> None:
    assert fleet.ensure({**SMALL, "vm2": {}, "vm3": {}}, "b1").after.generation == 2
    assert fleet.ensure({**SMALL, "vm2": {}, "vm3": {}}, "b1", "b2").after.generation == 2
    limited = {**SMALL, "vm2": {"burst_bytes": 1}, "vm3": {}}
    assert fleet.ensure(limited, "b1", "b2").after.generation == 3
    assert fleet.ensure({**SMALL, "vm2": {}, "vm3": {}}, "b1", "b2").after.generation == 4


def test_whoever_leaves_is_reported_and_keeps_working(fleet: Fleet) -> None:
    outcome = fleet.ensure({"vm1": {}}, bootstrap=False)
    assert outcome.plan.orphans == ["rng1"]
    assert not outcome.changed
    assert {entry["id"] for entry in fleet.entries()} == {"rng1", "vm1"}


def test_check_mode_writes_nothing_and_says_all(fleet: Fleet, tmp_path: Path) -> None:
    before = fleet.files()
    outcome = fleet.ensure(LARGER, "b1", "b2", check=True)
    assert (outcome.changed, outcome.plan.issued, outcome.plan.updated) == (
        True,
        ["vm2"],
        ["rng1", "vm1"],
    )
    result = outcome.as_result()
    assert result["generation"] == 2
    assert result["certificates"]["b2"]["certificate_pem"] == ""
    assert "vm2: [draw], a new key" in result["diff"]["after"]
    assert fleet.files() == before


def test_check_mode_before_there_is_anything(tmp_path: Path, vault: Vault) -> None:
    fleet = Fleet(tmp_path / "state", vault)
    outcome = fleet.ensure(SMALL, "b1", check=True)
    assert outcome.changed
    result = outcome.as_result()
    assert (result["generation"], result["ca_pem"], result["issued"]) == (1, "", ["rng1", "vm1"])
    assert not fleet.state_dir.exists()
    assert fleet.entries(check=True) == []
    assert fleet.text("vm1", check=True) == ""
    assert fleet.text("tls:b1", check=True) == ""


def test_the_diff_shows_what_changed_and_no_secret(fleet: Fleet) -> None:
    diff = fleet.ensure(LARGER, "b1", "b2").as_result()["diff"]
    before, after = diff["before"].splitlines(), diff["after"].splitlines()
    key = fleet.ledger().credentials["vm1"].keys[0].fingerprint
    assert f"vm1: [draw], {key}" in before
    assert f"vm1: [draw, peer], {key}" in after
    assert any(line.startswith("certificate of b2: ") for line in after)
    assert not any(line.startswith("certificate of b1: ") for line in before + after)


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("left", ["nothing", "all but the ledger"])
def test_a_lost_ledger_never_starts_a_second_fleet(fleet: Fleet, check: bool, left: str) -> None:
    if left == "nothing":
        shutil.rmtree(fleet.state_dir)
    else:
        (fleet.state_dir / "ledger.json").unlink()
    with pytest.raises(CredentialError, match=r"newest backup .* entropy_bootstrap=true"):
        fleet.ensure(SMALL, "b1", bootstrap=False, check=check)
    assert fleet.state_dir.exists() == (left != "nothing")


def test_another_site_is_refused(fleet: Fleet) -> None:
    with pytest.raises(CredentialError, match="belongs to the site lab and berlin was asked for"):
        fleet.ensure(SMALL, site_id="berlin")


def test_a_relative_directory_is_refused(vault: Vault) -> None:
    with pytest.raises(CredentialError, match="state_dir: state must be an absolute path"):
        Store("state", vault)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"version": 1}', '{"version": 1, "x": 1}'])
def test_a_damaged_ledger_is_refused(fleet: Fleet, text: str) -> None:
    (fleet.state_dir / "ledger.json").write_text(text)
    with pytest.raises(CredentialError, match=r"ledger\.json is damaged: restore"):
        fleet.ensure(SMALL)


def test_a_ledger_of_a_later_release_is_refused(fleet: Fleet) -> None:
    path = fleet.state_dir / "ledger.json"
    path.write_text(path.read_text().replace('"version": 2', '"version": 3'))
    with pytest.raises(CredentialError, match="version 3 was written by another release"):
        fleet.ensure(SMALL)


def test_a_missing_secret_is_refused(fleet: Fleet) -> None:
    (fleet.state_dir / "credentials/vm1.json").unlink()
    with pytest.raises(CredentialError, match=r"vm1\.json is missing: restore it"):
        fleet.ensure(SMALL)


def test_a_secret_of_another_id_is_refused(fleet: Fleet) -> None:
    shutil.copy(fleet.state_dir / "credentials/rng1.json", fleet.state_dir / "credentials/vm1.json")
    with pytest.raises(CredentialError, match="is the credential of rng1 of the site lab, not of"):
        fleet.ensure(SMALL)


def test_a_secret_that_the_ledger_does_not_name_is_refused(fleet: Fleet, tmp_path: Path) -> None:
    other = Fleet(tmp_path / "other", fleet.store.vault)
    other.ensure(SMALL)
    shutil.copy(other.state_dir / "credentials/vm1.json", fleet.state_dir / "credentials/vm1.json")
    for use in (lambda: fleet.ensure(SMALL), lambda: fleet.text("vm1")):
        with pytest.raises(CredentialError, match=r"holds the key SHA256:.* and the ledger names"):
            use()


def test_a_secret_that_cannot_be_decrypted_is_refused(fleet: Fleet) -> None:
    (fleet.state_dir / "credentials/vm1.json").write_bytes(b"cheap and broken")
    with pytest.raises(CredentialError, match="cannot be decrypted"):
        fleet.ensure(SMALL)


@pytest.mark.parametrize("name", ["ca/ca.pem", "ca/ca.key"])
def test_a_lost_authority_is_refused(fleet: Fleet, name: str) -> None:
    (fleet.state_dir / name).unlink()
    with pytest.raises(CredentialError, match="does not hold the authority of this fleet"):
        fleet.ensure(SMALL)


def test_another_authority_is_refused(fleet: Fleet, tmp_path: Path) -> None:
    other = Fleet(tmp_path / "other", fleet.store.vault)
    other.ensure({})
    shutil.copy(other.state_dir / "ca/ca.key", fleet.state_dir / "ca/ca.key")
    with pytest.raises(CredentialError, match="is not the key of"):
        fleet.ensure(SMALL)
    shutil.copy(other.state_dir / "ca/ca.pem", fleet.state_dir / "ca/ca.pem")
    with pytest.raises(CredentialError, match="does not hold the authority of this fleet"):
        fleet.ensure(SMALL)


def test_files_that_were_encrypted_anew_are_recognised(fleet: Fleet) -> None:
    vault = fleet.store.vault
    for name in ("credentials/vm1.json", "credentials/rng1.json", "ca/ca.key", "tls/b1.key"):
        path = fleet.state_dir / name
        path.write_bytes(vault.encrypt(vault.decrypt(path.read_bytes(), name)))
    before = fleet.files()
    assert fleet.ensure(SMALL, "b1", check=True).changed
    outcome = fleet.ensure(SMALL, "b1")
    assert (outcome.plan.issued, outcome.after.generation) == ([], 1)
    changed = {name for name, data in fleet.files().items() if data != before[name]}
    assert changed == {"ledger.json"}
    assert not fleet.ensure(SMALL, "b1").changed


def test_the_brokers_list_is_made_again_when_it_is_lost(fleet: Fleet) -> None:
    entries = fleet.entries()
    (fleet.state_dir / "acl.json").unlink()
    assert fleet.entries() == entries
    assert fleet.ensure(SMALL, "b1").changed
    assert fleet.entries() == entries
    assert not fleet.ensure(SMALL, "b1").changed


def test_a_brokers_list_of_another_fleet_is_not_believed(fleet: Fleet, tmp_path: Path) -> None:
    entries = fleet.entries()
    other = Fleet(tmp_path / "other", fleet.store.vault)
    other.ensure(SMALL)
    shutil.copy(other.state_dir / "acl.json", fleet.state_dir / "acl.json")
    assert fleet.entries() == entries


@pytest.mark.parametrize("name", ["tls/b1.pem", "tls/b1.key"])
def test_a_lost_certificate_is_made_again(fleet: Fleet, name: str) -> None:
    old = fleet.ledger().certificates["b1"]
    (fleet.state_dir / name).unlink()
    assert (
        fleet.ensure(SMALL, "b1", check=True)
        .as_result()["diff"]["after"]
        .endswith("certificate of b1: to be made\n")
    )
    outcome = fleet.ensure(SMALL, "b1")
    assert outcome.after.generation == 1
    assert outcome.after.certificates["b1"] != old
    fleet.assert_sound()


def test_a_certificate_with_the_key_of_another_is_made_again(fleet: Fleet) -> None:
    fleet.ensure(SMALL, "b1", "b2")
    old = fleet.ledger().certificates
    shutil.copy(fleet.state_dir / "tls/b2.key", fleet.state_dir / "tls/b1.key")
    with pytest.raises(CredentialError, match="are not the key and the certificate"):
        fleet.text("tls:b1")
    new = fleet.ensure(SMALL, "b1", "b2").after.certificates
    assert (new["b1"] == old["b1"], new["b2"] == old["b2"]) == (False, True)
    fleet.assert_sound()


def test_an_old_certificate_is_renewed_and_a_young_one_is_not(fleet: Fleet) -> None:
    old = (fleet.state_dir / "tls/b1.pem").read_bytes()
    later = NOW + datetime.timedelta(days=450)
    assert not fleet.ensure(SMALL, "b1", now=later).changed
    later = NOW + datetime.timedelta(days=500)
    outcome = fleet.ensure(SMALL, "b1", now=later)
    assert outcome.changed
    assert outcome.certificate_pems["b1"] != old
    assert remaining_fraction(outcome.certificate_pems["b1"], NOW) > 0.9
    fleet.assert_sound()


def test_a_term_that_was_never_issued(fleet: Fleet) -> None:
    assert fleet.text("vm9", check=True) == ""
    for term, what in (("vm9", "credential for vm9"), ("tls:b9", "certificate for b9")):
        with pytest.raises(CredentialError, match=f"has no {what}: run playbooks/credentials.yml"):
            fleet.text(term)


def test_two_runs_do_not_write_at_once(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entropy_store, "LOCK_WAIT_SECONDS", 0.0)
    lock = os.open(fleet.state_dir / ".lock", os.O_RDWR)
    try:
        fcntl.flock(lock, fcntl.LOCK_SH)
        assert not fleet.ensure(SMALL, "b1", check=True).changed
        with pytest.raises(CredentialError, match="another run has held"):
            fleet.ensure(SMALL, "b1")
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(CredentialError, match="another run has held"):
            fleet.ensure(SMALL, "b1", check=True)
    finally:
        os.close(lock)
    assert not fleet.ensure(SMALL, "b1").changed
