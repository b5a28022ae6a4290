"""What is in a credential and in a broker's access list, and the only place that opens secrets.

credential.json, on the host that uses it:
    {"version": 1, "site_id": "lab", "id": "vm1", "key_id": "<16 hex digits>",
     "secret": "<base64 of 32 bytes>", "permissions": ["draw"]}
acl.json, on every broker:
    {"version": 1, "site_id": "lab", "generation": 7, "entries": [
      {"id": "vm1", "key_id": "...", "public_key": "<base64 of X>", "psk": "<base64 of p>",
       "permissions": ["draw"], and if it has limits of its own: "rate_bytes_per_second",
       "burst_bytes", "credit_bits_per_second", "not_after_unix", "expires_after_use_seconds",
       "addresses": ["10.0.0.0/24"]}]}
An id may have several entries while its key is being replaced, each with its own key id.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import stat
from typing import Any, Callable, NamedTuple

from entropy.errors import CredentialError
from entropy.wire.codes import PERMISSIONS, is_id, is_site_id

KEY_ID_BYTES = 8
KEY_BYTES = 32
_SECRET_LIMIT_BYTES = 64 << 20  # an access list of 100,000 entries takes a third of this
_U32_MAX = (1 << 32) - 1
_TOO_OPEN = (  # the first that applies is said; everything but u=rw,g=r is too open
    (stat.S_IROTH, "readable by everybody"),
    (stat.S_IWOTH, "writable by everybody"),
    (stat.S_IWGRP, "writable by its group"),
    (0o137, "more open than a secret may be"),
)


class Credential(NamedTuple):
    """An id and its secret (32 bytes), with what it may do."""

    site_id: str
    id: str
    key_id: bytes
    secret: bytes
    permissions: frozenset[str]

    def __repr__(self) -> str:
        return f"Credential({self.id!r} of {self.site_id!r}, key {self.key_id.hex()})"


class AclEntry(NamedTuple):
    """What a broker knows of a credential: X and p (32 bytes each), never the secret.

    It is good until not_after_unix (seconds since 1970), and for expires_after_use_seconds after
    its first use. `addresses` are the networks that it is expected from, which is advice.
    """

    id: str
    key_id: bytes
    public_key: bytes
    psk: bytes
    permissions: frozenset[str]
    rate_bytes_per_second: int | None = None
    burst_bytes: int | None = None
    credit_bits_per_second: int | None = None
    not_after_unix: int | None = None
    expires_after_use_seconds: int | None = None
    addresses: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"AclEntry({self.id!r}, key {self.key_id.hex()})"


class Acl(NamedTuple):
    """A broker's access list, by (id, key id)."""

    site_id: str
    generation: int
    entries: dict[tuple[str, bytes], AclEntry]

    def __repr__(self) -> str:
        return f"Acl({self.site_id!r}, generation {self.generation}, {len(self.entries)} entries)"


def new_credential(id: str, site_id: str, permissions: frozenset[str] | list[str]) -> Credential:
    """A fresh credential from this machine's own generator. CredentialError for a wrong name."""
    credential = Credential(
        site_id, id, os.urandom(KEY_ID_BYTES), os.urandom(KEY_BYTES), frozenset(permissions)
    )
    return parse_credential(dump_credential(credential), "a new credential")


def dump_credential(credential: Credential) -> str:
    """The text of credential.json."""
    fields = {
        "version": 1,
        "site_id": credential.site_id,
        "id": credential.id,
        "key_id": credential.key_id.hex(),
        "secret": _base64(credential.secret),
        "permissions": _ordered(credential.permissions),
    }
    return json.dumps(fields, indent=2) + "\n"


def parse_credential(text: str, where: str) -> Credential:
    """A credential from its text; `where` names it in errors. CredentialError if it is not one."""
    fields = _Fields(_json(text, where), where)
    fields.allow("version", "site_id", "id", "key_id", "secret", "permissions")
    fields.version()
    return Credential(
        fields.name("site_id", is_site_id),
        fields.name("id", is_id),
        fields.key_id(),
        fields.key("secret"),
        fields.permissions(),
    )


def load_credential(path: str | os.PathLike[str]) -> Credential:
    """The credential in a file. CredentialError if it is absent, too open or malformed."""
    return parse_credential(_text(read_secret(path), path), os.fspath(path))


def acl_entry(credential: Credential, **limits: Any) -> AclEntry:
    """What the brokers are given of a credential."""
    # Here, because it loads cryptography, and that wants randomness: early.py must not need any.
    from entropy.wire.keys import derive

    keys = derive(credential.secret)
    return AclEntry(
        credential.id, credential.key_id, keys.public, keys.psk, credential.permissions, **limits
    )


_LIMITS = {  # each limit with the least that it may be
    "rate_bytes_per_second": 1,
    "burst_bytes": 1,
    "credit_bits_per_second": 0,
    "not_after_unix": 1,
    "expires_after_use_seconds": 1,
}


def entry_as_json(entry: AclEntry) -> dict[str, Any]:
    """An entry as it stands in acl.json."""
    fields: dict[str, Any] = {
        "id": entry.id,
        "key_id": entry.key_id.hex(),
        "public_key": _base64(entry.public_key),
        "psk": _base64(entry.psk),
        "permissions": _ordered(entry.permissions),
    }
    for limit in _LIMITS:
        value = getattr(entry, limit)
        if value is not None:
            fields[limit] = value
    if entry.addresses:
        fields["addresses"] = list(entry.addresses)
    return fields


def parse_acl(text: str, where: str) -> Acl:
    """An access list from its text. CredentialError says which entry is wrong, and how."""
    fields = _Fields(_json(text, where), where)
    fields.allow("version", "site_id", "generation", "entries")
    fields.version()
    raw_entries = fields.value("entries", list, "a list")
    entries: dict[tuple[str, bytes], AclEntry] = {}
    for number, raw in enumerate(raw_entries):
        entry = _parse_entry(raw, f"{where}: entries[{number}]")
        if (entry.id, entry.key_id) in entries:
            raise CredentialError(
                f"{where}: entries[{number}]: {entry.id} with key id {entry.key_id.hex()} "
                "stands here twice"
            )
        entries[entry.id, entry.key_id] = entry
    return Acl(
        fields.name("site_id", is_site_id), fields.whole("generation", 0, (1 << 63) - 1), entries
    )


def _parse_entry(raw: object, where: str) -> AclEntry:
    fields = _Fields(raw, where)
    fields.allow("id", "key_id", "public_key", "psk", "permissions", *_LIMITS, "addresses")
    limits: dict[str, Any] = {
        limit: fields.whole(limit, least, _U32_MAX)
        for limit, least in _LIMITS.items()
        if fields.has(limit)
    }
    if fields.has("addresses"):
        limits["addresses"] = fields.networks("addresses")
    return AclEntry(
        fields.name("id", is_id),
        fields.key_id(),
        fields.key("public_key"),
        fields.key("psk"),
        fields.permissions(),
        **limits,
    )


def load_acl(path: str | os.PathLike[str]) -> Acl:
    """The access list in a file. CredentialError if it is absent, too open or malformed."""
    return parse_acl(_text(read_secret(path), path), os.fspath(path))


def fingerprint(public_key: bytes) -> str:
    """The name of a public key for people: "SHA256:" and base64, as ssh prints it."""
    return "SHA256:" + _base64(hashlib.sha256(public_key).digest()).rstrip("=")


def check_secret_mode(path: str | os.PathLike[str]) -> None:
    """CredentialError if the file is absent, not a file, or open to more than its group's reading.

    For the files that a library opens by itself (the TLS key); all others go by read_secret.
    """
    os.close(_open_secret(os.fspath(path)))


def read_secret(path: str | os.PathLike[str]) -> bytes:
    """The bytes of a secret file, after the checks of check_secret_mode on the file opened."""
    name = os.fspath(path)
    with os.fdopen(_open_secret(name), "rb") as file:
        try:
            data = file.read(_SECRET_LIMIT_BYTES + 1)
        except OSError as error:  # a disk that fails, or a file server
            raise CredentialError(f"cannot read {name}: {error.strerror}") from None
    if len(data) > _SECRET_LIMIT_BYTES:
        raise CredentialError(f"{name} is larger than {_SECRET_LIMIT_BYTES >> 20} MiB")
    return data


def _open_secret(path: str) -> int:
    # Non-blocking, or a named pipe in the file's place would hold us for ever.
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise CredentialError(f"cannot read {path}: {error.strerror}") from None
    try:
        mode = os.fstat(fd).st_mode
        if not stat.S_ISREG(mode):
            raise CredentialError(f"{path} is not a file")
        for bits, how in _TOO_OPEN:
            if mode & bits:
                shown = stat.S_IMODE(mode)
                raise CredentialError(f"{path} is {how} (mode {shown:04o}): chmod 0640 {path}")
    except BaseException:
        os.close(fd)
        raise
    return fd


class _Fields:
    """The fields of one JSON object, taken out with their checks. Values never get into errors."""

    __slots__ = ("_raw", "_where")

    def __init__(self, raw: object, where: str) -> None:
        if not isinstance(raw, dict):
            raise CredentialError(f"{where}: this is not a JSON object")
        self._raw = raw
        self._where = where

    def allow(self, *known: str) -> None:
        for key in self._raw:
            if key not in known:
                raise self._error(f"unknown key {key!r}{_nearest(key, known)}")

    def has(self, key: str) -> bool:
        return key in self._raw

    def value(self, key: str, kind: type, what: str) -> Any:
        if key not in self._raw:
            raise self._error(f"{key!r} is missing")
        value = self._raw[key]
        if not isinstance(value, kind) or isinstance(value, bool):
            raise self._error(f"{key!r} must be {what}")
        return value

    def version(self) -> None:
        if self.value("version", int, "a number") != 1:
            raise self._error("its version is not 1: this release cannot read it")

    def name(self, key: str, check: Callable[[str], bool]) -> str:
        value: str = self.value(key, str, "a string")
        if not check(value):
            raise self._error(
                f"{key} {value!r} is not allowed: 1 to 63 of a-z 0-9 and -"
                + (" . _" if check is is_id else "")
                + ", with a letter or digit first and last"
            )
        return value

    def whole(self, key: str, least: int, most: int) -> int:
        value: int = self.value(key, int, "a whole number")
        if not least <= value <= most:
            raise self._error(f"{key!r} must be from {least} to {most}")
        return value

    def key_id(self) -> bytes:
        text = self.value("key_id", str, "16 hex digits")
        try:
            raw = binascii.unhexlify(text)
        except ValueError:
            raw = b""
        if len(raw) != KEY_ID_BYTES or raw.hex() != text:
            raise self._error("'key_id' must be 16 hex digits, in lower case")
        return raw

    def key(self, key: str) -> bytes:
        text = self.value(key, str, "base64 of 32 bytes")
        try:
            raw = base64.b64decode(text, validate=True)
        except ValueError:
            raw = b""
        if len(raw) != KEY_BYTES:
            raise self._error(f"{key!r} must be base64 of 32 bytes")
        return raw

    def permissions(self) -> frozenset[str]:
        values = self.value("permissions", list, "a list")
        for value in values:
            if value not in PERMISSIONS:
                raise self._error(f"permissions may be {', '.join(PERMISSIONS)}; one is none")
        if not values or len(set(values)) != len(values):
            raise self._error("'permissions' must name at least one, and each once")
        return frozenset(values)

    def networks(self, key: str) -> tuple[str, ...]:
        from ipaddress import ip_network  # only a broker's list has networks; clients stay small

        values = self.value(key, list, "a list")
        try:
            return tuple(str(ip_network(str(value))) for value in values)
        except ValueError:
            raise self._error(f"{key!r} must be addresses or networks, as 10.0.0.0/24") from None

    def _error(self, what: str) -> CredentialError:
        return CredentialError(f"{self._where}: {what}")


def _json(text: str, where: str) -> object:
    def once(pairs: list[tuple[str, object]]) -> dict[str, object]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise CredentialError(f"{where}: a key stands twice in one JSON object")
        return found

    try:
        return json.loads(text, object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        # Not the error's own text: some decoders quote what they could not read.
        line = getattr(error, "lineno", None)
        at = f" (line {line})" if line else ""
        raise CredentialError(f"{where}: this is not JSON{at}") from None


def _text(data: bytes, path: str | os.PathLike[str]) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise CredentialError(f"{os.fspath(path)}: this is not JSON (not UTF-8)") from None


def _nearest(key: str, known: tuple[str, ...]) -> str:
    from difflib import get_close_matches  # only an error needs it; clients stay small

    near = get_close_matches(key, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _ordered(permissions: frozenset[str]) -> list[str]:
    return sorted(permissions, key=lambda name: (*PERMISSIONS, name).index(name))
