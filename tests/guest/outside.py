"""What is outside a guest: a broker, and a gateway that serves EGD to its virtio-rng.

They run on this machine, in a thread of their own. Between QEMU and the gateway stands a tap that
writes down what goes to the guest, so that it can be compared with what arrives there.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any, TypeVar

from entropy.authority import new_authority
from entropy.broker.server import Broker
from entropy.config import SeedsConfig
from entropy.gateways.egd import EgdGateway
from tests.gateways.site import Site

T = TypeVar("T")
PATIENCE_SECONDS = 60


class Outside:
    """A dry broker and a gateway with these limits. Use `with`."""

    def __init__(self, folder: Path, egd: dict[str, int], *, buffer_bytes: int = 1024) -> None:
        self.site = Site(folder, new_authority("lab"))
        self.tap = folder / "tap.sock"
        self.recorded = bytearray()  # all that went to the guest
        self.n_requests = 0  # of the guest, of 0x02
        self.broker: Broker
        self.gateway: EgdGateway
        self._egd = egd
        self._buffer_bytes = buffer_bytes
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._stack = AsyncExitStack()
        self._of_gateway = AsyncExitStack()
        self._links: set[asyncio.Task[None]] = set()

    def __enter__(self) -> Outside:
        self._thread.start()
        self._do(self._start())
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE_SECONDS)
        self._loop.close()

    def feed(self, n_blocks: int) -> None:
        """Give the broker so many blocks."""
        self._do(self.site.feed(self.broker, n_blocks))

    def delivered_bytes(self) -> int:
        """What the broker has booked as given to the gateway."""
        return self._do(self._delivered())

    def apply_list(self) -> None:
        """Let the broker read the list of credentials anew."""
        self._do(self.broker.apply_acl())

    def restart_gateway(self) -> None:
        self._do(self._of_gateway.aclose())
        self._do(self._start_gateway())

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE_SECONDS)

    async def _start(self) -> None:
        seeds = SeedsConfig(("127.0.0.1:0",))
        self.broker = await self._stack.enter_async_context(self.site.fleet.broker(seeds=seeds))
        await self._start_gateway()
        server = await asyncio.start_unix_server(self._link, self.tap)
        self._stack.callback(server.close)

    async def _start_gateway(self) -> None:
        self._of_gateway = AsyncExitStack()
        self.gateway = await self._of_gateway.enter_async_context(
            self.site.gateway(self.broker, egd=self._egd, buffer_bytes=self._buffer_bytes)
        )

    async def _stop(self) -> None:
        for link in self._links:
            link.cancel()
        await asyncio.gather(*self._links, return_exceptions=True)
        await self._of_gateway.aclose()
        await self._stack.aclose()

    async def _delivered(self) -> int:
        clients = {client["id"]: client for client in self.broker.status()["clients"]}
        return int(clients["gw1"]["delivered_bytes"])

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._links.add(task)
        writers = [writer]
        ways: set[asyncio.Future[None]] = set()
        try:
            with suppress(OSError, asyncio.CancelledError):  # the gateway, or the guest, went away
                far = await asyncio.open_unix_connection(self.site.socket)
                writers.append(far[1])
                ways.add(asyncio.ensure_future(self._ask(reader, far[1])))
                ways.add(asyncio.ensure_future(self._answer(far[0], writer)))
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            for one in writers:
                one.close()
                with suppress(OSError):
                    await one.wait_closed()
            self._links.discard(task)

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(4096):
            self.n_requests += data.count(b"\x02")
            writer.write(data)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(4096):
            self.recorded += data
            writer.write(data)
