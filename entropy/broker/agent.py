"""haproxy's agent check: a plain line that says how much of the load this broker should get.

haproxy connects, reads one line and hangs up. The line is made of words in any order (haproxy's
configuration manual, "agent-check"):

    up, down        is the server working. The last word said holds.
    ready, drain    is the server to be used. The last word said holds.
    75%             its weight, of the one that is configured; it holds too
    # text          why: shown on haproxy's statistics page

Because words hold until the opposite is said, each line names one of both pairs: "up" alone would
leave a server that was drained before in its drain for ever. Who connects from an address that is
no balancer's is hung up on.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Callable

from entropy.errors import TransportError
from entropy.transport.endpoint import format_endpoint, parse_endpoint
from entropy.transport.proxy import canonical_address, plain_address

_CONNECTION_SECONDS = 2
_MAX_CONNECTIONS = 64


def words(*, draining: bool, problem: str | None, held_blocks: int, capacity_blocks: int) -> str:
    """The line for haproxy, without its end.

    problem: why nobody can be served, or None. The weight is the fill in percent, rounded up, and
    never 0 while there is no problem: haproxy would send nobody.
    """
    if draining:
        return "up drain # this broker is drained"
    if problem is not None:
        return f"ready down # {problem}"
    percent = -(-100 * held_blocks // capacity_blocks)
    return f"up ready {min(100, max(1, percent))}%"


class Agent:
    """The listeners. `line` gives what is said now."""

    def __init__(
        self, endpoints: Sequence[str], balancers: Sequence[str], line: Callable[[], str]
    ) -> None:
        self._endpoints = endpoints
        self._balancers = frozenset(map(canonical_address, balancers))
        self._line = line
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def addresses(self) -> list[str]:
        """The endpoints that it listens at, with their real ports."""
        names = [sock.getsockname() for server in self._servers for sock in server.sockets]
        return [format_endpoint(*name[:2]) for name in names]

    async def start(self) -> None:
        """Listen. Raises TransportError if an address cannot be had (yet)."""
        for endpoint in self._endpoints:
            host, port = parse_endpoint(endpoint)
            try:
                self._servers.append(await asyncio.start_server(self._accept, host, port))
            except OSError as error:
                reason = error.strerror or str(error)
                raise TransportError(f"agent.listen {endpoint}: {reason}") from None

    async def stop(self) -> None:
        for server in self._servers:
            server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for server in self._servers:
            await server.wait_closed()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        address = plain_address(writer.get_extra_info("peername")[0])
        if address not in self._balancers or len(self._tasks) >= _MAX_CONNECTIONS:
            writer.transport.abort()
            return
        task = asyncio.get_running_loop().create_task(self._answer(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_CONNECTION_SECONDS):
                writer.write(self._line().encode() + b"\n")
                writer.write_eof()
                # Closing with something unread (agent-send) would reset the line away.
                while await reader.read(256):
                    pass
        except (OSError, TimeoutError):
            pass  # it went away, or does not
        finally:
            with contextlib.suppress(OSError):
                writer.transport.abort()
