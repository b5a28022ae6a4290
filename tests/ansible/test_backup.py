"""One file with all of it: saved once, restored whole, and never backwards by accident."""

from __future__ import annotations

import io
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest

from entropy.errors import CredentialError
from module_utils.entropy_backup_file import Moved, restore, save
from module_utils.entropy_reports import parse_reports
from module_utils.entropy_store import Vault
from tests.ansible.fleet import LARGER, SMALL, Fleet, report


class Kept(Fleet):
    """A fleet and its backup."""

    def save(self, *, check: bool = False, site_id: str = "lab") -> Moved:
        return save(self.store, self.backup, site_id, check=check)

    def restore(self, *reports: dict[str, Any], site_id: str = "lab", **options: bool) -> Moved:
        options = {"supersede": False, "check": False, **options}
        return restore(self.store, self.backup, site_id, parse_reports(reports), **options)

    @property
    def backup(self) -> str:
        return f"{self.state_dir}.backup"


@pytest.fixture
def fleet(tmp_path: Path, vault: Vault) -> Kept:
    """A fleet in which something of everything has happened."""
    fleet = Kept(tmp_path / "state", vault)
    fleet.ensure({**SMALL, "gone": {}}, "b1")
    fleet.do("revoked", ids=["gone"])
    fleet.do("rotated", ids=["vm1"])
    fleet.do("authority_rolled", "b1", overlap="0s")
    fleet.do("authority_rolled", "b1", overlap="0s")
    return fleet


def test_what_was_lost_comes_back_to_the_byte(fleet: Kept) -> None:
    assert fleet.save().changed
    before = fleet.files()
    shutil.rmtree(fleet.state_dir)
    assert fleet.restore(check=True).changed
    assert not fleet.state_dir.exists()
    assert fleet.restore(report(3)).changed
    assert fleet.files() == before
    assert all(p.stat().st_mode & 0o077 == 0 for p in fleet.state_dir.rglob("*"))
    assert not fleet.restore().changed
    assert not fleet.ensure(SMALL, "b1", reports=[report(3)]).changed
    fleet.assert_sound()


def test_the_same_state_is_saved_once(fleet: Kept) -> None:
    assert fleet.save(check=True).changed
    assert not Path(fleet.backup).exists()
    assert fleet.save().as_result() == {
        "changed": True,
        "path": fleet.backup,
        "site_id": "lab",
        "generation": 3,
        "n_ids": 3,
    }
    assert Path(fleet.backup).stat().st_mode & 0o777 == 0o600
    assert not fleet.save().changed
    fleet.ensure(LARGER, "b1")
    assert fleet.save().changed


def test_no_secret_of_it_can_be_read(fleet: Kept) -> None:
    fleet.save()
    assert Path(fleet.backup).read_bytes().startswith(b"cheap")


def test_what_does_not_agree_with_itself_is_not_saved(fleet: Kept) -> None:
    for name in ("credentials/vm1.json", "ca/ca-2.key", "tls/b1.key", "acl.json"):
        path = fleet.state_dir / name
        kept = path.read_bytes()
        path.write_bytes(kept + b" ")
        with pytest.raises(CredentialError, match="is not what the ledger says"):
            fleet.save()
        path.write_bytes(kept)
    (fleet.state_dir / "tls/b1.pem").unlink()
    with pytest.raises(CredentialError, match="is not what the ledger says"):
        fleet.save()


def test_a_newer_backup_is_not_overwritten(fleet: Kept, tmp_path: Path) -> None:
    shutil.copytree(fleet.state_dir, tmp_path / "old")
    fleet.ensure(LARGER, "b1")
    fleet.save()
    shutil.rmtree(fleet.state_dir)
    shutil.copytree(tmp_path / "old", fleet.state_dir)
    with pytest.raises(CredentialError, match="the state directory is an old copy"):
        fleet.save()


def test_never_backwards_by_accident(fleet: Kept) -> None:
    fleet.save()
    fleet.ensure(LARGER, "b1")
    newer = fleet.files()
    with pytest.raises(CredentialError, match=r"is at generation 4 and .* at 3"):
        fleet.restore()
    assert fleet.files() == newer
    shutil.rmtree(fleet.state_dir)
    with pytest.raises(CredentialError, match="is at generation 3, and b1 holds generation 4"):
        fleet.restore(report(4))
    assert fleet.restore(report(4), supersede=True).changed
    assert fleet.ledger().generation == 3


def test_another_fleets_is_refused(fleet: Kept) -> None:
    fleet.save()
    for use in (fleet.save, fleet.restore):
        with pytest.raises(CredentialError, match="belongs to the site lab and berlin was asked"):
            use(site_id="berlin")


def test_what_is_no_backup(fleet: Kept, tmp_path: Path) -> None:
    vault, path = fleet.store.vault, Path(fleet.backup)
    with pytest.raises(CredentialError, match="does not exist: name the backup"):
        fleet.restore()
    path.write_bytes(b"cheap and broken")
    with pytest.raises(CredentialError, match="cannot be decrypted"):
        fleet.restore()
    path.write_bytes(vault.encrypt(b"no tar"))
    with pytest.raises(CredentialError, match="is not a backup"):
        fleet.restore()
    for name in ("../ledger.json", "/etc/passwd", "credentials/../../x", "ca/.hidden"):
        path.write_bytes(vault.encrypt(tar_with(name)))
        with pytest.raises(CredentialError, match="which is no part of it"):
            fleet.restore()


def tar_with(name: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        tar.addfile(tarfile.TarInfo(name))
    return out.getvalue()
