"""A fleet on loopback with a gateway, and readers that speak EGD to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from entropy.authority import Issued
from entropy.broker.server import Broker
from entropy.gateways.config import CloneConfig, EgdConfig, GatewayConfig
from entropy.gateways.egd import EgdGateway
from entropy.wire.codes import Role
from entropy.wire.frames import FEED_LIMIT_BLOCKS, Accepted
from tests.broker.fleet import PATIENCE_SECONDS, Fleet, feed, until

__all__ = ["PATIENCE_SECONDS", "Site", "asked", "reading", "until"]

WORTH_BYTES = 56  # of each block: 448 bits
FAST = {"rate_bytes_per_second": 100_000, "burst_bytes": 100_000}
FAST_IN_ALL = {"total_rate_bytes_per_second": 100_000, "total_burst_bytes": 100_000}


class Site:
    """A broker without a feeder, and a gateway gw1 at a socket of the file system."""

    def __init__(self, folder: Path, authority: Issued) -> None:
        self.folder = folder
        self.fleet = Fleet(folder, authority)
        self.fleet.credential("gw1", "draw", rate_bytes_per_second=1_000_000, burst_bytes=1_000_000)
        self.fleet.credential("rng1", "feed", credit_bits_per_second=10_000_000)
        self.socket = folder / "egd.sock"
        self.generation = folder / "generation"
        self.generation.write_text("1")
        self.said: list[str] = []
        self._sequence = 0
        self._feeders: dict[str, Any] = {}

    def config(self, *brokers: Broker | str, **changes: Any) -> GatewayConfig:
        endpoints = [b if isinstance(b, str) else b.addresses[0] for b in brokers]
        egd = changes.pop("egd", {**FAST, **FAST_IN_ALL})
        listen = changes.pop("listen", (f"unix:{self.socket}",))
        values: dict[str, Any] = {
            "site_id": "lab",
            "credential": str(self.folder / "gw1.json"),
            "ca": str(self.folder / "ca.pem"),
            "brokers": tuple(endpoints),
            "egd": EgdConfig(listen=listen, **egd),
            "buffer_bytes": 2 * WORTH_BYTES,
            "clone": CloneConfig(str(self.generation)),
        }
        return GatewayConfig(**{**values, **changes})

    @asynccontextmanager
    async def gateway(self, *brokers: Broker | str, **changes: Any) -> AsyncIterator[EgdGateway]:
        gateway = EgdGateway(
            self.config(*brokers, **changes), say=lambda text, priority: self.said.append(text)
        )
        await gateway.start()
        try:
            yield gateway
            for task in gateway.tasks:
                assert not task.done()
        finally:
            await gateway.stop()

    async def feed(self, broker: Broker, n_blocks: int) -> None:
        """So many fresh blocks for the broker."""
        connection = self._feeders.get(broker.addresses[0])
        if connection is None:
            credential = self.fleet.credentials["rng1"]
            connection = await self.fleet.connect(broker, credential, Role.FEEDER)
            self._feeders[broker.addresses[0]] = connection
        while n_blocks:
            n = min(n_blocks, FEED_LIMIT_BLOCKS)
            reply = await connection.request(feed(n, sequence=self._sequence))
            assert isinstance(reply, Accepted)
            assert reply.credited_bits == 512 * n
            self._sequence += n
            n_blocks -= n


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def reading(where: Path | str) -> AsyncIterator[Streams]:
    """A connection to a gateway, at a path or an endpoint."""
    if isinstance(where, Path):
        streams = await asyncio.open_unix_connection(where)
    else:
        host, _, port = where.rpartition(":")
        streams = await asyncio.open_connection(host, int(port))
    try:
        yield streams
    finally:
        streams[1].close()


async def asked(streams: Streams, command: bytes, n_bytes: int) -> bytes:
    """The next `n_bytes` after a command."""
    streams[1].write(command)
    async with asyncio.timeout(PATIENCE_SECONDS):
        return await streams[0].readexactly(n_bytes)
