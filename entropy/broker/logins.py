"""Who has proved itself: what its key permits, for how long, and what is odd about its coming."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Callable

from entropy.broker.access import Access, Key
from entropy.broker.alarms import Alarms
from entropy.broker.ids import IdRecord, Ids
from entropy.broker.uses import FirstUses
from entropy.config import LimitsConfig
from entropy.credentials import AclEntry
from entropy.errors import Refused
from entropy.wire.codes import RefusedCode, Role
from entropy.wire.frames import Auth

_ENTRIES_A_STEP = 256  # 1 ms
PERMISSIONS = {Role.CLIENT: "draw", Role.FEEDER: "feed", Role.PEER: "peer"}


class SessionFacts:
    """A session that has proved itself, as far as the service cares."""

    __slots__ = ("context", "key", "next_sequence", "number", "record", "role")

    def __init__(self, number: int, key: Key, role: Role, record: IdRecord, context: bytes) -> None:
        self.number = number
        self.key = key
        self.role = role
        self.record = record
        self.context = context  # unlike any other session's: it goes into every output
        self.next_sequence = 0


class Logins:
    """The keys of the access list in use. uses remembers when each was used first.

    monotonic_seconds and unix_seconds are clocks.
    """

    def __init__(
        self,
        access: Access,
        uses: FirstUses,
        limits: LimitsConfig,
        alarms: Alarms,
        *,
        monotonic_seconds: Callable[[], float],
        unix_seconds: Callable[[], float],
    ) -> None:
        self.access = access
        self.uses = uses
        self.uses.keep_only(access.acl.entries)
        self.ids = Ids(limits)
        self.clients_only = False  # feeders and peers are to go to another broker
        self._limits = limits
        self._alarms = alarms
        self._monotonic_seconds = monotonic_seconds
        self._unix_seconds = unix_seconds
        self._expired_keys: set[Key] = set()  # that were alarmed about
        self._n_sessions = 0

    @property
    def n_sessions(self) -> int:
        """How many sessions were opened so far."""
        return self._n_sessions

    def admits(self, key: Key) -> bool:
        """Whether a key whose proof was right is in force; an alarm if its time is over."""
        if self._in_force(key) is not None:
            return True
        if self.access.entry(key) is not None and key not in self._expired_keys:
            self._expired_keys.add(key)
            self._alarms.note(key[0], "its credential has expired and is still in use")
        return False

    def login(self, auth: Auth, address: str = "") -> SessionFacts:
        """Open a session for a credential whose proof was right. Refused if the role is not its."""
        key = (auth.id, auth.key_id)
        entry = self.permitted(key, PERMISSIONS[auth.role])
        if self.clients_only and auth.role is not Role.CLIENT:
            raise Refused(RefusedCode.SHUTDOWN)
        bootstrap = entry.expires_after_use_seconds is not None
        self.uses.note(key, self._unix_seconds(), durably=bootstrap)
        now = self._monotonic_seconds()
        record = self.ids.login(entry, now)
        trouble = record.note_boot(auth.boot_id, auth.counter, now)
        if trouble is not None:
            self._alarms.note(auth.id, f"{trouble}: is it a clone, or restored from a snapshot?")
        trouble = record.note_address(entry, address)
        if trouble is not None:
            self._alarms.note(auth.id, f"{trouble}: was its credential copied?")
        self._n_sessions += 1
        record.sessions += 1
        # What the other side said is in it, so that even a broker that was itself restored from
        # a snapshot does not answer two sessions alike.
        context = struct.pack("!Q16sQ32s", self._n_sessions, auth.boot_id, auth.counter, auth.nonce)
        return SessionFacts(self._n_sessions, key, auth.role, record, context)

    def logout(self, session: SessionFacts) -> None:
        session.record.sessions -= 1

    def permitted(self, key: Key, permission: str) -> AclEntry:
        """The entry of a key in force that has this permission. Refused if it is not."""
        entry = self._in_force(key)
        if entry is None:  # revoked, or expired, while its session was open
            raise Refused(RefusedCode.AUTHENTICATION)
        if permission not in entry.permissions:
            raise Refused(RefusedCode.PERMISSION)
        return entry

    def adopt_list(self) -> Iterator[None]:
        """The access list is another one. Goes on in small steps, for others to come between."""
        self.ids.keep_only(name for name, _ in self.access.acl.entries)
        self.uses.keep_only(self.access.acl.entries)
        self._expired_keys.clear()
        now = self._monotonic_seconds()
        for i, entry in enumerate(self.access.acl.entries.values()):
            record = self.ids.find(entry.id)
            if record is not None:
                record.change_limits(entry, self._limits, now)
            if i % _ENTRIES_A_STEP == 0:
                yield

    def _in_force(self, key: Key) -> AclEntry | None:
        """The entry of a key, unless its time is over."""
        entry = self.access.entry(key)
        if entry is None:
            return None
        ends = [] if entry.not_after_unix is None else [entry.not_after_unix]
        first_use_unix = self.uses.unix(key)
        if entry.expires_after_use_seconds is not None and first_use_unix is not None:
            ends.append(first_use_unix + entry.expires_after_use_seconds)
        return entry if not ends or self._unix_seconds() < min(ends) else None
