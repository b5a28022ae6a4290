"""What a client remembers between draws: its counter, and when it last fed the kernel.

The counter goes into every login and must never repeat under one boot id: a broker takes
a repeated one for a clone. Every process that draws with the same credential therefore
takes it from one file, under one lock. Nothing here is secret.

`state.json` in the state directory: counter, boot_id (hex), last_fed_unix (seconds),
last_credit_bits (what the reply was worth), credited_to_kernel_bits (what the kernel was
told of it), last_broker (its id), last_kind ("seed" or "topup").
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from contextlib import suppress
from typing import Any

from entropy import notify


class ClientState:
    """The state directory of one client. Where it cannot be written, a clock stands in."""

    def __init__(self, directory: str) -> None:
        self._path = os.path.join(directory, "state.json")
        self._lock_path = os.path.join(directory, "lock")
        self._directory = directory
        self._told = False

    def next_counter(self, boot_id: bytes) -> int:
        """One more than the last, kept before it is used; without a file, the clock in ns."""
        fresh = time.clock_gettime_ns(time.CLOCK_REALTIME)
        try:
            with _Lock(self):
                state = self.read()
                last = state.get("counter")
                counter = last + 1 if isinstance(last, int) and 0 <= last < 2**64 - 1 else fresh
                self._write({**state, "counter": counter, "boot_id": boot_id.hex()})
        except OSError as error:
            self._tell(error)
            return fresh
        return counter

    def record(self, **values: Any) -> None:
        """Keep what a draw brought; the keys are those of the module's docstring."""
        try:
            with _Lock(self):
                self._write({**self.read(), **values})
        except OSError as error:
            self._tell(error)

    def read(self) -> dict[str, Any]:
        """What is kept; {} when there is nothing, or nothing that can be understood."""
        try:
            with open(self._path, encoding="utf-8", opener=_open_own) as file:
                state = json.load(file)
        except (FileNotFoundError, ValueError):
            return {}
        return state if isinstance(state, dict) else {}

    def _write(self, state: dict[str, Any]) -> None:
        # No fsync: after a crash of the machine the boot id is another one, and the counter
        # may begin anywhere.
        temporary = f"{self._path}.{os.getpid()}"
        _remove(temporary)  # of a process that died here
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(temporary, flags, 0o600)
        try:
            with open(descriptor, "w", encoding="utf-8") as file:
                self._give_to_owner(descriptor)
                file.write(json.dumps(state, indent=1, sort_keys=True) + "\n")
            os.rename(temporary, self._path)
        except BaseException:
            _remove(temporary)
            raise

    def _give_to_owner(self, descriptor: int) -> None:
        """What root makes here belongs to whom the directory belongs to: the service's user."""
        if os.geteuid() == 0:
            owner = os.stat(self._directory)
            os.fchown(descriptor, owner.st_uid, owner.st_gid)

    def _tell(self, error: OSError) -> None:
        if not self._told:
            self._told = True
            notify.log(
                f"{self._directory}: cannot keep the counter here ({error.strerror}):"
                " the clock stands in for it",
                notify.WARNING,
            )


def _open_own(path: str, flags: int) -> int:
    """Follows no link: else root would copy any file into one that belongs to the service."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)


def _remove(path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)


class _Lock:
    """flock(2) on a file of its own, since state.json is replaced at every write."""

    def __init__(self, state: ClientState) -> None:
        self._state = state

    def __enter__(self) -> None:
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
        path = self._state._lock_path
        try:
            self._descriptor = os.open(path, flags)
        except FileNotFoundError:
            # Exclusive, so that root never gives away a file that was put here before.
            try:
                self._descriptor = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)
                self._state._give_to_owner(self._descriptor)
            except FileExistsError:
                self._descriptor = os.open(path, flags)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        except BaseException:  # some network file systems have no locks
            os.close(self._descriptor)
            raise

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)
