"""Numbers and names that both ends of the wire agree on."""

from __future__ import annotations

import re
from enum import IntEnum

VERSION = 1
PERMISSIONS = ("draw", "feed", "peer")  # bit 0, 1, 2 of the byte in WELCOME

_ID = re.compile(r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?")
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_LONGEST_NAME = 63


class FrameType(IntEnum):
    """The second byte of every frame."""

    HELLO = 1
    AUTH = 2
    WELCOME = 3
    DRAW = 4
    BLOCK = 5
    FEED = 6
    RECALL = 7
    ACCEPTED = 8
    RETRY = 9
    REFUSED = 10


class Role(IntEnum):
    """What the end that connects wants to be in this session."""

    CLIENT = 1
    FEEDER = 2
    PEER = 3


class DrawKind(IntEnum):
    """Why bytes are drawn: a VM's first seed, its upkeep, or another broker's reservoir."""

    SEED = 1
    TOPUP = 2
    PEER = 3


class RetryReason(IntEnum):
    """Why a broker says "not now"."""

    EMPTY = 1
    RATE = 2
    BUSY = 3
    FULL = 4
    LOW = 5


class RefusedCode(IntEnum):
    """Why a broker ends a session."""

    AUTHENTICATION = 1
    PERMISSION = 2
    PROTOCOL = 3
    SHUTDOWN = 4
    LIMIT = 5


def is_id(text: str) -> bool:
    """Whether `text` may be the id of a credential: 1 to 63 of a-z 0-9 . _ - (not at the ends)."""
    return len(text) <= _LONGEST_NAME and _ID.fullmatch(text) is not None


def is_site_id(text: str) -> bool:
    """Whether `text` may be the id of a site: a DNS label of 1 to 63 of a-z 0-9 -."""
    return len(text) <= _LONGEST_NAME and _LABEL.fullmatch(text) is not None


def is_broker_id(text: str) -> bool:
    """Whether `text` may be the id of a broker: a DNS label, since certificates carry it."""
    return is_site_id(text)


def certificate_name(broker_id: str, site_id: str) -> str:
    """The DNS name that stands in the certificate of this broker."""
    return f"{broker_id}.{site_id}.entropy.internal"
