"""A broker's service with its access list, its clock and its kernel in the test's hands."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from entropy.broker.access import Access, Key
from entropy.broker.logins import SessionFacts
from entropy.broker.service import Service
from entropy.config import BrokerConfig, LimitsConfig, ReservoirConfig
from entropy.credentials import Acl, AclEntry
from entropy.reservoir import Reservoir
from entropy.wire.codes import Role
from entropy.wire.frames import Auth

KEY_ID = bytes(8)
ROLES = {"draw": Role.CLIENT, "feed": Role.FEEDER, "peer": Role.PEER}


class Ledger(Access):
    """An access list in memory."""

    def __init__(self) -> None:
        self.acl = Acl("lab", 1, {})
        self.next_gone: set[Key] = set()

    def admit(self, name: str, *permissions: str, key_id: bytes = KEY_ID, **limits: Any) -> None:
        entry = AclEntry(name, key_id, bytes(32), bytes(32), frozenset(permissions))
        self.acl.entries[name, key_id] = entry._replace(**limits)

    def revoke(self, name: str) -> None:
        self.acl.entries.pop((name, KEY_ID), None)

    def reload(self) -> set[Key]:
        return self.next_gone


class Desk:
    """The service, and how to come to it."""

    def __init__(
        self,
        *,
        marks: ReservoirConfig | None = None,
        limits: LimitsConfig | None = None,
        kernel_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self.ledger = Ledger()
        self.now_seconds = 0.0
        self.lines: list[str] = []
        marks = marks or ReservoirConfig(64, 2, 4)
        self.reservoir = Reservoir(
            broker_id="broker1",
            epoch=bytes(16),
            capacity_blocks=marks.capacity_blocks,
            export_above_blocks=marks.high_mark_blocks,
            kernel_bytes=kernel_bytes,
        )
        self.service = Service(
            config(reservoir=marks, limits=limits or LimitsConfig()),
            self.reservoir,
            self.ledger,
            monotonic_seconds=lambda: self.now_seconds,
            unix_seconds=lambda: 1_000_000 + self.now_seconds,
            log=lambda text, priority: self.lines.append(text),
        )
        self._n_logins = 0

    def apply_acl(self) -> set[Key]:
        """As the broker does it, in one go."""
        gone = self.ledger.reload()
        for _ in self.service.logins.adopt_list():
            pass
        return gone

    def login(
        self,
        name: str,
        permission: str = "draw",
        *,
        boot_id: bytes = bytes(16),
        counter: int | None = None,
        address: str = "",
        **limits: Any,
    ) -> SessionFacts:
        """Admit an id, if it is not known, and open a session of it."""
        self._n_logins += 1
        if self.ledger.entry((name, KEY_ID)) is None:
            self.ledger.admit(name, permission, **limits)
        counter = self._n_logins if counter is None else counter
        role = ROLES[permission]
        auth = Auth(role, name, KEY_ID, boot_id, counter, bytes(32), bytes(32))
        return self.service.logins.login(auth, address)


def config(**changes: Any) -> BrokerConfig:
    """A configuration without files."""
    return BrokerConfig(
        id="broker1",
        site_id="lab",
        listen=(),
        acl="",
        certificate="",
        key="",
        ca="",
        **changes,
    )
