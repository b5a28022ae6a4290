"""The module entropy_keyfile, in this process."""

from __future__ import annotations

import grp
import json
import os
import pwd
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from entropy.authority import issue_broker, new_authority
from entropy.credentials import dump_credential, load_credential, new_credential
from library import entropy_keyfile

RunModule = Callable[..., dict[str, Any]]
Keyfile = Callable[..., dict[str, Any]]
CREDENTIAL = new_credential("vm1", "lab", ["draw"])
OTHER = new_credential("vm1", "lab", ["draw"])
TLS_KEY = issue_broker(new_authority("lab"), "broker1", "lab").key_pem.decode()
SECRETS = [json.loads(dump_credential(c))["secret"] for c in (CREDENTIAL, OTHER)]
SECRETS += [line for line in TLS_KEY.splitlines() if "-----" not in line]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "credential.json"


@pytest.fixture
def keyfile(run_module: RunModule, path: Path) -> Keyfile:
    """Run entropy_keyfile; nothing it prints may hold a secret."""

    def run(content: str = dump_credential(CREDENTIAL), **arguments: Any) -> dict[str, Any]:
        defaults = {
            "path": str(path),
            "owner": pwd.getpwuid(os.getuid()).pw_name,
            "group": grp.getgrgid(os.getgid()).gr_name,
        }
        result = run_module(entropy_keyfile, content=content, **{**defaults, **arguments})
        assert not any(secret in result["printed"] for secret in SECRETS)
        return result

    return run


def test_a_credential_is_installed_once(keyfile: Keyfile, path: Path) -> None:
    first = keyfile()
    assert (first["changed"], first["id"], first["key_id"]) == (
        True,
        "vm1",
        CREDENTIAL.key_id.hex(),
    )
    assert load_credential(path) == CREDENTIAL
    assert path.stat().st_mode & 0o7777 == 0o640
    assert not keyfile()["changed"]


def test_another_key_for_the_same_id(keyfile: Keyfile, path: Path) -> None:
    assert keyfile()["before_key_id"] is None
    planned = keyfile(dump_credential(OTHER), check=True)
    assert (planned["changed"], planned["before_key_id"]) == (True, CREDENTIAL.key_id.hex())
    assert load_credential(path) == CREDENTIAL
    assert f"key_id: {CREDENTIAL.key_id.hex()}" in planned["diff"]["before"]
    assert f"key_id: {OTHER.key_id.hex()}" in planned["diff"]["after"]
    assert keyfile(dump_credential(OTHER))["changed"]
    assert load_credential(path) == OTHER


def test_a_tls_key_has_no_id(keyfile: Keyfile, path: Path) -> None:
    result = keyfile(TLS_KEY)
    assert (result["changed"], result["id"], result["key_id"]) == (True, None, None)
    assert path.read_text() == TLS_KEY
    assert not keyfile(TLS_KEY)["changed"]


def test_a_loose_mode_is_put_right(keyfile: Keyfile, path: Path) -> None:
    keyfile()
    path.chmod(0o644)
    result = keyfile()
    assert result["changed"]
    assert "mode: 0644" in result["diff"]["before"]
    assert path.stat().st_mode & 0o7777 == 0o640


@pytest.mark.parametrize("content", ["", "secret", "{}", '{"secret": 1}', "null", "[]"])
def test_what_is_no_secret_is_refused(keyfile: Keyfile, path: Path, content: str) -> None:
    result = keyfile(content)
    assert "neither a credential nor a private key" in result["msg"]
    assert not path.exists()


def test_check_mode_on_a_host_with_nothing(keyfile: Keyfile, tmp_path: Path) -> None:
    path = tmp_path / "no" / "credential.json"
    for content in ("", dump_credential(CREDENTIAL)):
        result = keyfile(content, check=True, path=str(path), group="no-such-group")
        assert result["changed"]
    assert not path.parent.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"group": "no-such-group"}, "the group no-such-group does not exist"),
        ({"path": "/no-such-directory/key"}, "the directory /no-such-directory is missing"),
        ({"mode": "0644"}, "mode: 0644 will not do for a secret"),
        ({"path": "/etc"}, "/etc is a directory"),
    ],
)
def test_problems_say_what_to_do(keyfile: Keyfile, arguments: dict[str, str], message: str) -> None:
    assert message in keyfile(**arguments)["msg"]
