"""A listening TLS socket on asyncio's loop: accept, bound, shake hands, hand over.

Nothing that a peer sends or leaves unsent stops the server. Before a peer has proved anything it
gets a bounded time and one of a bounded number of places.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from entropy.errors import EntropyError, RemoteProtocolError, TransportError
from entropy.transport import proxy
from entropy.transport.endpoint import format_endpoint, parse_endpoint
from entropy.transport.pace import HandshakePace
from entropy.transport.plain_stream import PlainStream
from entropy.transport.stream import TlsStream, open_stream, resolve, tune
from entropy.transport.tls import ServerContext

# Takes a TlsStream, or a PlainStream where there is no TLS.
Handler = Callable[[Any], Coroutine[object, object, None]]

_BACKLOG = 1024  # a whole fleet may boot at once
_ACCEPT_BATCH = 16  # connections that are taken before others get their turn on the loop
_NO_DESCRIPTORS_SECONDS = 0.5


class Server:
    """Listens until closed. Made by `serve`.

    addresses: the endpoints that are listened on, with their real ports.
    over_limit, failed_handshakes: how many connections were turned away so far, and why.
    """

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        context: ServerContext | None,
        handler: Handler,
        *,
        proxy_from: frozenset[str] | None,
        pace: HandshakePace | None,
        handshake_seconds: float,
        max_connections: int,
        max_connections_per_address: int,
    ) -> None:
        self._sockets = list(sockets)
        self._context = context
        self._handler = handler
        self._proxy_from = proxy_from
        self._pace = pace
        self._handshake_seconds = handshake_seconds
        self._max_connections = max_connections
        self._max_per_address = max_connections_per_address
        self._loop = asyncio.get_running_loop()
        self._tasks: dict[asyncio.Task[None], tuple[socket.socket, str]] = {}
        self._per_network: Counter[str] = Counter()
        self._pauses: set[asyncio.TimerHandle] = set()
        self.over_limit = 0
        self.failed_handshakes = 0
        self.addresses = [format_endpoint(*sock.getsockname()[:2]) for sock in self._sockets]
        for sock in self._sockets:
            self._loop.add_reader(sock, self._accept, sock)

    @property
    def connections(self) -> int:
        """How many connections are open, those in their handshake included."""
        return len(self._tasks)

    def close(self) -> None:
        """Stops listening and cancels the handlers of all connections."""
        for pause in self._pauses:
            pause.cancel()
        for sock in self._sockets:
            self._loop.remove_reader(sock)
            sock.close()
        self._sockets.clear()
        self.cut_all()

    def cut_all(self) -> None:
        """Cancels the handlers of all connections, and the handshakes; goes on listening."""
        for task in list(self._tasks):
            task.cancel()

    async def wait_closed(self) -> None:
        """Waits until the last handler has ended."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(_ACCEPT_BATCH):
            try:
                sock, address = listener.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionAbortedError:
                continue
            except OSError:  # out of descriptors or memory: let some connections end
                self._loop.remove_reader(listener)
                self._pause(listener)
                return
            sock.setblocking(False)
            self._admit(sock, proxy.plain_address(address[0]))

    def _pause(self, listener: socket.socket) -> None:
        def resume() -> None:
            self._pauses.discard(pause)
            self._loop.add_reader(listener, self._accept, listener)

        pause = self._loop.call_later(_NO_DESCRIPTORS_SECONDS, resume)
        self._pauses.add(pause)

    def _admit(self, sock: socket.socket, address: str) -> None:
        """Gives a connection its place and its task, or closes it at once."""
        if self._proxy_from is not None and address not in self._proxy_from:
            self.failed_handshakes += 1
            sock.close()
        elif len(self._tasks) >= self._max_connections:
            self.over_limit += 1
            sock.close()
        # Behind a balancer all have its address: they get their place when it said whose they are.
        elif self._proxy_from is None and not self._take_place(address):
            sock.close()
        else:
            task = self._loop.create_task(self._run(sock, address))
            self._tasks[task] = (sock, address)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        # A task that was cancelled before its first step has closed and given back nothing.
        sock, address = self._tasks.pop(task)
        sock.close()
        if self._proxy_from is None:
            self._leave_place(address)

    def _take_place(self, address: str) -> bool:
        network = proxy.network_of(address)
        if self._per_network[network] >= self._max_per_address:
            self.over_limit += 1
            return False
        self._per_network[network] += 1
        return True

    def _leave_place(self, address: str) -> None:
        network = proxy.network_of(address)
        self._per_network[network] -= 1
        if not self._per_network[network]:
            del self._per_network[network]

    async def _run(self, sock: socket.socket, address: str) -> None:
        """The whole life of one connection."""
        proxied = False  # and has a place, which `_ended` does not know of
        placed = self._proxy_from is None
        stream: TlsStream | PlainStream | None = None
        try:
            async with asyncio.timeout(self._handshake_seconds):
                if not placed:
                    address = await self._proxied_address(sock, address)
                    placed = proxied = self._take_place(address)
                if placed and self._context is None:
                    tune(sock)
                    stream = PlainStream(sock, address)
                elif placed and self._context is not None:
                    stream = tls = open_stream(sock, self._context, address, server_side=True)
                    await tls.handshake(server_side=True, pace=self._pace)
            if stream is not None:
                await self._handle(stream)
        except (OSError, EntropyError):  # a time-out is an OSError
            self.failed_handshakes += 1
        finally:
            if stream is not None:
                stream.close()
            if proxied:
                self._leave_place(address)

    async def _handle(self, stream: TlsStream | PlainStream) -> None:
        try:
            await self._handler(stream)
        except (EntropyError, OSError):
            pass  # the peer's doing; a handler that wants it told tells it itself
        except Exception as error:
            self._loop.call_exception_handler(
                {"message": "a bug in the handler of a connection ended it", "exception": error}
            )

    async def _proxied_address(self, sock: socket.socket, balancer: str) -> str:
        """Reads the balancer's header, and not a byte more: TLS follows it."""
        head = await self._read_exactly(sock, proxy.HEAD_BYTES)
        rest = await self._read_exactly(sock, proxy.rest_bytes(head))
        return proxy.source_address(head, rest) or balancer

    async def _read_exactly(self, sock: socket.socket, n_bytes: int) -> bytes:
        data = b""
        while len(data) < n_bytes:
            part = await self._loop.sock_recv(sock, n_bytes - len(data))
            if not part:
                raise RemoteProtocolError("the PROXY header ended early")
            data += part
        return data


async def serve(
    endpoint: str,
    context: ServerContext | None,
    handler: Handler,
    *,
    proxy_from: Sequence[str] | None = None,
    pace: HandshakePace | None = None,
    handshake_seconds: float = 10.0,
    max_connections: int = 20000,
    max_connections_per_address: int = 256,
) -> Server:
    """Listens on an endpoint; `handler` gets each connection after its TLS handshake, in a task.

    Without a context there is no TLS, and the handler gets a PlainStream.

    The stream is closed when the handler ends, however it ends. proxy_from: the addresses of the
    balancers; each connection must come from one and begin with a PROXY header of version 2.
    pace: shares the loop's time between handshakes and the rest; usually that of all listeners.
    handshake_seconds: for that header and TLS together. The limits are this listener's own, and
    the one per address counts the addresses that the balancers tell; IPv6 counts by /64, which is
    what one machine has at least. Raises ConfigError (not an
    endpoint, not an address) and TransportError (cannot listen there).
    """
    host, port = parse_endpoint(endpoint)
    balancers = None if proxy_from is None else frozenset(map(proxy.canonical_address, proxy_from))
    sockets: list[socket.socket] = []
    try:
        for family, address in await resolve(host, port, passive=True):
            sockets.append(_listen(family, address))
    except OSError as error:
        for sock in sockets:
            sock.close()
        raise TransportError(f"cannot listen on {endpoint}: {error.strerror or error}") from None
    return Server(
        sockets,
        context,
        handler,
        proxy_from=balancers,
        pace=pace,
        handshake_seconds=handshake_seconds,
        max_connections=max_connections,
        max_connections_per_address=max_connections_per_address,
    )


def _listen(family: int, address: object) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)  # type: ignore[arg-type]
        sock.listen(_BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock
