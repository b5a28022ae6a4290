"""The listening side: limits, deadlines, balancers, and peers that mean no good."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import struct
from typing import Any

import pytest

from entropy.errors import ConfigError, RemoteProtocolError, TransportError
from entropy.transport.aio import Server, TlsStream, connect, serve
from entropy.transport.endpoint import parse_endpoint
from entropy.transport.stream import open_stream
from tests.transport.conftest import HAS_IPV6, Fleet, echo, listening
from tests.transport.test_proxy import TCP_4, TCP_6, header


async def _until(condition: Any) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.001)


async def _plain(server: Server) -> socket.socket:
    """A TCP connection without TLS."""
    host, port = parse_endpoint(server.addresses[0])
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, (host, port))
    return sock


async def _is_hung_up(sock: socket.socket) -> None:
    """Waits until the server has closed; it may have said something before."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(20):
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            while await loop.sock_recv(sock, 65536):
                pass


async def _echoes(fleet: Fleet, sock: socket.socket) -> str | None:
    """Speaks TLS on a plain connection; the server's own address, or None if it hangs up."""
    stream = open_stream(sock, fleet.context(), "server", server_side=False)
    try:
        await stream.handshake(server_side=False)
        await stream.send(b"hello")
        return (await stream.receive()).decode() or None
    except (OSError, TransportError, RemoteProtocolError):
        return None
    finally:
        stream.close()


async def tell_address(stream: TlsStream) -> None:
    await stream.receive()
    await stream.send(stream.peer_address.encode())


def test_addresses(fleet: Fleet) -> None:
    async def run() -> None:
        async with listening(fleet, tell_address) as server:
            (address,) = server.addresses
            host, port = parse_endpoint(address)
            assert (host, port > 0) == ("127.0.0.1", True)
            assert await _echoes(fleet, await _plain(server)) == "127.0.0.1"

    asyncio.run(run())


def test_where_one_cannot_listen(fleet: Fleet) -> None:
    async def run() -> None:
        async with listening(fleet, echo) as server:
            with pytest.raises(TransportError, match=r"cannot listen on .*in use"):
                await serve(server.addresses[0], fleet.server(), echo)
        with pytest.raises(TransportError, match="cannot listen on 192"):
            await serve("192.0.2.1:0", fleet.server(), echo)
        with pytest.raises(ConfigError):
            await serve("127.0.0.1", fleet.server(), echo)
        with pytest.raises(ConfigError, match="not an address of a balancer"):
            await serve("127.0.0.1:0", fleet.server(), echo, proxy_from=["haproxy"])

    asyncio.run(run())


def test_a_limit_for_each_address(fleet: Fleet) -> None:
    async def run() -> None:
        async with listening(fleet, echo, max_connections_per_address=2) as server:
            streams = [await connect(server.addresses[0], fleet.context(), 20) for _ in range(2)]
            sock = await _plain(server)
            await _is_hung_up(sock)
            sock.close()
            assert server.over_limit == 1
            streams.pop().close()
            await _until(lambda: server.connections == 1)
            assert await _echoes(fleet, await _plain(server)) == "hello"
            for stream in streams:
                stream.close()
            await _until(lambda: server.connections == 0)
            assert not server._per_network

    asyncio.run(run())


def test_a_limit_for_all(fleet: Fleet) -> None:
    async def run() -> None:
        async with listening(fleet, echo, max_connections=1) as server:
            stream = await connect(server.addresses[0], fleet.context(), 20)
            sock = await _plain(server)
            await _is_hung_up(sock)
            sock.close()
            assert (server.over_limit, server.connections) == (1, 1)
            stream.close()

    asyncio.run(run())


@pytest.mark.parametrize("said", [b"", b"\x16", b"\x16\x03\x01\x00\xff" + bytes(20)])
def test_who_does_not_finish_the_handshake_is_hung_up(fleet: Fleet, said: bytes) -> None:
    handled = []

    async def note(stream: TlsStream) -> None:
        handled.append(stream)

    async def run() -> None:
        async with listening(fleet, note, handshake_seconds=0.1) as server:
            sock = await _plain(server)
            await asyncio.get_running_loop().sock_sendall(sock, said)
            await _is_hung_up(sock)
            sock.close()
            await _until(lambda: server.connections == 0)
            assert server.failed_handshakes == 1
        assert not handled

    asyncio.run(run())


def test_who_drips_the_handshake_is_hung_up_in_the_same_time(fleet: Fleet) -> None:
    async def run() -> None:
        async with listening(fleet, echo, handshake_seconds=0.1) as server:
            sock, n_sent = await _plain(server), 0
            with contextlib.suppress(OSError):
                for byte in b"\x16\x03\x01\x01\x00" + bytes(255):
                    await asyncio.get_running_loop().sock_sendall(sock, bytes((byte,)))
                    n_sent += 1
                    await asyncio.sleep(0.01)
            sock.close()
            await _until(lambda: server.connections == 0)
            assert n_sent < 100
            assert server.failed_handshakes == 1

    asyncio.run(run())


def test_the_time_for_the_handshake_does_not_bound_the_session(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        async with listening(fleet, echo) as server:
            stream = await connect(server.addresses[0], fleet.context(), 20)
            await _until(lambda: server.connections == 1)
            await stream.send(b"hello")
            assert await stream.receive() == b"hello"
            loop = asyncio.get_running_loop()
            now = loop.time
            monkeypatch.setattr(loop, "time", lambda: now() + 3600)
            for _ in range(3):
                await asyncio.sleep(0.001)  # what is due by now runs
            await stream.send(b"still here")
            assert await stream.receive() == b"still here"
            stream.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    "junk", [b"GET / HTTP/1.1\r\n\r\n", bytes(1000), b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00"]
)
def test_garbage_does_not_stop_the_server(fleet: Fleet, junk: bytes) -> None:
    async def run() -> None:
        async with listening(fleet, echo) as server:
            for _ in range(3):
                sock = await _plain(server)
                await asyncio.get_running_loop().sock_sendall(sock, junk)
                await _is_hung_up(sock)
                sock.close()
            sock = await _plain(server)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()  # a reset
            assert await _echoes(fleet, await _plain(server)) == "hello"
            await _until(lambda: server.connections == 0)
            assert server.failed_handshakes == 4
            assert not server._per_network

    asyncio.run(run())


@pytest.mark.parametrize("error", [RemoteProtocolError("theirs"), ConnectionResetError()])
def test_an_error_of_the_peers_ends_its_connection_only(fleet: Fleet, error: Exception) -> None:
    async def fail(stream: TlsStream) -> None:
        raise error

    async def run() -> None:
        async with listening(fleet, fail) as server:
            for _ in range(2):
                assert await _echoes(fleet, await _plain(server)) is None
            await _until(lambda: server.connections == 0)

    asyncio.run(run())


def test_a_bug_in_a_handler_is_told_and_ends_its_connection_only(fleet: Fleet) -> None:
    async def fail(stream: TlsStream) -> None:
        raise KeyError("a bug")

    async def run() -> None:
        told: list[dict[str, Any]] = []
        async with listening(fleet, fail) as server:
            asyncio.get_running_loop().set_exception_handler(lambda _, what: told.append(what))
            for _ in range(2):
                assert await _echoes(fleet, await _plain(server)) is None
            await _until(lambda: server.connections == 0)
        assert [repr(what["exception"]) for what in told] == ["KeyError('a bug')"] * 2

    asyncio.run(run())


def test_close_ends_everything(fleet: Fleet) -> None:
    async def run() -> None:
        cancelled = []

        async def wait(stream: TlsStream) -> None:
            try:
                await stream.receive()
            except asyncio.CancelledError:
                cancelled.append(stream)
                await stream.send(b"goodbye")
                raise

        async with listening(fleet, wait) as server:
            stream = await connect(server.addresses[0], fleet.context(), 20)
            await _until(lambda: server.connections == 1)
            idle = await _plain(server)
            server.close()
            unstarted = asyncio.create_task(_is_hung_up(idle))
            await server.wait_closed()
            assert len(cancelled) == 1
            assert await stream.receive() == b"goodbye"
            assert await stream.receive() == b""
            await unstarted
            idle.close()
            stream.close()
            with pytest.raises(TransportError):
                await connect(server.addresses[0], fleet.context(), 20)

    asyncio.run(run())


def test_a_connection_that_was_accepted_in_the_last_moment(fleet: Fleet) -> None:
    """Its task is cancelled before its first step; its socket must not leak."""

    async def run() -> None:
        async with listening(fleet, echo) as server:
            sock = await _plain(server)
            server._accept(server._sockets[0])
            assert server.connections == 1
            server.close()
            await server.wait_closed()
            await _is_hung_up(sock)
            sock.close()

    asyncio.run(run())


def test_no_descriptors_left(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """The listener pauses, and takes connections again later."""
    monkeypatch.setattr("entropy.transport.listener._NO_DESCRIPTORS_SECONDS", 0.05)

    class Exhausted:
        def __init__(self, sock: socket.socket) -> None:
            self.sock = sock
            self.failures = 0

        def accept(self) -> Any:
            if self.failures < 2:
                self.failures += 1
                raise OSError(errno.EMFILE, "Too many open files")
            return self.sock.accept()

        def fileno(self) -> int:
            return self.sock.fileno()

        def close(self) -> None:
            self.sock.close()

    async def run() -> None:
        async with listening(fleet, echo) as server:
            loop, real = asyncio.get_running_loop(), server._sockets[0]
            exhausted: Any = Exhausted(real)
            loop.remove_reader(real)
            server._sockets[0] = exhausted
            loop.add_reader(exhausted, server._accept, exhausted)
            assert await _echoes(fleet, await _plain(server)) == "hello"
            assert exhausted.failures == 2
            # And a server that is closed while it pauses does not come back.
            exhausted.failures = 1
            sock = await _plain(server)
            await _until(lambda: server._pauses)
            server.close()
            await server.wait_closed()
            await asyncio.sleep(0.06)
            sock.close()

    asyncio.run(run())


# Behind a balancer


@pytest.mark.parametrize(
    ("sent", "address"),
    [
        (header(0x21, 0x11, TCP_4), "10.0.0.7"),
        (header(0x21, 0x21, TCP_6), "2001:db8::7"),
        (header(0x21, 0x11, TCP_4 + bytes(400)), "10.0.0.7"),
        (header(0x20, 0x00, b""), "127.0.0.1"),
        (header(0x21, 0x00, b""), "127.0.0.1"),
    ],
)
@pytest.mark.parametrize("n_bytes", [1, 16, 1000])
def test_the_address_that_the_balancer_tells(
    fleet: Fleet, sent: bytes, address: str, n_bytes: int
) -> None:
    async def run() -> None:
        async with listening(fleet, tell_address, proxy_from=["10.9.9.9", "127.0.0.1"]) as server:
            sock = await _plain(server)
            for at in range(0, len(sent), n_bytes):
                await asyncio.get_running_loop().sock_sendall(sock, sent[at : at + n_bytes])
                await asyncio.sleep(0)
            assert await _echoes(fleet, sock) == address

    asyncio.run(run())


@pytest.mark.skipif(not HAS_IPV6, reason="this machine has no IPv6 on its loopback")
def test_a_balancer_with_ipv6(fleet: Fleet) -> None:
    async def run() -> None:
        options = {"endpoint": "[::1]:0", "proxy_from": ["0:0:0:0:0:0:0:1"]}
        async with listening(fleet, tell_address, **options) as server:
            sock = await _plain(server)
            await asyncio.get_running_loop().sock_sendall(sock, header(0x21, 0x21, TCP_6))
            assert await _echoes(fleet, sock) == "2001:db8::7"

    asyncio.run(run())


def test_only_balancers_may_tell_an_address(fleet: Fleet) -> None:
    async def run() -> None:
        for balancers in ([], ["10.9.9.9"]):
            async with listening(fleet, tell_address, proxy_from=balancers) as server:
                sock = await _plain(server)
                with contextlib.suppress(OSError):
                    await asyncio.get_running_loop().sock_sendall(sock, header(0x21, 0x11, TCP_4))
                await _is_hung_up(sock)
                sock.close()
                assert server.failed_handshakes == 1

    asyncio.run(run())


def test_elsewhere_nobody_may(fleet: Fleet) -> None:
    async def run() -> None:
        async with listening(fleet, tell_address) as server:
            sock = await _plain(server)
            await asyncio.get_running_loop().sock_sendall(sock, header(0x21, 0x11, TCP_4))
            assert await _echoes(fleet, sock) is None

    asyncio.run(run())


@pytest.mark.parametrize(
    "sent",
    [
        b"",  # TLS at once
        header(0x21, 0x12, TCP_4),
        header(0x21, 0x11, TCP_4[:-1]),
        header(0x20, 0x00, bytes(65535))[:1000],
        b"PROXY TCP4 10.0.0.7 10.0.0.1 40000 25227\r\n",
    ],
)
def test_a_malformed_header_ends_the_connection(fleet: Fleet, sent: bytes) -> None:
    async def run() -> None:
        async with listening(fleet, tell_address, proxy_from=["127.0.0.1"]) as server:
            sock = await _plain(server)
            await asyncio.get_running_loop().sock_sendall(sock, sent)
            assert await _echoes(fleet, sock) is None
            await _until(lambda: server.connections == 0)
            assert server.failed_handshakes == 1

    asyncio.run(run())


@pytest.mark.parametrize("n_bytes", [0, 15, 20])
def test_half_a_header(fleet: Fleet, n_bytes: int) -> None:
    async def run() -> None:
        options = {"proxy_from": ["127.0.0.1"], "handshake_seconds": 0.1}
        async with listening(fleet, tell_address, **options) as server:
            for hangs_up in (True, False):
                sock = await _plain(server)
                sent = header(0x21, 0x11, TCP_4)[:n_bytes]
                await asyncio.get_running_loop().sock_sendall(sock, sent)
                if hangs_up:
                    sock.shutdown(socket.SHUT_WR)
                await _is_hung_up(sock)
                sock.close()
            await _until(lambda: server.connections == 0)
            assert server.failed_handshakes == 2

    asyncio.run(run())


def test_the_limit_counts_the_addresses_that_the_balancer_tells(fleet: Fleet) -> None:
    async def run() -> None:
        options = {"proxy_from": ["127.0.0.1"], "max_connections_per_address": 1}
        async with listening(fleet, echo, **options) as server:
            held = []
            for last in (7, 8):
                sock = await _plain(server)
                told = header(0x21, 0x11, bytes((10, 0, 0, last)) + TCP_4[4:])
                await asyncio.get_running_loop().sock_sendall(sock, told)
                stream = open_stream(sock, fleet.context(), "server", server_side=False)
                await stream.handshake(server_side=False)
                held.append(stream)
            sock = await _plain(server)
            await asyncio.get_running_loop().sock_sendall(sock, header(0x21, 0x11, TCP_4))
            assert await _echoes(fleet, sock) is None
            assert server.over_limit == 1
            for stream in held:
                stream.close()
            await _until(lambda: server.connections == 0)
            assert not server._per_network

    asyncio.run(run())


def test_ipv6_counts_by_the_64(fleet: Fleet) -> None:
    """Who has one address has 2^64 of them."""

    def told(last: int, network: int = 1) -> bytes:
        source = bytes((0xFD, *[0] * 6, network, *[0] * 7, last))
        return header(0x21, 0x21, source + bytes(16) + bytes(4))

    async def run() -> None:
        options = {"proxy_from": ["127.0.0.1"], "max_connections_per_address": 2}
        async with listening(fleet, echo, **options) as server:
            loop = asyncio.get_running_loop()
            held = []
            for said in (told(7), told(8), told(7, network=2)):
                sock = await _plain(server)
                await loop.sock_sendall(sock, said)
                stream = open_stream(sock, fleet.context(), "server", server_side=False)
                await stream.handshake(server_side=False)
                held.append(stream)
            sock = await _plain(server)
            await loop.sock_sendall(sock, told(9))
            assert await _echoes(fleet, sock) is None
            assert server.over_limit == 1
            for stream in held:
                stream.close()
            await _until(lambda: server.connections == 0)
            assert not server._per_network

    asyncio.run(run())


def test_each_listener_has_limits_of_its_own(fleet: Fleet) -> None:
    """Who comes directly takes no place from those behind the balancer."""

    async def run() -> None:
        limits = {"max_connections": 2, "max_connections_per_address": 1}
        async with (
            listening(fleet, echo, **limits) as direct,
            listening(fleet, echo, proxy_from=["127.0.0.1"], **limits) as behind,
        ):
            held = [await connect(direct.addresses[0], fleet.context(), 20)]
            for last in (7, 8):
                sock = await _plain(behind)
                told = header(0x21, 0x11, bytes((10, 0, 0, last)) + TCP_4[4:])
                await asyncio.get_running_loop().sock_sendall(sock, told)
                stream = open_stream(sock, fleet.context(), "server", server_side=False)
                await stream.handshake(server_side=False)
                held.append(stream)
            assert (direct.over_limit, behind.over_limit) == (0, 0)
            for stream in held:
                stream.close()

    asyncio.run(run())


def test_who_is_cut_before_the_first_step_gives_its_place_back(fleet: Fleet) -> None:
    async def run() -> None:
        async with listening(fleet, tell_address, max_connections_per_address=1) as server:
            with socket.create_connection(parse_endpoint(server.addresses[0])):
                server._accept(server._sockets[0])
                assert server.connections == 1
                server.cut_all()
                await _until(lambda: server.connections == 0)
            assert not server._per_network
            assert await _echoes(fleet, await _plain(server)) == "127.0.0.1"

    asyncio.run(run())
