"""`exec:COMMAND`: what another program writes, for devices that have a tool of their own.

The command is split into words as a shell would, and run without one. Whatever it says on its
standard error goes where ours does. It is started again when it has ended: at once after a run
of a minute, else after a wait that doubles from 1 s to 60 s. A program that gives nothing for a
minute is ended and counts as one that has ended.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import select
import shlex
import signal
import subprocess
import time

from entropy.errors import ConfigError, SourceError, SourceGone
from entropy.sources.base import Figures, Source, StatedFigures

FIRST_WAIT_SECONDS = 1.0
LAST_WAIT_SECONDS = 60.0
LONG_RUN_SECONDS = 60.0
SILENCE_SECONDS = 60.0
_END_SECONDS = 2.0  # for a program to end when it is asked to

_FIGURES = Figures(0, 4, "a program: nothing is known of what it gives")
# What systemd says to us is not meant for it.
_NOT_HANDED_ON = ("NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "JOURNAL_STREAM")


class ExecSource(Source):
    """Reads a program's standard output."""

    def __init__(self, uri: str, stated: StatedFigures, text: str) -> None:
        super().__init__(uri, stated)
        try:
            self._command = shlex.split(text)
        except ValueError as error:
            raise ConfigError(f"{uri!r}: cannot be split into words: {error}") from None
        if not self._command:
            raise ConfigError(f"{uri!r} names no program: write exec:COMMAND")
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0  # time.monotonic()
        self._not_before = 0.0
        self._wait_seconds = FIRST_WAIT_SECONDS
        self._last_end = ""

    def own_figures(self) -> Figures:
        return _FIGURES

    def open(self) -> None:
        self.close()
        if time.monotonic() < self._not_before:
            raise SourceGone(self._last_end)
        environment = {k: v for k, v in os.environ.items() if k not in _NOT_HANDED_ON}
        try:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                bufsize=0,
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            raise SourceError(
                f"{self.name}: {self._command[0]} cannot be run: {error.strerror}"
            ) from None
        self._started_at = time.monotonic()
        atexit.register(self.close)

    def read(self, n_bytes: int) -> bytes:
        process = self._process
        if process is None or process.stdout is None:
            raise SourceError(f"{self.name}: is not open")
        try:
            ready, _, _ = select.select([process.stdout], [], [], SILENCE_SECONDS)
            samples = os.read(process.stdout.fileno(), n_bytes) if ready else b""
        except (OSError, ValueError):  # closed meanwhile
            raise SourceGone(f"{self.name}: was closed") from None
        if samples:
            return samples
        end = f"gave nothing for {SILENCE_SECONDS:g} s" if not ready else _ending(process)
        now = time.monotonic()
        if now - self._started_at >= LONG_RUN_SECONDS:
            self._not_before, self._wait_seconds = 0.0, FIRST_WAIT_SECONDS
        else:
            self._not_before = now + self._wait_seconds
            self._wait_seconds = min(2 * self._wait_seconds, LAST_WAIT_SECONDS)
        self._last_end = f"{self.name}: the program {end}"
        raise SourceGone(self._last_end)

    def close(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        atexit.unregister(self.close)
        # The whole session: a pipeline may have been started by a script. What is left of it when
        # the program itself has ended, or does not end, is not asked.
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(OSError):
                os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_END_SECONDS)
        if process.stdout is not None:
            process.stdout.close()


def _ending(process: subprocess.Popen[bytes]) -> str:
    """How it ended, now that its output has."""
    try:
        status = process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        return "closed its output"
    if status < 0:
        return f"was ended by signal {-status} ({signal.Signals(-status).name})"
    return f"ended with status {status}"
