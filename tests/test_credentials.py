"""Credentials and access lists: what is read, what is refused, and that no secret is shown."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest

from entropy import credentials
from entropy.credentials import (
    Acl,
    Credential,
    acl_entry,
    check_secret_mode,
    dump_credential,
    entry_as_json,
    fingerprint,
    load_acl,
    load_credential,
    new_credential,
    parse_acl,
    parse_credential,
    read_secret,
)
from entropy.errors import CredentialError
from entropy.wire.keys import derive

SECRET = bytes(range(32))
CREDENTIAL = Credential("lab", "vm1", b"\x01" * 8, SECRET, frozenset({"draw"}))


def _fields(**changed: object) -> dict[str, Any]:
    fields = json.loads(dump_credential(CREDENTIAL))
    return {key: value for key, value in {**fields, **changed}.items() if value is not ...}


def _entry(**changed: object) -> dict[str, Any]:
    fields = entry_as_json(acl_entry(CREDENTIAL))
    return {key: value for key, value in {**fields, **changed}.items() if value is not ...}


def _acl(*entries: object, **changed: object) -> str:
    return json.dumps(
        {"version": 1, "site_id": "lab", "generation": 7, "entries": entries, **changed}
    )


def _write(path: Path, text: str, mode: int = 0o640) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def test_a_credential_comes_back_from_its_file(tmp_path: Path) -> None:
    path = _write(tmp_path / "credential.json", dump_credential(CREDENTIAL))
    assert load_credential(path) == CREDENTIAL
    assert load_credential(str(path)) == CREDENTIAL


def test_new_credentials_differ() -> None:
    one, other = (new_credential("vm1", "lab", ["draw"]) for _ in range(2))
    assert one.secret != other.secret
    assert one.key_id != other.key_id
    assert (one.id, one.site_id, one.permissions) == ("vm1", "lab", frozenset({"draw"}))


@pytest.mark.parametrize("name", ["", "VM1", "vm 1", "-vm1", "v" * 64, "vm1/../x"])
def test_a_name_must_be_one(name: str) -> None:
    with pytest.raises(CredentialError):
        new_credential(name, "lab", ["draw"])
    with pytest.raises(CredentialError):
        new_credential("vm1", name, ["draw"])


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"version": 2}, "version"),
        ({"version": True}, "version"),
        ({"version": ...}, "'version' is missing"),
        ({"secret": ...}, "'secret' is missing"),
        ({"secret": base64.b64encode(bytes(31)).decode()}, "base64 of 32 bytes"),
        ({"secret": "é"}, "base64 of 32 bytes"),
        ({"secret": 5}, "base64 of 32 bytes"),
        ({"key_id": "01" * 7}, "16 hex digits"),
        ({"key_id": "AB" * 8}, "lower case"),
        ({"key_id": "xx" * 8}, "16 hex digits"),
        ({"id": "VM1"}, "id 'VM1'"),
        ({"site_id": "a.b"}, "site_id 'a.b'"),
        ({"permissions": []}, "at least one"),
        ({"permissions": ["draw", "draw"]}, "once"),
        ({"permissions": ["root"]}, "draw, feed, peer"),
        ({"permissions": [["draw"]]}, "draw, feed, peer"),
        ({"permissions": "draw"}, "a list"),
        ({"secrets": "x"}, "unknown key 'secrets'; did you mean 'secret'?"),
        ({"colour": "x"}, "unknown key 'colour'"),
    ],
)
def test_what_is_no_credential(changed: dict[str, object], said: str) -> None:
    with pytest.raises(CredentialError, match=r"vm1\.json") as raised:
        parse_credential(json.dumps(_fields(**changed)), "vm1.json")
    assert said in str(raised.value)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "5", '{"version": 1, "version": 1}', "[" * 100000, "1" * 5000],
)
def test_what_is_no_json(text: str) -> None:
    with pytest.raises(CredentialError, match=r"vm1\.json"):
        parse_credential(text, "vm1.json")
    with pytest.raises(CredentialError, match=r"acl\.json"):
        parse_acl(text, "acl.json")


def test_errors_do_not_show_what_stands_in_the_file() -> None:
    encoded = base64.b64encode(SECRET).decode()
    text = dump_credential(CREDENTIAL)
    wrong = [
        text[:-3],
        text.replace('"secret": ', '"secret" '),
        json.dumps(_fields(secret=encoded + "AAAA")),
        json.dumps(_fields(permissions=[encoded])),
        json.dumps(_fields(key_id=encoded)),
        json.dumps(_fields(version=encoded)),
    ]
    for each in wrong:
        with pytest.raises(CredentialError) as raised:
            parse_credential(each, "vm1.json")
        assert encoded[:20] not in str(raised.value)
        assert raised.value.__cause__ is None
        assert raised.value.__suppress_context__ or raised.value.__context__ is None


def test_no_secret_is_shown() -> None:
    entry = acl_entry(CREDENTIAL)
    acl = parse_acl(_acl(entry_as_json(entry)), "acl.json")
    for value in (CREDENTIAL, entry, acl, [CREDENTIAL, entry], {"x": acl}):
        shown = f"{value!r} {value}"
        for secret in (SECRET, entry.psk):
            assert repr(secret)[2:-1] not in shown
            assert secret.hex() not in shown
            assert base64.b64encode(secret).decode() not in shown
    assert "vm1" in repr(CREDENTIAL)
    assert "vm1" in repr(entry)


# Access lists


def test_an_access_list_holds_no_secret() -> None:
    keys = derive(SECRET)
    entry = acl_entry(CREDENTIAL, burst_bytes=100)
    assert (entry.public_key, entry.psk, entry.burst_bytes) == (keys.public, keys.psk, 100)
    text = json.dumps(entry_as_json(entry))
    for secret in (SECRET, keys.private):
        assert base64.b64encode(secret).decode() not in text
        assert secret.hex() not in text


def test_an_access_list_comes_back_from_its_file(tmp_path: Path) -> None:
    entries = [
        acl_entry(CREDENTIAL),
        acl_entry(CREDENTIAL._replace(key_id=b"\x02" * 8), rate_bytes_per_second=1),
        acl_entry(
            new_credential("rng1", "lab", frozenset({"feed", "draw"})), credit_bits_per_second=0
        ),
        acl_entry(
            new_credential("vm2", "lab", ["draw"]),
            not_after_unix=1896084000,
            expires_after_use_seconds=86400,
            addresses=("10.0.0.7/32", "fd00::/64"),
        ),
    ]
    path = _write(tmp_path / "acl.json", _acl(*map(entry_as_json, entries)))
    found = load_acl(path)
    assert found == Acl("lab", 7, {(entry.id, entry.key_id): entry for entry in entries})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            _acl(_entry(), _entry()),
            "entries[1]: vm1 with key id 0101010101010101 stands here twice",
        ),
        (_acl(_entry(psk=...)), "entries[0]: 'psk' is missing"),
        (_acl(_entry(secret="x")), "entries[0]: unknown key 'secret'"),
        (_acl(_entry(rate_bytes_per_second=0)), "from 1 to"),
        (_acl(_entry(burst_bytes=1 << 32)), "from 1 to"),
        (_acl(_entry(burst_bytes=1.5)), "whole number"),
        (_acl(_entry(burst_bytes=None)), "whole number"),
        (_acl(_entry(credit_bits_per_second=-1)), "from 0 to"),
        (_acl(_entry(not_after_unix=0)), "from 1 to"),
        (_acl(_entry(expires_after_use_seconds=1.5)), "whole number"),
        (_acl(_entry(addresses="10.0.0.7")), "'addresses' must be a list"),
        (_acl(_entry(addresses=["10.0.0.7/24"])), "must be addresses or networks"),
        (_acl(_entry(burst_byte=5)), "did you mean 'burst_bytes'?"),
        (_acl(5), "entries[0]: this is not a JSON object"),
        (_acl(generation=-1), "'generation' must be from 0"),
        (_acl(generation="7"), "'generation' must be a whole number"),
        (_acl(entrys=[]), "did you mean 'entries'?"),
        (_acl(version=2), "version"),
    ],
)
def test_what_is_no_access_list(text: str, said: str) -> None:
    with pytest.raises(CredentialError, match=r"acl\.json") as raised:
        parse_acl(text, "acl.json")
    assert said in str(raised.value)


# Files


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o400, 0o440])
def test_modes_that_are_good(tmp_path: Path, mode: int) -> None:
    path = _write(tmp_path / "x", "x", mode)
    check_secret_mode(path)
    assert read_secret(path) == b"x"


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        (0o644, "readable by everybody (mode 0644)"),
        (0o604, "readable by everybody (mode 0604)"),
        (0o642, "writable by everybody (mode 0642)"),
        (0o660, "writable by its group (mode 0660)"),
        (0o641, "more open than a secret may be (mode 0641)"),
        (0o650, "more open than a secret may be (mode 0650)"),
        (0o740, "more open than a secret may be (mode 0740)"),
    ],
)
def test_modes_that_are_too_open(tmp_path: Path, mode: int, said: str) -> None:
    path = _write(tmp_path / "credential.json", dump_credential(CREDENTIAL), mode)
    for read in (check_secret_mode, read_secret, load_credential, load_acl):
        with pytest.raises(CredentialError) as raised:
            read(path)
        assert str(raised.value) == f"{path} is {said}: chmod 0640 {path}"


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CredentialError, match="No such file"):
        load_credential(tmp_path / "none")


def test_what_is_not_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)  # and nobody will ever write to it
    (tmp_path / "folder").mkdir(mode=0o700)
    for name in ("pipe", "folder"):
        with pytest.raises(CredentialError, match="is not a file"):
            read_secret(tmp_path / name)


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"\xff\xfe")
    path.chmod(0o600)
    with pytest.raises(CredentialError, match="not UTF-8"):
        load_acl(path)


def test_a_file_that_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credentials, "_SECRET_LIMIT_BYTES", 1 << 20)
    path = _write(tmp_path / "x", "x" * ((1 << 20) + 1), 0o600)
    with pytest.raises(CredentialError, match="larger than 1 MiB"):
        read_secret(path)


def test_a_fingerprint_is_as_ssh_prints_it() -> None:
    # printf '' | sha256sum, in base64 without its padding
    assert fingerprint(b"") == "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU"


def test_a_file_that_cannot_be_read_to_its_end() -> None:
    """This one is a file of mode 0600, and reading its beginning is EIO: as on a failing disk."""
    with pytest.raises(CredentialError, match=r"^cannot read /proc/self/mem: Input"):
        read_secret("/proc/self/mem")
