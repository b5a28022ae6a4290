"""A connection without TLS: what a session needs of it, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Awaitable, Callable

import pytest

from entropy.errors import TransportError
from entropy.transport import plain_stream
from entropy.transport.plain_stream import PlainStream

Use = Callable[[PlainStream, PlainStream], Awaitable[None]]


def joined(use: Use) -> None:
    """Runs `use` with both ends of one connection."""

    async def run() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            one = socket.create_connection(listener.getsockname())
            two = listener.accept()[0]
        for sock in (one, two):
            sock.setblocking(False)
        ends = PlainStream(one, "127.0.0.1"), PlainStream(two, "127.0.0.1")
        try:
            async with asyncio.timeout(60):
                await use(*ends)
        finally:
            for end in ends:
                end.close()

    asyncio.run(run())


def test_all_comes_and_the_end_too() -> None:
    data = os.urandom(3_000_000)

    async def use(one: PlainStream, two: PlainStream) -> None:
        sending = asyncio.create_task(one.send(data))
        received = bytearray()
        while len(received) < len(data):
            received += await two.receive()
        await sending
        assert received == data
        one.close()
        assert await two.receive() == b""
        assert two.certificate_sha256 == bytes(32)

    joined(use)


def test_after_its_end() -> None:
    async def use(one: PlainStream, two: PlainStream) -> None:
        one.close()
        one.close()
        assert one.closed
        assert await one.receive() == b""
        with pytest.raises(TransportError, match="closed"):
            await one.send(b"hello")

    joined(use)


def test_abort_throws_away_what_has_not_left() -> None:
    async def use(one: PlainStream, two: PlainStream) -> None:
        sending = asyncio.create_task(one.send(bytes(20_000_000)))
        await asyncio.sleep(0)
        one.abort()
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        n_bytes = 0
        with contextlib.suppress(TransportError):
            while part := await two.receive():
                n_bytes += len(part)
        assert n_bytes < 20_000_000

    joined(use)


def test_a_peer_that_takes_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain_stream, "_SEND_SECONDS", 0.05)

    async def use(one: PlainStream, two: PlainStream) -> None:
        with pytest.raises(TransportError, match="timed out"):
            await one.send(bytes(20_000_000))
        assert one.closed

    joined(use)
