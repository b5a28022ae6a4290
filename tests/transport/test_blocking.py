"""The client's transport against a real broker's end on asyncio, and against worse."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest

from entropy import errors
from entropy.errors import (
    AuthenticationError,
    ConfigError,
    RemoteProtocolError,
    RetryLater,
    TransportError,
)
from entropy.transport import blocking
from entropy.transport.aio import TlsStream
from entropy.transport.blocking import BlockingConnection
from entropy.wire.codes import DrawKind, RefusedCode, RetryReason
from entropy.wire.frames import Block
from tests.transport.conftest import (
    HAS_IPV6,
    KEYS,
    REFUSE_BYTES,
    RETRY_BYTES,
    SESSION,
    SILENCE_BYTES,
    STRANGER,
    WELCOME,
    Fleet,
    Handler,
    broker_end,
    listening,
    mini_broker,
    silent_listener,
)


def against(fleet: Fleet, handler: Handler, use: Callable[[str], None], **options: Any) -> None:
    """Runs `use` with the endpoint of a server, in a thread of its own."""

    async def run() -> None:
        async with listening(fleet, handler, **options) as server:
            await asyncio.to_thread(use, server.addresses[0])

    asyncio.run(run())


def connected(fleet: Fleet, endpoint: str, **changed: Any) -> BlockingConnection:
    return BlockingConnection.connect(endpoint, context=fleet.context(), **{**SESSION, **changed})


def test_a_session(fleet: Fleet) -> None:
    def use(endpoint: str) -> None:
        with connected(fleet, endpoint, broker_id="broker1") as connection:
            assert connection.broker_id == "broker1"
            assert connection.welcome._replace(proof=b"") == WELCOME
            for n_bytes in (64, 1, 4096):
                block = connection.draw(DrawKind.SEED, n_bytes, 0)
                assert block == Block(1, 8, ("rng1",), b"\xaa" * n_bytes)
            with pytest.raises(RetryLater) as later:
                connection.draw(DrawKind.TOPUP, RETRY_BYTES, 1)
            assert (later.value.after_seconds, later.value.why) == (1.5, RetryReason.EMPTY)
            assert connection.draw(DrawKind.TOPUP, 32, 0)  # and it goes on
            with pytest.raises(errors.Refused) as refused:
                connection.draw(DrawKind.TOPUP, REFUSE_BYTES, 0)
            assert refused.value.code is RefusedCode.PERMISSION

    against(fleet, mini_broker, use)


def test_a_name(fleet: Fleet) -> None:
    def use(endpoint: str) -> None:
        port = endpoint.rpartition(":")[2]
        with connected(fleet, f"localhost:{port}") as connection:
            assert connection.draw(DrawKind.SEED, 8, 0)

    against(fleet, mini_broker, use)


@pytest.mark.skipif(not HAS_IPV6, reason="this machine has no IPv6 on its loopback")
def test_ipv6(fleet: Fleet) -> None:
    def use(endpoint: str) -> None:
        assert endpoint.startswith("[::1]:")
        connected(fleet, endpoint).close()

    against(fleet, mini_broker, use, endpoint="[::1]:0")


@pytest.mark.parametrize(
    "changed", [{"keys": STRANGER}, {"keys": KEYS._replace(psk=b"?" * 32)}, {"key": b"?" * 8}]
)
def test_a_wrong_credential(fleet: Fleet, changed: dict[str, Any]) -> None:
    if "key" in changed:
        changed = {"credential": SESSION["credential"]._replace(key_id=changed["key"])}

    def use(endpoint: str) -> None:
        with pytest.raises(errors.Refused) as refused:
            connected(fleet, endpoint, **changed)
        assert refused.value.code is RefusedCode.AUTHENTICATION

    against(fleet, mini_broker, use)


def test_another_broker_than_the_one_wanted(fleet: Fleet) -> None:
    def use(endpoint: str) -> None:
        with pytest.raises(AuthenticationError, match="broker2 was to answer"):
            connected(fleet, endpoint, broker_id="broker2")

    against(fleet, mini_broker, use)


def test_nobody_listens(fleet: Fleet) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    with pytest.raises(TransportError, match=rf"connecting to 127\.0\.0\.1:{port}: .*refused"):
        connected(fleet, f"127.0.0.1:{port}")


def test_a_first_packet_that_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocking, "_TRY_SECONDS", 0.02)
    made: list[socket.socket] = []
    keep = socket.socket

    def opened(*arguments: Any) -> socket.socket:
        made.append(keep(*arguments))
        if len(made) == 3:  # whoever has the address now takes connections
            server.listen(16)
        return made[-1]

    with contextlib.ExitStack() as open_until_end:
        server = open_until_end.enter_context(keep())
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        port = server.getsockname()[1]
        for _ in range(2):  # its queue is full, so it drops what comes
            filler = open_until_end.enter_context(keep())
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        monkeypatch.setattr(socket, "socket", opened)
        connected = blocking.connect_tcp(f"127.0.0.1:{port}", "here", time.monotonic() + 10)
        open_until_end.enter_context(connected)
        assert len(made) >= 3
        assert connected.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


def test_what_is_no_endpoint(fleet: Fleet) -> None:
    with pytest.raises(ConfigError):
        connected(fleet, "broker1")


def test_a_name_that_is_none(fleet: Fleet) -> None:
    with pytest.raises(TransportError, match=r"connecting to no\.such\.invalid:1"):
        connected(fleet, "no.such.invalid:1")


def _fails_soon(fleet: Fleet, endpoint: str) -> None:
    """The deadline holds: no peer keeps us for longer, whatever it does."""
    started = time.monotonic()
    with pytest.raises(TransportError, match="timed out"):
        connected(fleet, endpoint, timeout_seconds=0.2)
    assert time.monotonic() - started >= 0.2


def test_a_server_that_accepts_and_is_silent(fleet: Fleet) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        _fails_soon(fleet, f"127.0.0.1:{sock.getsockname()[1]}")


def test_a_server_that_is_silent_in_tls(fleet: Fleet) -> None:
    async def silent(stream: TlsStream) -> None:
        await stream.receive()

    against(fleet, silent, lambda endpoint: _fails_soon(fleet, endpoint))


def test_a_server_that_drips(fleet: Fleet) -> None:
    async def drip(stream: TlsStream) -> None:
        for byte in broker_end(stream.certificate_sha256).data_to_send():
            await stream.send(bytes((byte,)))
            await asyncio.sleep(0.02)

    against(fleet, drip, lambda endpoint: _fails_soon(fleet, endpoint))


def test_a_draw_has_a_deadline(fleet: Fleet) -> None:
    def use(endpoint: str) -> None:
        connection = connected(fleet, endpoint)
        connection._timeout_seconds = 0.1
        with pytest.raises(TransportError, match="timed out"):
            connection.draw(DrawKind.SEED, SILENCE_BYTES, 0.1)
        with pytest.raises(TransportError):  # it closed itself
            connection.draw(DrawKind.SEED, 8, 0)

    against(fleet, mini_broker, use)


@pytest.mark.parametrize("n_bytes", [0, 1, 50])
def test_a_server_that_hangs_up(fleet: Fleet, n_bytes: int) -> None:
    async def hang_up(stream: TlsStream) -> None:
        await stream.send(broker_end(stream.certificate_sha256).data_to_send()[:n_bytes])

    def use(endpoint: str) -> None:
        with pytest.raises(TransportError, match="hung up"):
            connected(fleet, endpoint)

    against(fleet, hang_up, use)


@pytest.mark.parametrize("junk", [b"HTTP/1.1 400 Bad Request\r\n\r\n", bytes(600), b"\xff" * 5])
def test_a_server_that_says_something_else(fleet: Fleet, junk: bytes) -> None:
    async def babble(stream: TlsStream) -> None:
        await stream.send(junk)
        await stream.receive()

    def use(endpoint: str) -> None:
        with pytest.raises(RemoteProtocolError):
            connected(fleet, endpoint)

    against(fleet, babble, use)


def test_a_server_that_speaks_no_tls(fleet: Fleet) -> None:
    async def run() -> None:
        async def hello(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"220 mail ready\r\n")
            with contextlib.suppress(OSError):
                await writer.drain()
            writer.close()

        async with await asyncio.start_server(hello, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            with pytest.raises(TransportError):
                await asyncio.to_thread(connected, fleet, f"127.0.0.1:{port}")

    asyncio.run(run())


def test_a_goodbye_that_came_with_an_answer(fleet: Fleet) -> None:
    async def answer_and_leave(stream: TlsStream) -> None:
        wire = broker_end(stream.certificate_sha256)
        await stream.send(wire.data_to_send())
        while not wire.events():
            wire.receive_data(await stream.receive())
        wire.authenticate(KEYS.public, KEYS.psk)
        wire.welcome(WELCOME)
        await stream.send(wire.data_to_send())
        while not wire.events():
            wire.receive_data(await stream.receive())
        wire.send(Block(1, 8, (), b"x"))
        wire.refuse(RefusedCode.SHUTDOWN)
        await stream.send(wire.data_to_send())

    def use(endpoint: str) -> None:
        connection = connected(fleet, endpoint)
        assert connection.draw(DrawKind.SEED, 1, 0).data == b"x"
        with pytest.raises(errors.Refused) as refused:
            connection.draw(DrawKind.SEED, 1, 0)
        assert refused.value.code is RefusedCode.SHUTDOWN

    against(fleet, answer_and_leave, use)


def test_an_address_that_is_silent_leaves_time_for_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(blocking, "_TRY_SECONDS", 0.02)
    with contextlib.ExitStack() as open_until_end:
        silent = open_until_end.enter_context(silent_listener())
        good = open_until_end.enter_context(socket.create_server(("127.0.0.1", 0)))
        found = [
            (socket.AF_INET, socket.SOCK_STREAM, 0, "", sock.getsockname())
            for sock in (silent, good)
        ]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        connected = blocking.connect_tcp("broker1:25226", "here", time.monotonic() + 2)
        open_until_end.enter_context(connected)
        assert connected.getpeername() == good.getsockname()
