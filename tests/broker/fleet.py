"""A small fleet on loopback for the broker's tests: an authority, credentials, real brokers."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from entropy.authority import Issued, issue_broker
from entropy.broker.server import Broker
from entropy.config import (
    AdminConfig,
    BrokerConfig,
    LimitsConfig,
    PeerConfig,
    ReservoirConfig,
)
from entropy.credentials import (
    Credential,
    acl_entry,
    dump_credential,
    entry_as_json,
    new_credential,
)
from entropy.transport.aio import AsyncClientConnection
from entropy.transport.tls import client_context
from entropy.wire.codes import DrawKind, Role
from entropy.wire.frames import Block, Draw, Feed
from entropy.wire.keys import derive

PATIENCE_SECONDS = 20.0  # for a condition that a busy machine may delay; nothing waits so long


async def until(condition: Callable[[], object]) -> None:
    """Let the loop turn until the condition holds."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        await asyncio.sleep(0.002)


class Fleet:
    """The files of a site, in one folder."""

    def __init__(self, folder: Path, authority: Issued) -> None:
        self.folder = folder
        self.authority = authority
        self.credentials: dict[str, Credential] = {}
        self.second_keys: list[Credential] = []
        self.limits: dict[str, dict[str, Any]] = {}
        self.generation = 0
        self.lines: list[str] = []  # what the brokers said
        self.priorities: dict[str, int] = {}  # of each line
        self._counter = 0
        self._connections: list[AsyncClientConnection] = []
        (folder / "ca.pem").write_bytes(authority.certificate_pem)

    def _say(self, text: str, priority: int) -> None:
        self.lines.append(text)
        self.priorities[text] = priority

    def credential(self, name: str, *permissions: str, **limits: Any) -> Credential:
        made = new_credential(name, "lab", list(permissions))
        self.credentials[name] = made
        self.limits[name] = limits
        self.secret(f"{name}.json", dump_credential(made).encode())
        self.publish()
        return made

    def second_key(self, name: str) -> Credential:
        """Another key for an id, valid beside the first."""
        permissions = self.credentials[name].permissions
        self.second_keys.append(new_credential(name, "lab", permissions))
        self.publish()
        return self.second_keys[-1]

    def revoke(self, name: str) -> None:
        del self.credentials[name]
        self.publish()

    def publish(self) -> None:
        self.generation += 1
        entries = [
            entry_as_json(acl_entry(credential, **self.limits[credential.id]))
            for credential in (*self.credentials.values(), *self.second_keys)
        ]
        acl = {"version": 1, "site_id": "lab", "generation": self.generation, "entries": entries}
        self.secret("acl.json", json.dumps(acl).encode())

    def secret(self, name: str, data: bytes, mode: int = 0o600) -> str:
        path = self.folder / name
        path.touch(0o600)
        path.write_bytes(data)
        path.chmod(mode)
        return str(path)

    def config(self, name: str = "broker1", **changes: Any) -> BrokerConfig:
        issued = issue_broker(self.authority, name, "lab")
        (self.folder / f"{name}.pem").write_bytes(issued.certificate_pem)
        self.secret(f"{name}.key", issued.key_pem)
        config = BrokerConfig(
            id=name,
            site_id="lab",
            listen=("127.0.0.1:0",),
            acl=str(self.folder / "acl.json"),
            certificate=str(self.folder / f"{name}.pem"),
            key=str(self.folder / f"{name}.key"),
            ca=str(self.folder / "ca.pem"),
            control_socket=str(self.folder / f"{name}.sock"),
            reservoir=ReservoirConfig(64, 8, 16),
            limits=LimitsConfig(max_wait_seconds=10),
            admin=AdminConfig(""),
            state_dir=str(self.folder),
        )
        return dataclasses.replace(config, **changes)

    @asynccontextmanager
    async def broker(
        self, name: str = "broker1", random: Callable[[int], bytes] = os.urandom, **changes: Any
    ) -> AsyncIterator[Broker]:
        if "acl.json" not in os.listdir(self.folder):
            self.publish()
        broker = Broker(self.config(name, **changes), random=random, say=self._say)
        await broker.start()
        try:
            yield broker
        finally:
            for connection in self._connections:
                connection.close()
            await broker.stop()

    def peer(self, name: str, broker: Broker, credential: str) -> PeerConfig:
        return PeerConfig(name, broker.addresses[0], str(self.folder / f"{credential}.json"))

    async def connect(
        self,
        broker: Broker,
        credential: Credential,
        role: Role = Role.CLIENT,
        *,
        boot_id: bytes = bytes(16),
        counter: int | None = None,
    ) -> AsyncClientConnection:
        self._counter += 1
        connection = await AsyncClientConnection.connect(
            broker.addresses[0],
            context=client_context(str(self.folder / "ca.pem"), check_dates=True),
            credential=credential,
            keys=derive(credential.secret),
            role=role,
            boot_id=boot_id,
            counter=self._counter if counter is None else counter,
            nonce=os.urandom(32),
            timeout_seconds=PATIENCE_SECONDS,
        )
        self._connections.append(connection)
        return connection


def blocks(n: int) -> tuple[bytes, ...]:
    return tuple(os.urandom(64) for _ in range(n))


def feed(n: int, *, sequence: int = 0) -> Feed:
    return Feed(sequence, 512 * n, blocks(n))


def draw(n_bytes: int = 64, *, wait_ms: int = 0, kind: DrawKind = DrawKind.TOPUP) -> Draw:
    return Draw(kind, n_bytes, wait_ms)


def balanced(broker: Broker) -> bool:
    a = broker.service.reservoir.accounting()
    out = a.held_bits + a.delivered_bits + a.exported_bits + a.spent_bits + a.lost_bits
    return a.fed_bits + a.imported_bits == out


def a_block(reply: object) -> Block:
    assert isinstance(reply, Block), reply
    return reply
