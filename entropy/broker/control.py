"""The unix socket for the machine's operator: one JSON object on each line, both ways.

    {"command": "status"}     -> {"ok": true, "status": {...}}
    {"command": "apply-acl"}  -> {"ok": true, "generation": 7}
    {"command": "keys"}       -> {"ok": true, "broker_id": "broker1", "site_id": "lab",
                                  "generation": 7, "keys": {"vm1": {"<key id>":
                                  {"first_use_unix": 1769853600, "sessions": 0}, ...}}}
    {"command": "drain", "on": true}  -> {"ok": true, "draining": true, "sessions": 3}
    anything else             -> {"ok": false, "error": "..."}

Who may connect is what the file's mode says: the service's user and group.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import stat
from collections.abc import Awaitable, Mapping
from typing import Any, Callable

from entropy.errors import ConfigError, EntropyError

MODE = 0o660
_LINE_LIMIT_BYTES = 65536
_IDLE_SECONDS = 30
_MAX_CONNECTIONS = 16

Answer = Mapping[str, Any]
Command = Callable[[Mapping[str, Any]], Answer | Awaitable[Answer]]


class Control:
    """The socket. Each command is called with the request and says what goes beside "ok"."""

    def __init__(self, path: str, commands: Mapping[str, Command]) -> None:
        self._path = path
        self._commands = commands
        self._server: asyncio.AbstractServer | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen; a socket that a dead broker left behind is replaced. Raises ConfigError."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._clear_the_way()
            before = os.umask(0o777 & ~MODE)
            try:
                listener.bind(self._path)
            finally:
                os.umask(before)
            self._server = await asyncio.start_unix_server(
                self._accept, sock=listener, limit=_LINE_LIMIT_BYTES
            )
        except OSError as error:
            listener.close()
            reason = error.strerror or str(error)
            raise ConfigError(f"broker.control_socket {self._path}: {reason}") from None
        except BaseException:
            listener.close()
            raise

    async def stop(self) -> None:
        if self._server is None:
            return
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()
        with contextlib.suppress(OSError):
            os.unlink(self._path)

    def _clear_the_way(self) -> None:
        try:
            is_socket = stat.S_ISSOCK(os.lstat(self._path).st_mode)
        except FileNotFoundError:
            return
        if not is_socket:
            raise ConfigError(f"broker.control_socket {self._path}: is there, and is no socket")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(1)
            try:
                probe.connect(self._path)
            except ConnectionRefusedError:
                os.unlink(self._path)
                return
        raise ConfigError(f"broker.control_socket {self._path}: another broker listens there")

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._tasks) >= _MAX_CONNECTIONS:
            writer.transport.abort()
            return
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                async with asyncio.timeout(_IDLE_SECONDS):
                    line = await reader.readline()
                    if not line.endswith(b"\n"):
                        return
                answer = await self._answer(line)
                async with asyncio.timeout(_IDLE_SECONDS):
                    writer.write(json.dumps(answer).encode() + b"\n")
                    await writer.drain()
        except (OSError, ValueError, TimeoutError):
            pass  # it went away, was silent for long, or sent a line without end
        finally:
            writer.close()

    async def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            request = json.loads(line)
            name = request["command"]
            command = self._commands[name]
        except (ValueError, RecursionError, TypeError, KeyError):
            known = ", ".join(sorted(self._commands))
            return {"ok": False, "error": f"unknown command; known are: {known}"}
        try:
            answer = command(request)
            return {"ok": True, **(answer if isinstance(answer, Mapping) else await answer)}
        except EntropyError as error:
            return {"ok": False, "error": str(error)}
