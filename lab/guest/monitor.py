"""QEMU's own port (QMP): to freeze a guest into a file, and to let one go on from it.

monitor = Monitor(folder / "qmp")
with Machine.start("one", pieces, arguments=monitor.arguments) as guest:
    monitor.save(folder / "snapshot")
with Machine.start("two", pieces, arguments=monitor.arguments, snapshot=folder / "snapshot"):
    monitor.resume()
"""

from __future__ import annotations

import json
import shlex
import socket
import time
from pathlib import Path
from typing import Any

from lab.command import LabError

_PATIENCE_SECONDS = 120
_LOOK_SECONDS = 0.05


class Monitor:
    """For one guest at a time, which must have been started with `arguments`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.arguments = ("-qmp", f"unix:{path},server=on,wait=off")

    def save(self, snapshot: Path) -> None:
        """Stop the guest and write all of it, memory and devices, to a file."""
        uri = f"exec:cat > {shlex.quote(str(snapshot))}"
        self._do("migrate", uri=uri)
        self._await("query-migrate", "completed")

    def resume(self) -> float:
        """Let a guest that was started from a snapshot go on, once it is all there.

        Returns the time of it, by time.monotonic().
        """
        self._await("query-migrate", "completed")
        resumed_seconds = time.monotonic()
        self._do("cont")
        return resumed_seconds

    def _await(self, command: str, status: str) -> None:
        end = time.monotonic() + _PATIENCE_SECONDS
        while (said := self._do(command)).get("status") != status:
            if said.get("status") in ("failed", "cancelled") or time.monotonic() > end:
                raise LabError(f"qemu's {command} never came to {status}: {said}")
            time.sleep(_LOOK_SECONDS)

    def _do(self, command: str, **arguments: str) -> dict[str, Any]:
        with socket.socket(socket.AF_UNIX) as channel:
            channel.settimeout(_PATIENCE_SECONDS)
            self._connect(channel)
            with channel.makefile("rw") as lines:
                lines.readline()  # a greeting
                requests: list[dict[str, Any]] = [{"execute": "qmp_capabilities"}]
                requests.append({"execute": command, "arguments": arguments})
                answer: dict[str, Any] = {}
                for request in requests:
                    lines.write(json.dumps(request) + "\n")
                    lines.flush()
                    while "return" not in (answer := json.loads(lines.readline())):
                        if "error" in answer:
                            raise LabError(f"qemu, told to {command}: {answer['error']['desc']}")
                returned: dict[str, Any] = answer["return"]
                return returned

    def _connect(self, channel: socket.socket) -> None:
        """The port is there a moment after qemu is."""
        end = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                channel.connect(str(self._path))
                return
            except (FileNotFoundError, ConnectionRefusedError):
                if time.monotonic() > end:
                    raise LabError(f"{self._path}: qemu does not answer there") from None
                time.sleep(_LOOK_SECONDS)
