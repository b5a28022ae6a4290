"""Sessions on asyncio: the daemons' client against both kinds of broker's end."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from typing import Any

import pytest

from entropy import errors
from entropy.errors import LocalProtocolError, RemoteProtocolError, TransportError
from entropy.transport.aio import AsyncClientConnection, TlsStream
from entropy.wire.codes import DrawKind, RefusedCode, RetryReason, Role
from entropy.wire.frames import Accepted, Block, Draw, Feed, Recall, Refused, Retry
from tests.transport.conftest import (
    KEYS,
    REFUSE_BYTES,
    RETRY_BYTES,
    SESSION,
    SILENCE_BYTES,
    STRANGER,
    WELCOME,
    Fleet,
    broker_end,
    listening,
    mini_broker,
    react,
    silent_listener,
)

DRAW = Draw(DrawKind.PEER, 64, 0)


async def connected(fleet: Fleet, endpoint: str, **changed: Any) -> AsyncClientConnection:
    fields = {**SESSION, "role": Role.FEEDER, **changed}
    return await AsyncClientConnection.connect(endpoint, context=fleet.context(), **fields)


def test_a_name_server_that_is_away_does_not_hold_up_the_end(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered = threading.Event()
    real = socket.getaddrinfo

    def hangs(host: str, *rest: Any, **more: Any) -> Any:
        if host == "broker1.example" and not more["flags"] & socket.AI_NUMERICHOST:
            answered.wait(60)
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return real(host, *rest, **more)

    async def run() -> None:
        with pytest.raises(TransportError, match=r"connecting to broker1\.example:1: timed out"):
            await connected(fleet, "broker1.example:1", timeout_seconds=0.05)

    monkeypatch.setattr(socket, "getaddrinfo", hangs)
    try:
        asyncio.run(run())  # which waits for the threads that are the loop's own
        assert not answered.is_set()
        assert "resolver" in [thread.name for thread in threading.enumerate()]
    finally:
        answered.set()


def test_a_name_is_looked_up(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.getaddrinfo

    def names(host: str, *rest: Any, **more: Any) -> Any:
        if host == "broker1.example" and not more["flags"] & socket.AI_NUMERICHOST:
            host = "127.0.0.1"
        if host == "broker9.example":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return real(host, *rest, **more)

    async def run() -> None:
        async with listening(fleet, mini_broker) as server:
            endpoint = server.addresses[0].replace("127.0.0.1", "broker1.example")
            (await connected(fleet, endpoint)).close()
        with pytest.raises(TransportError, match=r"broker9\.example:1: Name or service not known"):
            await connected(fleet, "broker9.example:1")

    monkeypatch.setattr(socket, "getaddrinfo", names)
    asyncio.run(run())


def test_an_address_that_is_silent_leaves_time_for_the_next(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run(silent: socket.socket) -> None:
        async with listening(fleet, mini_broker) as server:
            host, port = server.addresses[0].rsplit(":", 1)
            found = [
                (socket.AF_INET, socket.SOCK_STREAM, 0, "", address)
                for address in (silent.getsockname(), (host, int(port)))
            ]
            monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
            async with asyncio.timeout(20):
                connection = await connected(fleet, "broker1.example:1", timeout_seconds=4)
            assert connection.broker_id == "broker1"
            connection.close()

    with silent_listener() as silent:
        asyncio.run(run(silent))


def test_a_session(fleet: Fleet) -> None:
    async def run() -> None:
        exchanges: list[tuple[Draw | Feed | Recall, object]] = [
            (Feed(5, 16384, tuple(bytes((n,)) * 64 for n in range(32))), Accepted(37, 16384, 1, 2)),
            (Feed(37, 0, ()), Accepted(37, 0, 1, 2)),
            (Recall(6), Accepted(6, 0, 1, 2)),
            (DRAW, Block(1, 8, ("rng1",), b"\xaa" * 64)),
            (DRAW._replace(n_bytes=RETRY_BYTES), Retry(1500, RetryReason.EMPTY)),
            (DRAW._replace(n_bytes=REFUSE_BYTES), Refused(RefusedCode.PERMISSION)),
        ]
        async with (
            listening(fleet, mini_broker) as server,
            await connected(fleet, server.addresses[0]) as connection,
        ):
            assert connection.broker_id == "broker1"
            assert connection.endpoint == server.addresses[0]
            assert connection.welcome._replace(proof=b"") == WELCOME
            for request, answer in exchanges:
                assert not connection.closed
                assert await connection.request(request) == answer
            assert connection.closed
            with pytest.raises(TransportError):
                await connection.request(DRAW)

    asyncio.run(run())


def test_against_a_blocking_broker(fleet: Fleet) -> None:
    """The standard library's own server, so that our two ends do not only fit each other."""
    context = fleet.server()
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(20)
    received = []

    def serve_one() -> None:
        plain, _ = listener.accept()
        with context.wrap_socket(plain, server_side=True) as sock:
            assert sock.version() == "TLSv1.3"
            wire = broker_end(context.certificate_sha256)
            sock.sendall(wire.data_to_send())
            while data := sock.recv(7):
                wire.receive_data(data)
                for message in wire.events():
                    received.append(message)
                    react(wire, message)
                for byte in wire.data_to_send():
                    sock.sendall(bytes((byte,)))

    thread = threading.Thread(target=serve_one)
    thread.start()

    async def run() -> None:
        port = listener.getsockname()[1]
        async with await connected(fleet, f"127.0.0.1:{port}") as connection:
            assert isinstance(await connection.request(DRAW), Block)
            assert isinstance(await connection.request(Feed(0, 0, ())), Accepted)

    try:
        asyncio.run(run())
    finally:
        thread.join()
        listener.close()
    assert received[1:] == [DRAW, Feed(0, 0, ())]


def test_a_wrong_credential(fleet: Fleet) -> None:
    async def run() -> None:
        async with listening(fleet, mini_broker) as server:
            with pytest.raises(errors.Refused) as refused:
                await connected(fleet, server.addresses[0], keys=STRANGER)
            assert refused.value.code is RefusedCode.AUTHENTICATION

    asyncio.run(run())


def test_one_request_at_a_time(fleet: Fleet) -> None:
    async def run() -> None:
        async with listening(fleet, mini_broker) as server:
            connection = await connected(fleet, server.addresses[0])
            first = asyncio.create_task(connection.request(DRAW._replace(n_bytes=SILENCE_BYTES)))
            await asyncio.sleep(0)
            with pytest.raises(LocalProtocolError):
                await connection.request(DRAW)
            with pytest.raises((TransportError, RemoteProtocolError)):
                await first  # that was a bug of ours: the session is over

    asyncio.run(run())


def test_deadlines(fleet: Fleet) -> None:
    silence = DRAW._replace(n_bytes=SILENCE_BYTES)

    async def run() -> None:
        async with listening(fleet, mini_broker) as server:
            endpoint = server.addresses[0]
            connection = await connected(fleet, endpoint)
            with pytest.raises(TransportError, match=f"talking to {endpoint}: timed out"):
                await connection.request(silence, timeout_seconds=0.05)
            assert connection.closed
            # What a draw would wait comes on top.
            connection = await connected(fleet, endpoint)
            connection._timeout_seconds = 0.05
            started = asyncio.get_running_loop().time()
            with pytest.raises(TransportError, match="timed out"):
                await connection.request(silence._replace(wait_ms=100))
            assert asyncio.get_running_loop().time() - started >= 0.15

    asyncio.run(run())


def test_a_cancelled_request_ends_the_session(fleet: Fleet) -> None:
    async def run() -> None:
        async with listening(fleet, mini_broker) as server:
            connection = await connected(fleet, server.addresses[0])
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await connection.request(DRAW._replace(n_bytes=SILENCE_BYTES))
            assert connection.closed

    asyncio.run(run())


def test_a_goodbye_between_requests(fleet: Fleet) -> None:
    said = asyncio.Event()

    async def welcome_and_leave(stream: TlsStream) -> None:
        wire = broker_end(stream.certificate_sha256)
        await stream.send(wire.data_to_send())
        while not wire.events():
            wire.receive_data(await stream.receive())
        wire.authenticate(KEYS.public, KEYS.psk)
        wire.welcome(WELCOME)
        await stream.send(wire.data_to_send())
        wire.refuse(RefusedCode.SHUTDOWN)
        await stream.send(wire.data_to_send())
        said.set()
        await stream.receive()

    async def run() -> None:
        async with listening(fleet, welcome_and_leave) as server:
            connection = await connected(fleet, server.addresses[0])
            await said.wait()
            assert await connection.request(DRAW) == Refused(RefusedCode.SHUTDOWN)
            assert connection.closed

    asyncio.run(run())


def test_a_broker_that_vanishes(fleet: Fleet) -> None:
    async def run() -> None:
        async with listening(fleet, mini_broker) as server:
            connection = await connected(fleet, server.addresses[0])
            assert isinstance(await connection.request(DRAW), Block)
        with pytest.raises((TransportError, RemoteProtocolError)):
            await connection.request(DRAW)
        assert connection.closed
        with pytest.raises(TransportError, match="refused"):
            await connected(fleet, server.addresses[0])

    asyncio.run(run())


@pytest.mark.parametrize("stop", ["silence", "garbage", "end"])
def test_a_server_that_is_no_broker(fleet: Fleet, stop: str) -> None:
    async def babble(stream: TlsStream) -> None:
        if stop == "garbage":
            await stream.send(b"\xff" * 5)
        if stop != "end":
            await stream.receive()

    async def run() -> None:
        async with listening(fleet, babble) as server:
            seconds, error = (0.1, TransportError) if stop == "silence" else (20, None)
            with pytest.raises(error or RemoteProtocolError):
                await connected(fleet, server.addresses[0], timeout_seconds=seconds)

    asyncio.run(run())


def test_a_server_that_accepts_and_is_silent(fleet: Fleet) -> None:
    async def run() -> None:
        with socket.create_server(("127.0.0.1", 0)) as sock:
            endpoint = f"127.0.0.1:{sock.getsockname()[1]}"
            with pytest.raises(TransportError, match=f"connecting to {endpoint}: timed out"):
                await connected(fleet, endpoint, timeout_seconds=0.1)

    asyncio.run(run())


def test_a_context_without_our_protocol_is_not_enough(fleet: Fleet) -> None:
    async def run() -> None:
        async with listening(fleet, mini_broker) as server:
            context = ssl.create_default_context(cafile=str(fleet.ca_path))
            context.check_hostname = False
            with pytest.raises((RemoteProtocolError, TransportError)):
                await AsyncClientConnection.connect(server.addresses[0], context=context, **SESSION)

    asyncio.run(run())
