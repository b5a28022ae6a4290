"""The ledger of a fleet's credentials: what was issued to whom, without any secret.

It is the commit record of the state directory: what it does not name was never issued. Runs on
the controller only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from entropy.errors import CredentialError

VERSION = 1
ACTIVE = "active"


@dataclass(frozen=True)
class Key:
    """One key of a credential. `created` is ISO 8601, UTC."""

    key_id: str
    fingerprint: str
    state: str
    created: str


@dataclass(frozen=True)
class LedgerCredential:
    """One id: what it may do and its keys.

    `file_sha256` is of the encrypted file: it shows without a decryption that nobody changed it.
    """

    permissions: tuple[str, ...]
    limits: Mapping[str, int]
    keys: tuple[Key, ...]
    file_sha256: str

    def active_keys(self) -> list[Key]:
        return [key for key in self.keys if key.state == ACTIVE]


@dataclass(frozen=True)
class LedgerCertificate:
    """A certificate: its fingerprint, and the SHA-256 of the encrypted file of its key."""

    fingerprint: str
    expires: str
    created: str
    key_file_sha256: str


@dataclass(frozen=True)
class Ledger:
    """Everything that a fleet was issued. `generation` grows with every change to the ACL."""

    site_id: str
    generation: int
    authority: LedgerCertificate
    acl_file_sha256: str
    credentials: Mapping[str, LedgerCredential] = field(default_factory=dict)
    certificates: Mapping[str, LedgerCertificate] = field(default_factory=dict)


def dump_ledger(ledger: Ledger) -> str:
    """The text of ledger.json, in an order that makes differences easy to read."""
    return json.dumps({"version": VERSION, **asdict(ledger)}, indent=1, sort_keys=True) + "\n"


def parse_ledger(text: bytes, where: str) -> Ledger:
    """Read ledger.json. CredentialError when it is not one that this release understands."""
    try:
        data = json.loads(text)
        version = data.pop("version")
    except (ValueError, KeyError, TypeError, AttributeError):
        raise _damaged(where) from None
    if version != VERSION:
        raise CredentialError(
            f"{where}: version {version} was written by another release; use that release"
        )
    try:
        return Ledger(
            site_id=str(data.pop("site_id")),
            generation=int(data.pop("generation")),
            authority=LedgerCertificate(**data.pop("authority")),
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


def _credential(fields: Mapping[str, Any]) -> LedgerCredential:
    return LedgerCredential(
        permissions=tuple(fields["permissions"]),
        limits={name: int(value) for name, value in fields["limits"].items()},
        keys=tuple(Key(**key) for key in fields["keys"]),
        file_sha256=str(fields["file_sha256"]),
    )


def _damaged(where: str) -> CredentialError:
    return CredentialError(
        f"{where} is damaged: restore the state directory from its newest backup. Do not delete "
        "it: the brokers refuse a ledger that starts anew"
    )
