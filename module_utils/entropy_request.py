"""What a task asks of the fleet's credentials, checked before anything is read or written.

Runs on the controller only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from entropy.errors import CredentialError
from entropy.wire.codes import is_broker_id, is_id, is_site_id
from module_utils.entropy_acl_document import LIMITS, PERMISSIONS

# Each limit is sent as an unsigned number of 32 bits.
MAX_LIMIT = 2**32 - 1


@dataclass(frozen=True)
class Wish:
    """What one id should be allowed."""

    permissions: tuple[str, ...]
    limits: Mapping[str, int]


@dataclass(frozen=True)
class Request:
    """The credentials and certificates that a fleet should have."""

    site_id: str
    credentials: Mapping[str, Wish]
    brokers: Sequence[str]
    bootstrap: bool


def parse_request(
    site_id: str,
    credentials: Sequence[Mapping[str, Any]],
    brokers: Sequence[str],
    bootstrap: bool,
) -> Request:
    """Check the arguments of a task. CredentialError names everything that is wrong with them."""
    ids = [str(credential["id"]) for credential in credentials]
    wrong = [
        *_wrong_site_id(site_id),
        *(f"{_quoted(name)} is not an id: {_ID_RULE}" for name in ids if not is_id(name)),
        *(
            f"{_quoted(name)} is not a broker's id: {_BROKER_RULE}"
            for name in brokers
            if not is_broker_id(name)
        ),
        *(f"credentials: the id {name} is there {n} times" for name, n in _repeated(ids)),
        *(f"brokers: the id {name} is there {n} times" for name, n in _repeated(brokers)),
    ]
    for credential in credentials:
        wrong += _wrong_limits(credential)
    if wrong:
        raise CredentialError("; ".join(wrong))
    return Request(
        site_id=str(site_id),
        credentials={str(credential["id"]): _wish(credential) for credential in credentials},
        brokers=[str(broker) for broker in brokers],
        bootstrap=bootstrap,
    )


_ID_RULE = "1 to 63 of a-z 0-9 . _ - with a letter or digit first and last"
_BROKER_RULE = "1 to 63 of a-z 0-9 - with a letter or digit first and last"


def _wish(credential: Mapping[str, Any]) -> Wish:
    given = set(credential["permissions"])
    return Wish(
        permissions=tuple(name for name in PERMISSIONS if name in given),
        limits={name: int(credential[name]) for name in LIMITS if credential.get(name) is not None},
    )


def _wrong_site_id(site_id: str) -> list[str]:
    if is_site_id(site_id):
        return []
    return [f"site_id: {_quoted(site_id)} is not a site: {_BROKER_RULE}"]


def _wrong_limits(credential: Mapping[str, Any]) -> list[str]:
    name = credential["id"]
    wrong = [] if credential["permissions"] else [f"credentials: {name} has no permissions"]
    for limit in LIMITS:
        value = credential.get(limit)
        if value is not None and not _least(limit) <= value <= MAX_LIMIT:
            wrong.append(f"credentials: {name}: {limit} must be {_least(limit)} to {MAX_LIMIT}")
    return wrong


def _least(limit: str) -> int:
    """A feeder may be allowed no credit at all; a draw of no bytes makes no sense."""
    return 0 if limit == "credit_bits_per_second" else 1


def _repeated(names: Sequence[str]) -> list[tuple[str, int]]:
    return [(name, n) for name, n in Counter(names).items() if n > 1]


def _quoted(name: str) -> str:
    return repr(str(name))
