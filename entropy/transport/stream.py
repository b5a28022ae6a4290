"""One TLS connection on asyncio's loop: a non-blocking SSLSocket and the loop's readiness calls.

asyncio's own TLS keeps 280 KiB for an idle connection, this 15 to 20: a broker has ten thousand.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Sequence

from entropy.errors import LocalProtocolError, TransportError
from entropy.transport.endpoint import parse_endpoint
from entropy.transport.pace import HandshakePace
from entropy.transport.tls import ServerContext, check_alpn, describe, peer_facts

_READ_BYTES = 16384  # as much as a TLS record holds, so that none stays inside OpenSSL
_SEND_SECONDS = 30.0  # a peer that takes nothing for so long is given up
_DEAD_PEER_SECONDS = 60
NO_LINGER = struct.pack("ii", 1, 0)


class TlsStream:
    """An open TLS connection. One task may receive while another sends, but not two the same.

    peer_address: the other side's address without its port, as PROXY gave it if it did.
    certificate_sha256: of the certificate that was shown in this connection, by whichever side
    is the server. certificate_names: the server's names, on the client's side only.
    """

    __slots__ = (
        "_error",
        "_fd",
        "_loop",
        "_read_wants_write",
        "_reader",
        "_received",
        "_received_all",
        "_socket",
        "_watching",
        "_write_wants_read",
        "_writer",
        "certificate_names",
        "certificate_sha256",
        "peer_address",
    )

    def __init__(
        self, loop: asyncio.AbstractEventLoop, sock: ssl.SSLSocket, peer_address: str
    ) -> None:
        self._loop = loop
        self._socket = sock
        self._fd = sock.fileno()
        self._received = b""
        self._received_all = False
        self._error: OSError | None = None
        # A registration with the loop outlives one read: the next request costs no system call.
        self._watching = False
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._read_wants_write = False
        self._write_wants_read = False
        self.peer_address = peer_address
        self.certificate_sha256 = b""
        self.certificate_names: Sequence[str] = ()

    @property
    def closed(self) -> bool:
        """Whether this side closed it."""
        return self._fd < 0

    async def receive(self) -> bytes:
        """The next bytes, at most 16384; b"" when the other side has ended or we closed.

        A call that is cancelled loses nothing. TransportError if the connection broke.
        """
        if self._reader is not None:
            raise LocalProtocolError("two tasks receive from one stream")
        while not self._has_read():
            # While the loop watches, it tells of all that is not inside OpenSSL; else look first.
            if not self._watching or self._socket.pending():
                self._read()
                if self._has_read():
                    break
            self._watch()
            self._reader = self._loop.create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        if self._error is not None:
            raise describe(self._error, f"receiving from {self.peer_address}") from None
        data, self._received = self._received, b""
        return data

    async def send(self, data: bytes) -> None:
        """Sends all of it, waiting while the other side does not take it, 30 s at most.

        TransportError if the connection broke. It is closed when a call fails or is cancelled
        halfway, since nothing can follow half a record.
        """
        if self._writer is not None:
            raise LocalProtocolError("two tasks send on one stream")
        what = f"sending to {self.peer_address}"
        rest = memoryview(data)
        deadline: float | None = None
        try:
            while rest:
                try:
                    rest = rest[self._socket.send(rest) :]
                    continue
                except ssl.SSLWantWriteError:
                    self._write_wants_read = False
                except ssl.SSLWantReadError:
                    self._write_wants_read = True
                if deadline is None:
                    deadline = self._loop.time() + _SEND_SECONDS
                async with asyncio.timeout_at(deadline):
                    await self._sendable()
        except (OSError, ValueError) as error:
            closed = self.closed
            self.close()
            if closed or isinstance(error, ValueError):
                raise TransportError(f"{what}: the connection is closed") from None
            raise describe(error, what) from None
        except BaseException:
            self.close()
            raise

    async def handshake(self, *, server_side: bool, pace: HandshakePace | None = None) -> None:
        """Completes the TLS handshake, in its turn. OSError or RemoteProtocolError if it fails."""
        if pace is not None:  # stand in line with something to do
            self._write_wants_read = True
            await self._sendable()
        while True:
            try:
                if pace is None:
                    self._socket.do_handshake()
                else:
                    await pace.run(self._socket.do_handshake)
                break
            except ssl.SSLWantReadError:
                self._write_wants_read = True
            except ssl.SSLWantWriteError:
                self._write_wants_read = False
            await self._sendable()
        check_alpn(self._socket)
        context = self._socket.context
        if server_side:
            assert isinstance(context, ServerContext)
            self.certificate_sha256 = context.certificate_sha256
        else:
            self.certificate_sha256, self.certificate_names = peer_facts(self._socket)

    def abort(self) -> None:
        """Closes without a word; what the system has not sent yet is thrown away."""
        if not self.closed:
            with contextlib.suppress(OSError):
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
            self._close(polite=False)

    def close(self) -> None:
        """Says goodbye, if that needs no waiting, and closes. Waiting calls return or raise."""
        if not self.closed:
            self._close(polite=True)

    def _close(self, *, polite: bool) -> None:
        self._unwatch()
        self._loop.remove_writer(self._fd)
        self._fd = -1
        if polite:
            # Non-blocking, unwrap sends our close_notify and does not wait for the other side's.
            with contextlib.suppress(OSError, ValueError):
                self._socket.unwrap()
        self._socket.close()
        self._received_all = True
        self._wake(self._reader)
        self._wake(self._writer)

    def _has_read(self) -> bool:
        return bool(self._received) or self._received_all or self._error is not None

    def _read(self) -> None:
        """Reads once, if there is something."""
        try:
            self._received = self._socket.recv(_READ_BYTES)
            self._received_all = not self._received
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLWantWriteError:  # OpenSSL has an answer of its own to send first
            self._read_wants_write = True
            self._loop.add_writer(self._fd, self._on_writable)
        except OSError as error:
            self._error = error

    def _on_readable(self) -> None:
        if self._write_wants_read and self._writer is not None:
            self._wake(self._writer)
        elif self._reader is None or self._reader.done():
            # Nobody wants it now, and the loop would go on telling: this is the back pressure.
            self._unwatch()
        else:
            self._read()
            if self._has_read():
                self._wake(self._reader)
                if not self._received:
                    self._unwatch()

    def _on_writable(self) -> None:
        if not self._write_wants_read:
            self._wake(self._writer)
        if self._read_wants_write:
            self._read_wants_write = False
            self._read()
            if self._has_read():
                self._wake(self._reader)
        if not self._read_wants_write:
            self._loop.remove_writer(self._fd)

    async def _sendable(self) -> None:
        """Waits until what send or handshake needs of the socket is there."""
        self._writer = self._loop.create_future()
        if self._write_wants_read:
            self._watch()
        else:
            self._loop.add_writer(self._fd, self._on_writable)
        try:
            await self._writer
        finally:
            self._writer = None
            self._write_wants_read = False
            if not (self.closed or self._read_wants_write):
                self._loop.remove_writer(self._fd)

    def _watch(self) -> None:
        if not (self._watching or self.closed):
            self._loop.add_reader(self._fd, self._on_readable)
            self._watching = True

    def _unwatch(self) -> None:
        if self._watching:
            self._loop.remove_reader(self._fd)
            self._watching = False

    @staticmethod
    def _wake(waiter: asyncio.Future[None] | None) -> None:
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


async def connect(endpoint: str, context: ssl.SSLContext, timeout_seconds: float) -> TlsStream:
    """A TLS connection to an endpoint, verified. TransportError, AuthenticationError,
    RemoteProtocolError (the other side speaks something else), ConfigError (not an endpoint).
    """
    what = f"connecting to {endpoint}"
    host, port = parse_endpoint(endpoint)
    try:
        async with asyncio.timeout(timeout_seconds) as limit:
            sock = await _connect_tcp(host, port, limit.when())
            stream = open_stream(sock, context, host, server_side=False)
            try:
                await stream.handshake(server_side=False)
            except BaseException:
                stream.close()
                raise
            return stream
    except OSError as error:
        raise describe(error, what) from None


def open_stream(
    sock: socket.socket, context: ssl.SSLContext, peer_address: str, *, server_side: bool
) -> TlsStream:
    """A stream on a connected, non-blocking socket, before its handshake. OSError closes it."""
    try:
        tune(sock)
        # Who has reset it already is told here: wrap_socket would raise with a socket half made.
        sock.getpeername()
        tls = context.wrap_socket(sock, server_side=server_side, do_handshake_on_connect=False)
    except BaseException:
        sock.close()
        raise
    return TlsStream(asyncio.get_running_loop(), tls, peer_address)


def tune(sock: socket.socket) -> None:
    """Sends at once, and notices a peer that vanished without a word within two minutes."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _DEAD_PEER_SECONDS)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _DEAD_PEER_SECONDS // 4)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _DEAD_PEER_SECONDS * 1000)


async def resolve(host: str, port: int, *, passive: bool = False) -> list[tuple[int, object]]:
    """(family, socket address) of a host, in a thread if it is a name. OSError if there is none."""
    flags = socket.AI_PASSIVE if passive else 0
    try:
        return _look_up(host, port, flags | socket.AI_NUMERICHOST)
    except socket.gaierror:
        pass
    # Not in a thread of the loop's own: those are waited for at the end of the process, and a
    # name server that is away holds one for as long as the system's resolver likes.
    loop = asyncio.get_running_loop()
    found: asyncio.Future[list[tuple[int, object]]] = loop.create_future()

    def settle(addresses: list[tuple[int, object]], error: Exception | None) -> None:
        if found.done():
            return  # whoever asked has gone
        if error is None:
            found.set_result(addresses)
        else:
            found.set_exception(error)

    def run() -> None:
        addresses, error = [], None
        try:
            addresses = _look_up(host, port, flags)
        except Exception as caught:
            error = caught
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(settle, addresses, error)

    threading.Thread(target=run, name="resolver", daemon=True).start()
    return await found


def _look_up(host: str, port: int, flags: int) -> list[tuple[int, object]]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    return [(family, address) for family, _, _, _, address in found]


async def _connect_tcp(host: str, port: int, deadline: float | None) -> socket.socket:
    """deadline: by the loop's clock."""
    loop = asyncio.get_running_loop()
    failure = OSError(f"{host} has no address")
    found = await resolve(host, port)
    for i, (family, address) in enumerate(found):
        try:
            sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        except OSError as error:
            failure = error
            continue
        # An address that does not answer leaves their share of the time to the others.
        share_seconds = deadline and (deadline - loop.time()) / (len(found) - i)
        try:
            async with asyncio.timeout(share_seconds):
                await loop.sock_connect(sock, address)  # type: ignore[arg-type]
            return sock
        except OSError as error:
            sock.close()
            failure = error
        except BaseException:
            sock.close()
            raise
    raise failure
