"""Handing a credential to a provisioning system: out of a real state directory, by the command."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path

import pytest
import yaml
from ansible.parsing.vault import VaultLib, VaultSecret

from entropy import cli, seed_issue
from entropy.ansible_vault import decrypt
from entropy.credentials import load_credential, parse_credential
from entropy.errors import CredentialError
from module_utils.entropy_vault import AnsibleVault
from tests.ansible.fleet import NOW, Fleet, report

PASSWORD = "correct horse"


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    """A fleet in which a customer's machine has a bootstrap key, and vm1 is being rotated."""
    folder = tmp_path_factory.mktemp("export")
    fleet = Fleet(folder / "state", AnsibleVault([("default", VaultSecret(PASSWORD.encode()))]))
    customer = {"external": True, "tenant": "acme", "bootstrap": True}
    fleet.ensure({"vm1": {}, "gone": {}, "customer": customer}, "b1")
    fleet.do("rotated", ids=["vm1"])
    fleet.do("revoked", ids=["gone"])
    fleet.do("authority_rolled", "b1")
    (folder / "password").write_text(f"{PASSWORD}\n")
    (folder / "password").chmod(0o600)
    return fleet


def export(fleet: Fleet, *arguments: str, password_file: str = "password") -> int:
    password = str(fleet.state_dir.parent / password_file)
    given = ["--state-dir", str(fleet.state_dir), "--vault-password-file", password]
    return cli.main(["credential", "export", *given, *arguments])


def test_as_the_client_reads_it(fleet: Fleet, capsys: pytest.CaptureFixture[str]) -> None:
    before = fleet.files()
    assert export(fleet, "--id", "customer", "--json") == 0
    shown = capsys.readouterr()
    assert parse_credential(shown.out, "stdout") == fleet.credential("customer")
    assert "ends 86400 s after its first use unless it is replaced" in shown.err
    assert "from generation 3 on" in shown.err
    assert fleet.credential("customer").secret.hex() not in shown.err
    assert fleet.files() == before


def test_in_a_rotation_it_is_the_new_key(fleet: Fleet, capsys: pytest.CaptureFixture[str]) -> None:
    assert export(fleet, "--id", "vm1", "--json") == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["key_id"] == fleet.key_ids("vm1", "pending")[0]
    assert "is a lasting one" in shown.err


def test_for_cloud_init(fleet: Fleet, capsys: pytest.CaptureFixture[str]) -> None:
    assert export(fleet, "--id", "customer", "--cloud-init") == 0
    text = capsys.readouterr().out
    assert text.startswith("#cloud-config\n")
    config = yaml.safe_load(text)
    authority, credential = (
        (f["path"], f["owner"], f["permissions"], base64.b64decode(f["content"]))
        for f in config["write_files"]
    )
    assert authority[:3] == ("/etc/entropy/ca.pem", "root:root", "0644")
    assert authority[3] == fleet.ensure(None, state="rotated", ids=["vm1"]).ca_pem
    assert authority[3].count(b"BEGIN CERTIFICATE") == 2
    assert credential[:3] == ("/etc/entropy/credential.json", "root:entropy-client", "0640")
    assert parse_credential(credential[3].decode(), "x") == fleet.credential("customer")


def test_a_seed_is_issued_on_behalf_of_what_is_exported(fleet: Fleet) -> None:
    password = str(fleet.state_dir.parent / "password")
    holder = seed_issue.by_store("customer", str(fleet.state_dir), password)
    assert holder.credential == fleet.credential("customer")
    assert holder.ca_pem.count(b"BEGIN CERTIFICATE") == 2
    with pytest.raises(CredentialError, match="revoked"):
        seed_issue.by_store("gone", str(fleet.state_dir), password)


def test_into_a_file_that_its_owner_alone_can_read(
    fleet: Fleet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "credential.json"
    path.write_text("loose")
    path.chmod(0o644)
    for _ in range(2):
        assert export(fleet, "--id", "vm1", "--json", "--output", str(path)) == 0
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_credential(path) == fleet.credential("vm1")
    assert capsys.readouterr().out == ""
    assert os.listdir(tmp_path) == ["credential.json"]


def test_a_bootstrap_key_that_was_used(
    fleet: Fleet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its successor is handed out then, a lasting one."""
    customer = {"external": True, "tenant": "acme", "bootstrap": True}
    other = Fleet(tmp_path / "state", fleet.store.vault)
    other.ensure({"customer": customer})
    first = other.credential("customer").key_id.hex()
    used = report(1, {"customer": {first: (int(NOW.timestamp()), 0)}})
    other.ensure({"customer": customer}, reports=[used])
    assert export(other, "--id", "customer", "--json", password_file="../password") == 2
    (tmp_path / "password").write_text(PASSWORD)
    (tmp_path / "password").chmod(0o600)
    assert export(other, "--id", "customer", "--json") == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["key_id"] != first
    assert "is a lasting one" in shown.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--id", "vm9", "--json"), "no credential for vm9: add it to the inventory or to"),
        (("--id", "gone", "--json"), "gone was revoked: there is nothing to export"),
        (("--id", "../ledger", "--json"), "no credential for ../ledger"),
        (("--id", "vm1"), "one of the arguments --json --cloud-init is required"),
        (("--id", "vm1", "--json", "--state-dir", "/nowhere"), "/nowhere holds no fleet's"),
        (("--id", "vm1", "--json", "--vault-password-file", "/nowhere"), "cannot read /nowhere"),
        (("--id", "vm1", "--json", "--output", "/nowhere/x"), "cannot write /nowhere/x"),
    ],
)
def test_what_goes_wrong_is_one_line(
    fleet: Fleet, arguments: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export(fleet, *arguments) in (1, 2)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert says in shown.err
    assert shown.err.count("\n") == 1


def test_where_the_password_may_come_from(
    fleet: Fleet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ["credential", "export", "--id", "vm1", "--json"]
    arguments += ["--state-dir", str(fleet.state_dir)]
    monkeypatch.delenv("ANSIBLE_VAULT_PASSWORD_FILE", raising=False)
    assert cli.main(arguments) == 2
    assert "where is the vault password?" in capsys.readouterr().err
    program = tmp_path / "password"
    program.write_text(f"#!/bin/sh\necho '{PASSWORD}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("ANSIBLE_VAULT_PASSWORD_FILE", str(program))
    assert cli.main(arguments) == 0
    program.write_text("#!/bin/sh\nexit 1\n")
    assert cli.main(arguments) == 2
    program.write_text("")
    program.chmod(0o644)
    assert cli.main(arguments) == 2
    assert "chmod 0640" in capsys.readouterr().err
    program.chmod(0o600)
    assert cli.main(arguments) == 2
    program.write_text("wrong")
    assert cli.main(arguments) == 2
    assert "cannot be decrypted with this password" in capsys.readouterr().err


def test_a_store_that_does_not_match_its_ledger(
    fleet: Fleet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Fleet(tmp_path / "state", fleet.store.vault)
    other.ensure({"vm1": {}, "vm2": {}})
    (tmp_path / "password").write_text(PASSWORD)
    (tmp_path / "password").chmod(0o600)
    one, two = (other.state_dir / f"credentials/{name}.json" for name in ("vm1", "vm2"))
    one.write_bytes(two.read_bytes())
    assert export(other, "--id", "vm1", "--json") == 2
    assert "does not hold the key SHA256:" in capsys.readouterr().err


@pytest.mark.parametrize("n_bytes", [0, 1, 15, 16, 17, 1000])
@pytest.mark.parametrize("label", [None, "site"])
def test_what_ansible_encrypts_is_read(n_bytes: int, label: str | None) -> None:
    plain = os.urandom(n_bytes)
    encrypted = VaultLib([]).encrypt(plain, VaultSecret(b"p"), vault_id=label)
    assert decrypt(encrypted, b"p", "x") == plain
    with pytest.raises(CredentialError, match="cannot be decrypted"):
        decrypt(encrypted, b"q", "x")
    broken = encrypted[:-3] + (b"0" if encrypted[-3:-2] != b"0" else b"1") + encrypted[-2:]
    with pytest.raises(CredentialError):
        decrypt(broken, b"p", "x")


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{}",
        b"$ANSIBLE_VAULT",
        b"$ANSIBLE_VAULT;9.9;AES256\n00",
        b"$ANSIBLE_VAULT;1.1;AES256\n0",
    ],
)
def test_what_is_no_vault_file(damage: bytes) -> None:
    with pytest.raises(CredentialError, match="x is "):
        decrypt(damage, b"p", "x")
