"""The ledger of a fleet's credentials: what was issued to whom, without any secret.

It is the commit record of the state directory: what it does not name was never issued. Runs on
the controller only.

A key is `active` while it is the one that its host is given. A rotation adds a `pending` key, and
the one before it is `retiring`: both are valid. When a broker has seen the pending key, or at the
overlap's end, it becomes the active one and the other is `revoked`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from entropy.errors import CredentialError

VERSION = 2
ACTIVE, PENDING, RETIRING, REVOKED = "active", "pending", "retiring", "revoked"
NEXT = "next"  # of an authority that is trusted already and does not sign yet
VALID = (ACTIVE, PENDING, RETIRING)


@dataclass(frozen=True)
class Key:
    """One key of a credential. Moments are ISO 8601, UTC, or empty.

    `until` is when a retiring key ends at the latest, `ended` when a revoked one did. A bootstrap
    key ends `bootstrap_seconds` after its first use, which the brokers report; 0 for others.
    """

    key_id: str
    fingerprint: str
    state: str
    created: str
    until: str = ""
    ended: str = ""
    bootstrap_seconds: int = 0
    first_used: str = ""

    @property
    def valid(self) -> bool:
        return self.state in VALID


@dataclass(frozen=True)
class Terms:
    """What one id is allowed, and whose it is."""

    permissions: tuple[str, ...]
    limits: Mapping[str, int] = field(default_factory=dict)
    tenant: str = ""
    external: bool = False
    addresses: tuple[str, ...] = ()
    not_after: str = ""


@dataclass(frozen=True)
class LedgerCredential:
    """One id: its terms, and its keys from the oldest to the newest.

    `file_sha256` is of the encrypted file: it shows without a decryption that nobody changed it.
    It is empty when the id was revoked: then there is no file.
    """

    terms: Terms
    keys: tuple[Key, ...]
    file_sha256: str

    def valid_keys(self) -> list[Key]:
        return [key for key in self.keys if key.valid]


@dataclass(frozen=True)
class LedgerCertificate:
    """A certificate: its fingerprint, and the SHA-256 of the encrypted file of its key."""

    fingerprint: str
    expires: str
    created: str
    key_file_sha256: str


@dataclass(frozen=True)
class Authority:
    """A certificate that the fleet trusts: the `active` one signs.

    The `next` one is trusted before it signs, a `retiring` one after it did. `name` is that of its
    files, and `since` when it entered its state.
    """

    name: str
    state: str
    since: str
    certificate: LedgerCertificate


@dataclass(frozen=True)
class Ledger:
    """Everything that a fleet was issued. `generation` grows with every change to the ACL."""

    site_id: str
    generation: int
    authorities: tuple[Authority, ...]
    acl_file_sha256: str
    credentials: Mapping[str, LedgerCredential] = field(default_factory=dict)
    certificates: Mapping[str, LedgerCertificate] = field(default_factory=dict)

    def revoked_ids(self) -> list[str]:
        """The ids that had a key and have none."""
        return sorted(name for name, c in self.credentials.items() if not c.valid_keys())


def dump_ledger(ledger: Ledger) -> str:
    """The text of ledger.json, in an order that makes differences easy to read."""
    fields = asdict(ledger)
    for credential in fields["credentials"].values():
        credential |= credential.pop("terms")
        credential["keys"] = [_said(key) for key in credential["keys"]]
    return json.dumps({"version": VERSION, **fields}, indent=1, sort_keys=True) + "\n"


def parse_ledger(text: bytes, where: str) -> Ledger:
    """Read ledger.json, of version 1 too. CredentialError when this release cannot read it."""
    try:
        data = json.loads(text)
        version = data.pop("version")
    except (ValueError, KeyError, TypeError, AttributeError):
        raise _damaged(where) from None
    if version not in (1, VERSION):
        raise CredentialError(
            f"{where}: version {version} was written by another release; use that release"
        )
    try:
        if version == 1:
            _migrate(data)
        return Ledger(
            site_id=str(data.pop("site_id")),
            generation=int(data.pop("generation")),
            authorities=tuple(_authority(fields) for fields in data.pop("authorities")),
            acl_file_sha256=str(data.pop("acl_file_sha256")),
            credentials={
                name: _credential(fields) for name, fields in data.pop("credentials").items()
            },
            certificates={
                name: LedgerCertificate(**fields)
                for name, fields in data.pop("certificates").items()
            },
            **data,
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        raise _damaged(where) from None


def _migrate(data: dict[str, Any]) -> None:
    """Version 1 knew one authority, and of an id its permissions, limits and active keys."""
    certificate = data.pop("authority")
    data["authorities"] = [
        {"name": "ca", "state": ACTIVE, "since": certificate["created"], "certificate": certificate}
    ]


def _authority(fields: Mapping[str, Any]) -> Authority:
    certificate = LedgerCertificate(**fields["certificate"])
    return Authority(**{**fields, "certificate": certificate})


def _credential(fields: dict[str, Any]) -> LedgerCredential:
    keys = tuple(Key(**key) for key in fields.pop("keys"))
    file_sha256 = str(fields.pop("file_sha256"))
    fields["permissions"] = tuple(fields["permissions"])
    fields["limits"] = {name: int(value) for name, value in fields["limits"].items()}
    fields["addresses"] = tuple(fields.get("addresses", ()))
    return LedgerCredential(Terms(**fields), keys, file_sha256)


def _said(key: dict[str, Any]) -> dict[str, Any]:
    """A key without what is not said of it: most have neither an end nor a first use."""
    return {name: value for name, value in key.items() if value or name == "state"}


def _damaged(where: str) -> CredentialError:
    return CredentialError(
        f"{where} is damaged: restore the state directory from its newest backup. Do not delete "
        "it: the brokers refuse a ledger that starts anew"
    )
