"""The life of one id's keys: pure functions over what the ledger says of them.

Runs on the controller only.

    active ---rotate---> retiring   until the new key was seen with no session open with the old
                         pending    one, or until the overlap's end: then
    revoked  <---finish--- retiring
    active   <---finish--- pending
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import replace

from module_utils.entropy_ledger import ACTIVE, PENDING, RETIRING, REVOKED, Key, LedgerCredential
from module_utils.entropy_reports import Seen
from module_utils.entropy_times import moment_of, moment_of_unix, text_of

Keys = tuple[Key, ...]
REVOKED_KEPT = 3  # of each id; enough to see what happened lately

# How finish found a rotation.
WAITING, SEEN, UNSEEN = "waiting", "seen", "unseen"


def retiring(keys: Sequence[Key]) -> Key | None:
    """The key that is on its way out, if a rotation is under way."""
    return next((key for key in keys if key.state == RETIRING), None)


def newest(keys: Sequence[Key]) -> Key | None:
    """The key that the host is given; None if the id was revoked."""
    return next((key for key in reversed(keys) if key.valid), None)


def note_first_use(name: str, keys: Keys, seen: Seen) -> Keys:
    """Write down the first use of bootstrap keys: what the brokers are told ends with it."""
    noted = []
    for key in keys:
        unix = seen.first_use_unix(name, key.key_id)
        if key.valid and key.bootstrap_seconds and unix is not None:
            first_used = text_of(moment_of_unix(unix))
            if not key.first_used or first_used < key.first_used:
                key = replace(key, first_used=first_used)
                if key.state == RETIRING:
                    key = replace(key, until=min(key.until, bootstrap_end(key)))
        noted.append(key)
    return tuple(noted)


def bootstrap_end(key: Key) -> str:
    """When a bootstrap key ends; empty before its first use, and for a lasting key."""
    if not key.bootstrap_seconds or not key.first_used:
        return ""
    first_used = moment_of(key.first_used, "the ledger")
    return text_of(first_used + datetime.timedelta(seconds=key.bootstrap_seconds))


def not_after(credential: LedgerCredential, key: Key) -> str:
    """When a key ends whatever else happens; empty if nothing ends it."""
    ends = (credential.terms.not_after, key.until, bootstrap_end(key))
    return min((end for end in ends if end), default="")


def finish(name: str, keys: Keys, seen: Seen, now: datetime.datetime) -> tuple[Keys, str]:
    """End a rotation if its time has come; the keys, and how it was found ("" if none runs)."""
    old, new = retiring(keys), newest(keys)
    if old is None or new is None or new.state != PENDING:
        return keys, ""
    was_seen = seen.first_use_unix(name, new.key_id) is not None
    if was_seen and not seen.sessions(name, old.key_id):
        how = SEEN
    elif text_of(now) >= old.until:
        how = SEEN if was_seen else UNSEEN
    else:
        return keys, WAITING
    return tuple(_ended(key, now) if key is old else _settled(key) for key in keys), how


def make_room(keys: Keys, now: datetime.datetime, overlap: datetime.timedelta) -> Keys:
    """Let the active key retire, before a pending one is added."""
    until = text_of(now + overlap)
    return tuple(
        replace(key, state=RETIRING, until=min(until, bootstrap_end(key) or until))
        if key.state == ACTIVE
        else key
        for key in keys
    )


def revoke(keys: Keys, now: datetime.datetime) -> Keys:
    """End every key at once."""
    return tuple(_ended(key, now) if key.valid else key for key in keys)


def forget(keys: Keys) -> Keys:
    """Drop the oldest revoked keys."""
    revoked = [key for key in keys if not key.valid]
    dropped = revoked[: max(0, len(revoked) - REVOKED_KEPT)]
    return tuple(key for key in keys if key not in dropped)


def _ended(key: Key, now: datetime.datetime) -> Key:
    return replace(key, state=REVOKED, ended=text_of(now), until="")


def _settled(key: Key) -> Key:
    return replace(key, state=ACTIVE) if key.state == PENDING else key
