"""Moments and durations as tasks and the ledger write them.

A moment is ISO 8601 in UTC, to the second: 2026-01-31T10:00:00Z. A duration is a whole number with
its unit: 90d, 24h, 30m, 10s, 2w. Runs on the controller only.
"""

from __future__ import annotations

import datetime
import re

from entropy.errors import CredentialError

_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_LONGEST_SECONDS = 10 * 366 * 86400
_LAST_YEAR = 2099  # the brokers count seconds in 32 bits


def text_of(moment: datetime.datetime) -> str:
    """A moment (with a time zone) as text."""
    return f"{moment.astimezone(datetime.timezone.utc):%Y-%m-%dT%H:%M:%SZ}"


def moment_of(text: object, what: str) -> datetime.datetime:
    """A moment from its text; `what` names it in errors. CredentialError if it is none."""
    try:
        moment = datetime.datetime.fromisoformat(str(text).strip().replace("Z", "+00:00"))
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None or not 1970 < moment.year <= _LAST_YEAR:
        raise CredentialError(
            f"{what}: {str(text)!r} is not a moment; write it like 2026-01-31T10:00:00Z"
        )
    return moment.astimezone(datetime.timezone.utc)


def unix_of(text: str) -> int:
    """Seconds since 1970 of a moment that text_of wrote."""
    return int(moment_of(text, "the ledger").timestamp())


def moment_of_unix(seconds: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(int(seconds), datetime.timezone.utc)


def duration_of(text: object, what: str) -> datetime.timedelta:
    """A duration from its text; `what` names it in errors. CredentialError if it is none."""
    found = re.fullmatch(r"(\d{1,10})([smhdw])", str(text).strip())
    seconds = int(found[1]) * _UNIT_SECONDS[found[2]] if found else -1
    if not 0 <= seconds <= _LONGEST_SECONDS:
        raise CredentialError(
            f"{what}: {str(text)!r} is not a duration; write a number with s, m, h, d or w, as 7d"
        )
    return datetime.timedelta(seconds=seconds)
