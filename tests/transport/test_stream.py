"""One TLS connection on the loop: back pressure, cancellation, ends, and no byte lost."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable

import pytest

from entropy.errors import LocalProtocolError, TransportError
from entropy.transport import stream as stream_module
from entropy.transport.aio import TlsStream, connect
from entropy.transport.stream import open_stream
from tests.transport.conftest import Fleet, echo, listening

Use = Callable[[TlsStream, TlsStream], Awaitable[None]]


def joined(fleet: Fleet, use: Use) -> None:
    """Runs `use` with both ends of one connection, client first."""

    async def run() -> None:
        arrived: asyncio.Future[TlsStream] = asyncio.get_running_loop().create_future()
        over = asyncio.Event()

        async def hand_over(stream: TlsStream) -> None:
            arrived.set_result(stream)
            await over.wait()

        async with listening(fleet, hand_over) as server:
            client = await connect(server.addresses[0], fleet.context(), 20)
            try:
                async with asyncio.timeout(60):
                    await use(client, await arrived)
            finally:
                over.set()
                client.close()

    asyncio.run(run())


async def _receive_exactly(stream: TlsStream, n_bytes: int) -> bytes:
    data = bytearray()
    while len(data) < n_bytes:
        part = await stream.receive()
        assert part, "the stream ended early"
        assert len(part) <= 16384
        data += part
    return bytes(data)


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.001)


def test_both_ways_at_once_and_more_than_the_buffers_hold(fleet: Fleet) -> None:
    data = os.urandom(3_000_000)

    async def use(client: TlsStream, server: TlsStream) -> None:
        received = await asyncio.gather(
            _receive_exactly(client, len(data)),
            _receive_exactly(server, len(data)),
            client.send(data),
            server.send(data),
        )
        assert received[0] == data
        assert received[1] == data

    joined(fleet, use)


def test_many_records_in_one_segment_all_come(fleet: Fleet) -> None:
    """What is inside OpenSSL or the socket already makes no new readiness event of its own."""

    async def use(client: TlsStream, server: TlsStream) -> None:
        for number in range(100):
            await client.send(bytes((number,)) * 10)
        await asyncio.sleep(0)
        assert await _receive_exactly(server, 1000) == b"".join(
            bytes((number,)) * 10 for number in range(100)
        )

    joined(fleet, use)


def test_a_small_read_size_leaves_nothing_inside_openssl(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_module, "_READ_BYTES", 7)

    async def use(client: TlsStream, server: TlsStream) -> None:
        await client.send(b"x" * 1000)
        assert await _receive_exactly(server, 1000) == b"x" * 1000

    joined(fleet, use)


def test_the_loop_is_not_kept_busy_by_what_nobody_reads(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0
    on_readable = TlsStream._on_readable

    def counting(self: TlsStream) -> None:
        nonlocal calls
        calls += 1
        on_readable(self)

    monkeypatch.setattr(TlsStream, "_on_readable", counting)

    async def use(client: TlsStream, server: TlsStream) -> None:
        receiving = asyncio.create_task(server.receive())
        await asyncio.sleep(0)
        await client.send(b"one")
        assert await receiving == b"one"
        await client.send(b"two")
        before = calls
        for _ in range(50):
            await asyncio.sleep(0)
        assert calls - before <= 3
        assert await server.receive() == b"two"
        # Nor after the end, to which every call returns at once.
        client.close()
        for _ in range(3):
            assert await server.receive() == b""
        before = calls
        for _ in range(50):
            await asyncio.sleep(0)
        assert calls == before

    joined(fleet, use)


def test_a_sender_waits_for_a_reader(fleet: Fleet) -> None:
    async def use(client: TlsStream, server: TlsStream) -> None:
        client._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        server._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        sending = asyncio.create_task(client.send(bytes(3_000_000)))
        await _until(lambda: client._writer is not None)
        received = await _receive_exactly(server, 3_000_000)
        await sending
        assert not any(received)

    joined(fleet, use)


def test_a_peer_that_takes_nothing_is_given_up(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_module, "_SEND_SECONDS", 0.1)

    async def use(client: TlsStream, server: TlsStream) -> None:
        with pytest.raises(TransportError, match="timed out"):
            await server.send(bytes(50_000_000))
        assert server.closed
        with pytest.raises(TransportError, match="is closed"):
            await server.send(b"more")

    joined(fleet, use)


def test_a_cancelled_receive_loses_nothing(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    async def use(client: TlsStream, server: TlsStream) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await server.receive()
        await client.send(b"later")
        assert await server.receive() == b"later"

        # Cancelled in the very step of the loop in which the bytes came.
        receiving = asyncio.create_task(server.receive())
        wake = TlsStream._wake

        def wake_and_cancel(waiter: asyncio.Future[None] | None) -> None:
            wake(waiter)
            receiving.cancel()

        await asyncio.sleep(0)
        monkeypatch.setattr(TlsStream, "_wake", staticmethod(wake_and_cancel))
        await client.send(b"raced")
        with pytest.raises(asyncio.CancelledError):
            await receiving
        monkeypatch.undo()
        assert await server.receive() == b"raced"

    joined(fleet, use)


def test_a_cancelled_send_ends_the_connection(fleet: Fleet) -> None:
    async def use(client: TlsStream, server: TlsStream) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await client.send(bytes(50_000_000))
        assert client.closed
        with contextlib.suppress(TransportError):  # half a record may be there, but never more
            while await server.receive():
                pass

    joined(fleet, use)


def test_half_a_connection(fleet: Fleet) -> None:
    """The other side has ended, in TLS and TCP; what we had to say still gets there."""

    async def run() -> None:
        ended = asyncio.Event()

        async def answer_at_the_end(stream: TlsStream) -> None:
            data = b""
            while part := await stream.receive():
                data += part
            ended.set()
            await stream.send(b"you said " + data)

        async with listening(fleet, answer_at_the_end) as server:
            host, port = server.addresses[0].rsplit(":", 1)
            said = await asyncio.to_thread(_say_and_end, fleet, host, int(port))
            assert ended.is_set()
            assert said == b"you said hello"

    asyncio.run(run())


def _say_and_end(fleet: Fleet, host: str, port: int) -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = fleet.context().wrap_bio(incoming, outgoing)
    said = b""
    with socket.create_connection((host, port), 20) as sock:
        steps = [tls.do_handshake, lambda: tls.write(b"hello"), tls.unwrap]
        while steps:
            try:
                steps[0]()
                steps.pop(0)
            except ssl.SSLWantReadError:
                sock.sendall(outgoing.read())
                if steps[0] is steps[-1] and len(steps) == 1:
                    sock.shutdown(socket.SHUT_WR)
                    break
                incoming.write(sock.recv(65536))
        while data := sock.recv(65536):
            incoming.write(data)
            with contextlib.suppress(ssl.SSLError):
                said += tls.read(100)
    return said


def test_a_connection_cut_in_tcp_is_an_end(fleet: Fleet) -> None:
    async def use(client: TlsStream, server: TlsStream) -> None:
        await client.send(b"before")
        client._socket.shutdown(socket.SHUT_RDWR)
        assert await _receive_exactly(server, 6) == b"before"
        assert await server.receive() == b""

    joined(fleet, use)


def test_a_connection_that_is_reset_is_over(fleet: Fleet) -> None:
    async def use(client: TlsStream, server: TlsStream) -> None:
        receiving = asyncio.create_task(server.receive())
        await asyncio.sleep(0)
        linger = struct.pack("ii", 1, 0)
        client._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        client._unwatch()
        client._socket.close()
        client._fd = -1
        # Python 3.10 to 3.12 report a reset as an end; either will do, for the wire tells apart.
        with contextlib.suppress(TransportError):
            assert await receiving == b""
        with contextlib.suppress(TransportError):
            assert await server.receive() == b""
        with pytest.raises(TransportError):
            await server.send(b"x")
        assert server.closed

    joined(fleet, use)


def test_altered_tls_is_an_error(fleet: Fleet) -> None:
    async def use(client: TlsStream, server: TlsStream) -> None:
        plain = socket.socket(fileno=os.dup(client._fd))
        plain.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))
        plain.close()
        with pytest.raises(TransportError, match="TLS"):
            await server.receive()

    joined(fleet, use)


def test_close_wakes_who_waits(fleet: Fleet) -> None:
    async def use(client: TlsStream, server: TlsStream) -> None:
        receiving = asyncio.create_task(server.receive())
        sending = asyncio.create_task(server.send(bytes(50_000_000)))
        await _until(lambda: server._writer is not None)
        assert server._reader is not None
        server.close()
        server.close()
        assert await receiving == b""
        with pytest.raises(TransportError, match="is closed"):
            await sending
        assert server.closed

    joined(fleet, use)


def test_two_tasks_may_not_do_the_same(fleet: Fleet) -> None:
    async def use(client: TlsStream, server: TlsStream) -> None:
        receiving = asyncio.create_task(server.receive())
        sending = asyncio.create_task(server.send(bytes(50_000_000)))
        await _until(lambda: server._writer is not None)
        assert server._reader is not None
        with pytest.raises(LocalProtocolError):
            await server.receive()
        with pytest.raises(LocalProtocolError):
            await server.send(b"x")
        for task in (receiving, sending):
            task.cancel()
        await asyncio.gather(receiving, sending, return_exceptions=True)

    joined(fleet, use)


def test_openssl_may_want_to_write_while_reading_and_the_reverse(fleet: Fleet) -> None:
    """TLS 1.3 seldom does; so a socket that says so stands in for it."""

    class Contrary:
        def __init__(self, sock: ssl.SSLSocket) -> None:
            self._sock = sock
            self.first_recv = self.first_send = True

        def recv(self, n_bytes: int) -> bytes:
            if self.first_recv:
                self.first_recv = False
                raise ssl.SSLWantWriteError
            return self._sock.recv(n_bytes)

        def send(self, data: bytes) -> int:
            if self.first_send:
                self.first_send = False
                raise ssl.SSLWantReadError
            return self._sock.send(data)

        def __getattr__(self, name: str) -> object:
            return getattr(self._sock, name)

    async def use(client: TlsStream, server: TlsStream) -> None:
        server._socket = Contrary(server._socket)  # type: ignore[assignment]
        receiving = asyncio.create_task(server.receive())
        sending = asyncio.create_task(server.send(b"answer"))
        await client.send(b"question")
        assert await receiving == b"question"
        await client.send(b"more")
        await sending
        assert await client.receive() == b"answer"
        assert await server.receive() == b"more"

    joined(fleet, use)


def test_a_socket_that_cannot_be_wrapped_is_closed(fleet: Fleet) -> None:
    async def run() -> None:
        one, other = socket.socketpair()  # no TCP options there
        with other:
            with pytest.raises(OSError, match="not supported"):
                open_stream(one, fleet.context(), "x", server_side=False)
            assert one.fileno() == -1

    asyncio.run(run())


@pytest.mark.parametrize("said", [b"", b"some of a handshake"])
def test_a_connection_that_was_reset_is_closed_and_not_left_lying_about(
    fleet: Fleet, said: bytes
) -> None:
    """A socket that is left to the garbage collector is a warning, and warnings are errors."""

    async def run() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            with socket.create_connection(listener.getsockname()) as other:
                other.sendall(said)
                other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock, _ = listener.accept()
        sock.setblocking(False)
        with pytest.raises(OSError, match="not connected"):
            open_stream(sock, fleet.context(), "x", server_side=False)
        assert sock.fileno() == -1

    asyncio.run(run())


def test_idle_connections_share_nothing(fleet: Fleet) -> None:
    """Many at once: each gets its own bytes back."""

    async def run() -> None:
        async with listening(fleet, echo) as server:
            streams = await asyncio.gather(
                *(connect(server.addresses[0], fleet.context(), 20) for _ in range(50))
            )
            await _until(lambda: server.connections == 50)
            for number, stream in enumerate(streams):
                await stream.send(b"%d" % number)
            for number, stream in enumerate(streams):
                assert await stream.receive() == b"%d" % number
                stream.close()
            await _until(lambda: server.connections == 0)

    asyncio.run(run())


def test_abort_throws_away_what_has_not_left(fleet: Fleet) -> None:
    """Of what the other side has not taken yet it gets no more than the system has sent."""
    data = os.urandom(20_000_000)

    async def use(client: TlsStream, server: TlsStream) -> None:
        sending = asyncio.create_task(server.send(data))
        await _until(lambda: server._writer is not None)  # both buffers are full
        server.abort()
        assert server.closed
        with pytest.raises(TransportError):
            await sending
        n_bytes = 0
        with contextlib.suppress(TransportError):
            while part := await client.receive():
                n_bytes += len(part)
        assert n_bytes < len(data)
        server.abort()  # twice is as well

    joined(fleet, use)
