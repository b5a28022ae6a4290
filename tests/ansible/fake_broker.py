"""A control socket as the broker's, for the tests of the modules that talk to one."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Answer = Callable[[str], bytes]


@contextmanager
def control_socket(path: Path, answer: Answer) -> Iterator[Path]:
    """Answer every command on a socket at `path` until the block ends."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen()
        thread = threading.Thread(target=_serve, args=(listener, answer))
        thread.start()
        try:
            yield path
        finally:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as last:
                last.connect(str(path))
            thread.join()


def _serve(listener: socket.socket, answer: Answer) -> None:
    while True:
        connection, _ = listener.accept()
        with connection:
            line = b""
            while not line.endswith(b"\n"):
                chunk = connection.recv(4096)
                if not chunk:
                    break
                line += chunk
            if not line:
                return
            connection.sendall(answer(json.loads(line)["command"]))


class FakeBroker:
    """A broker that holds a list of some generation and reads the file when it is told to."""

    def __init__(self, acl_path: Path, generation: int, error: str = "") -> None:
        self.acl_path = acl_path
        self.generation = generation
        self.error = error
        self.commands: list[str] = []

    def __call__(self, command: str) -> bytes:
        self.commands.append(command)
        return json.dumps(self._answer(command)).encode() + b"\n"

    def _answer(self, command: str) -> dict[str, Any]:
        if command == "status":
            return {"ok": True, "status": {"acl_generation": self.generation, "ready": True}}
        if self.error:
            return {"ok": False, "error": self.error}
        self.generation = json.loads(self.acl_path.read_text())["generation"]
        return {"ok": True, "generation": self.generation}
