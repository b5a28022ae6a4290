"""The saved seed: what carries this machine's randomness over to its next boot.

Like systemd-random-seed's, but of what brokers gave as well. It is used once: destroyed on the
disk before it is mixed in, so that neither a crash nor a copy of the disk that is started later
can make the same state twice from it alone. It is never credited: a copy of the disk has it too.
"""

from __future__ import annotations

import hashlib
import os
import stat
from contextlib import suppress

from entropy import kernel, notify
from entropy.client_state import give_to_owner

SEED_BYTES = 64
_NAME = "seed"


class SavedSeed:
    """The file `seed` in the client's state directory: SEED_BYTES bytes, mode 0600."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._path = os.path.join(directory, _NAME)

    def use(self) -> bool:
        """Mix what the last boot left into the kernel, and save another. False if there was none.

        Raises KernelError. A disk that cannot be written is told, and is no error.
        """
        try:
            seed = self._take()
        except OSError as error:
            self._tell(error)
            return False
        if seed:
            kernel.mix(seed)
            kernel.reseed()
        self.save(seed)
        return bool(seed)

    def save(self, before: bytes = b"") -> None:
        """Keep a seed for the next boot, of the kernel's generator and of `before`.

        On a kernel that is not ready `before` alone makes it, with the clocks: still secret.
        """
        parts = (b"entropy/1 saved seed", before, kernel.random_bytes(SEED_BYTES), kernel.clocks())
        seed = hashlib.sha512(b"".join(len(p).to_bytes(2, "big") + p for p in parts)).digest()
        try:
            self._write(seed)
        except OSError as error:
            self._tell(error)

    def _take(self) -> bytes:
        """Read the file and destroy it; on the disk, before this returns. b"" if there is none."""
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            descriptor = os.open(self._path, flags)
        except FileNotFoundError:
            return b""
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(0, "is not a file")
            seed = os.read(descriptor, SEED_BYTES)
            os.pwrite(descriptor, bytes(len(seed)), 0)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.unlink(self._path)
        self._sync_directory()
        return seed

    def _write(self, seed: bytes) -> None:
        self._remove_what_others_left()
        temporary = f"{self._path}.{os.getpid()}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(temporary, flags, 0o600)
        try:
            give_to_owner(descriptor, self._directory)
            os.write(descriptor, seed)
            os.fsync(descriptor)
            os.rename(temporary, self._path)
        except BaseException:
            os.unlink(temporary)
            raise
        finally:
            os.close(descriptor)
        self._sync_directory()

    def _remove_what_others_left(self) -> None:
        """A child of the client that takes too long is ended, perhaps halfway through `_write`."""
        for name in os.listdir(self._directory):
            base, _, pid = name.rpartition(".")
            if base == _NAME and pid.isdecimal() and not _is_another_process(int(pid)):
                with suppress(FileNotFoundError):
                    os.unlink(os.path.join(self._directory, name))

    def _sync_directory(self) -> None:
        descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _tell(self, error: OSError) -> None:
        notify.log(
            f"{self._path}: cannot keep a seed for the next boot here ({error.strerror})",
            notify.WARNING,
        )


def _is_another_process(pid: int) -> bool:
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:  # somebody else's
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True
