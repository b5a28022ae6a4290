"""A small HTTP server for monitoring: /healthz, /readyz, /metrics and /status.

GET and HEAD only, one request for each connection, a few connections at a time, no secret on
any page. /metrics is the Prometheus text format 0.0.4.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Callable, NamedTuple

from entropy.errors import TransportError
from entropy.transport.endpoint import parse_endpoint

_REQUEST_LIMIT_BYTES = 8192
_CONNECTION_SECONDS = 5
_MAX_CONNECTIONS = 32
_REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed"}
_REASONS |= {503: "Service Unavailable"}


class Metric(NamedTuple):
    """One family of figures: each sample is its labels and its value."""

    name: str
    kind: str  # counter or gauge
    help: str
    samples: Sequence[tuple[Mapping[str, str], float]]


def prometheus(metrics: Iterable[Metric]) -> str:
    """The figures as Prometheus reads them."""
    lines: list[str] = []
    for metric in metrics:
        lines.append(f"# HELP {metric.name} {_escape(metric.help, quotes=False)}")
        lines.append(f"# TYPE {metric.name} {metric.kind}")
        for labels, value in metric.samples:
            inside = ",".join(f'{key}="{_escape(labels[key])}"' for key in labels)
            name = f"{metric.name}{{{inside}}}" if inside else metric.name
            lines.append(f"{name} {value if isinstance(value, int) else repr(float(value))}")
    return "\n".join(lines) + "\n"


def _escape(text: str, *, quotes: bool = True) -> str:
    text = text.replace("\\", r"\\").replace("\n", r"\n")
    return text.replace('"', r"\"") if quotes else text


class Admin:
    """The server. `healthy` and `ready` say None for yes, or in one line why not."""

    def __init__(
        self,
        endpoint: str,
        *,
        healthy: Callable[[], str | None],
        ready: Callable[[], str | None],
        metrics: Callable[[], Iterable[Metric]],
        status: Callable[[], Mapping[str, Any]],
    ) -> None:
        self._endpoint = endpoint
        self._pages: dict[str, Callable[[], tuple[int, str, str]]] = {
            "/healthz": lambda: _verdict(healthy()),
            "/readyz": lambda: _verdict(ready()),
            "/metrics": lambda: (200, "text/plain; version=0.0.4", prometheus(metrics())),
            "/status": lambda: (200, "application/json", json.dumps(status()) + "\n"),
        }
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen. Raises TransportError if the address cannot be had (yet: it is tried again)."""
        host, port = parse_endpoint(self._endpoint)
        try:
            self._server = await asyncio.start_server(
                self._accept, host, port, limit=_REQUEST_LIMIT_BYTES
            )
        except OSError as error:
            reason = error.strerror or str(error)
            raise TransportError(f"admin.listen {self._endpoint}: {reason}") from None

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that it listens at; the port is the real one."""
        assert self._server is not None, "not started"
        name = self._server.sockets[0].getsockname()
        return str(name[0]), int(name[1])

    async def stop(self) -> None:
        if self._server is None:
            return
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._tasks) >= _MAX_CONNECTIONS:
            writer.transport.abort()
            return
        task = asyncio.get_running_loop().create_task(self._answer(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_CONNECTION_SECONDS):
                try:
                    request = await reader.readuntil(b"\r\n\r\n")
                except asyncio.LimitOverrunError:
                    request = b""
                writer.write(self._reply(request))
                await writer.drain()
                writer.close()
                await writer.wait_closed()
        except (OSError, EOFError, TimeoutError):
            pass  # it went away, or never said what it wants
        finally:
            writer.transport.abort()

    def _reply(self, request: bytes) -> bytes:
        words = request.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            return _response(400, "text/plain", "this is not an HTTP request\n")
        method, path = words[0], words[1].split("?", 1)[0]
        if method not in ("GET", "HEAD"):
            return _response(405, "text/plain", "GET and HEAD only\n")
        page = self._pages.get(path)
        if page is None:
            return _response(404, "text/plain", f"there are: {' '.join(self._pages)}\n")
        return _response(*page(), head_only=method == "HEAD")


def _verdict(problem: str | None) -> tuple[int, str, str]:
    return (200, "text/plain", "ok\n") if problem is None else (503, "text/plain", problem + "\n")


def _response(code: int, kind: str, body: str, *, head_only: bool = False) -> bytes:
    raw = body.encode()
    head = (
        f"HTTP/1.1 {code} {_REASONS[code]}\r\nContent-Type: {kind}; charset=utf-8\r\n"
        f"Content-Length: {len(raw)}\r\nCache-Control: no-store\r\n"
        + ("Allow: GET, HEAD\r\n" if code == 405 else "")
        + "Connection: close\r\n\r\n"
    )
    return head.encode() + (b"" if head_only else raw)
