"""The fleet, with an ssh connection to each VM and feeder that stays open: a drill asks often."""

from __future__ import annotations

import subprocess
from pathlib import Path

from lab.names import STATE
from tests.fleet.conftest import BROKERS, VMS, Fleet

LASTING = (*VMS, "rng1", "rng2")  # brokers die, and their connections with them


class Reach(Fleet):
    """`folder` is where ssh keeps its sockets; a short path."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        for host in LASTING:
            self._ssh(host, "-o", "ControlMaster=yes", "-N", "-f")

    def close(self) -> None:
        for host in LASTING:
            self._ssh(host, "-O", "exit")

    def ssh(
        self, host: str, command: str, *, stdin: str = "", check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        quoted = "'" + command.replace("'", "'\\''") + "'"
        return subprocess.run(
            [*self._words(host), host, f"sudo bash -c {quoted}"],
            input=stdin,
            capture_output=True,
            text=True,
            check=check,
            timeout=60,
        )

    def ssh_bytes(self, host: str, command: str, stdin: bytes) -> None:
        """A command that reads bytes."""
        quoted = "'" + command.replace("'", "'\\''") + "'"
        subprocess.run(
            [*self._words(host), host, f"sudo bash -c {quoted}"],
            input=stdin,
            capture_output=True,
            check=True,
            timeout=60,
        )

    def _words(self, host: str) -> list[str]:
        words = ["ssh", "-F", str(STATE / "ssh_config"), "-o", f"ControlPath={self._folder}/ssh-%n"]
        return [*words, "-o", "ConnectTimeout=5"] if host in BROKERS else words

    def _ssh(self, host: str, *words: str) -> None:
        subprocess.run(
            [*self._words(host), *words, host],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        )
