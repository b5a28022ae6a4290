"""A connection without TLS on asyncio's loop: the broker's side of its port for seeds."""

from __future__ import annotations

import asyncio
import contextlib
import socket

from entropy.errors import TransportError
from entropy.transport.plain import NO_CERTIFICATE_SHA256
from entropy.transport.stream import NO_LINGER
from entropy.transport.tls import describe

_READ_BYTES = 16384
_SEND_SECONDS = 30.0  # a peer that takes nothing for so long is given up


class PlainStream:
    """What TlsStream is to a session, without its secrecy: what is inside is sealed in any case.

    Unlike there, a `receive` that is cancelled may lose what came just then.
    """

    __slots__ = ("_loop", "_socket", "certificate_sha256", "peer_address")

    def __init__(self, sock: socket.socket, peer_address: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._socket = sock
        self.peer_address = peer_address
        self.certificate_sha256 = NO_CERTIFICATE_SHA256

    @property
    def closed(self) -> bool:
        """Whether this side closed it."""
        return self._socket.fileno() < 0

    async def receive(self) -> bytes:
        """The next bytes, at most 16384; b"" when the other side has ended or we closed."""
        if self.closed:
            return b""
        try:
            return await self._loop.sock_recv(self._socket, _READ_BYTES)
        except OSError as error:
            raise describe(error, f"receiving from {self.peer_address}") from None

    async def send(self, data: bytes) -> None:
        """Sends all of it, waiting while the other side does not take it, 30 s at most."""
        what = f"sending to {self.peer_address}"
        if self.closed:
            raise TransportError(f"{what}: the connection is closed")
        try:
            async with asyncio.timeout(_SEND_SECONDS):
                await self._loop.sock_sendall(self._socket, data)
        except OSError as error:
            self.close()
            raise describe(error, what) from None
        except BaseException:
            self.close()
            raise

    def abort(self) -> None:
        """Closes without a word; what the system has not sent yet is thrown away."""
        if not self.closed:
            with contextlib.suppress(OSError):
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
            self.close()

    def close(self) -> None:
        if not self.closed:
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
            self._socket.close()
