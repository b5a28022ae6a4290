"""What a client remembers between draws: its counter, and when it last fed the kernel.

The counter goes into every login and must never repeat under one boot id: a broker takes
a repeated one for a clone. Every process that draws with the same credential therefore
takes it from one file, under one lock. Nothing here is secret.

A machine that was told that it is a clone, or restored, goes on under a boot id of its own
making: the kernel's stands in its twin's logins too. It tells the broker so, and the counter
that both remember is never used again.

`state.json` in the state directory: counter, boot_id (hex, of the last login), generation
({"kernel_boot_id", "boot_id"}, both hex, since a clone), platform (what tells it from its
clones, in hex by where it is from), last_fed_unix (seconds), fed_boot_id (hex), last_credit_bits
(what the reply was worth), credited_to_kernel_bits (what the kernel was told of it), last_broker
(its id; two joined by "+"), last_kind ("seed" or "topup").
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
        self._generation: dict[str, Any] = {}  # that began, and goes with whatever is written next

    def boot_id(self, kernel_boot_id: bytes) -> bytes:
        """The 16 bytes that this machine's logins call its boot: the kernel's, or a clone's own."""
        try:
            own = (self._generation or self.read()).get("generation")
        except OSError:
            own = None
        if isinstance(own, dict) and own.get("kernel_boot_id") == kernel_boot_id.hex():
            try:
                return bytes.fromhex(own["boot_id"])
            except (KeyError, TypeError, ValueError):
                pass
        return kernel_boot_id

    def begin_generation(self, kernel_boot_id: bytes, boot_id: bytes) -> None:
        """This machine is a clone, or restored: its logins say boot_id (16 bytes) from now on.

        Kept with the next counter, so that whoever waits for a seed is spared a write of its own;
        or by `keep`.
        """
        own = {"kernel_boot_id": kernel_boot_id.hex(), "boot_id": boot_id.hex()}
        self._generation = {"generation": own}

    def keep(self) -> None:
        """Write what no login has written since `begin_generation`, if anything."""
        if self._generation:
            self.record()

    def next_counter(self, boot_id: bytes) -> int:
        """One more than the last under this boot id, kept before it is used; else the clock in ns.

        The clock also where there is no file, and it never goes below a counter that was used.
        """
        fresh = time.clock_gettime_ns(time.CLOCK_REALTIME)
        try:
            with _Lock(self):
                state = self.read()
                last = state.get("counter")
                counter = fresh
                if isinstance(last, int) and 0 <= last < 2**64 - 1:
                    same = state.get("boot_id") == boot_id.hex()
                    counter = last + 1 if same else max(fresh, last + 1)
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
        # may begin anywhere. One name is enough for all processes: they hold the lock.
        state = {**state, **self._generation}
        temporary = f"{self._path}.new"
        _remove(temporary)  # of a process that died here
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(temporary, flags, 0o600)
        try:
            with open(descriptor, "w", encoding="utf-8") as file:
                give_to_owner(descriptor, self._directory)
                file.write(json.dumps(state, sort_keys=True) + "\n")
            os.rename(temporary, self._path)
        except BaseException:
            _remove(temporary)
            raise
        self._generation = {}

    def _tell(self, error: OSError) -> None:
        if not self._told:
            self._told = True
            notify.log(
                f"{self._directory}: cannot keep the counter here ({error.strerror}):"
                " the clock stands in for it",
                notify.WARNING,
            )


def give_to_owner(descriptor: int, directory: str) -> None:
    """What root makes there belongs to whom the directory belongs to: the service's user."""
    if os.geteuid() == 0:
        owner = os.stat(directory)
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


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
                give_to_owner(self._descriptor, self._state._directory)
            except FileExistsError:
                self._descriptor = os.open(path, flags)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        except BaseException:  # some network file systems have no locks
            os.close(self._descriptor)
            raise

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)
