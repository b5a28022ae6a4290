"""What every source of noise is to the rest of the program, and the figures it is counted by."""

from __future__ import annotations

import contextlib
import errno
import os
from abc import ABC, abstractmethod
from dataclasses import dataclass

from entropy.errors import ConfigError, SourceError, SourceGone


@dataclass(frozen=True)
class Figures:
    """How much min-entropy a byte of a source holds, in bits, and why we think so.

    credit_bits_per_byte is what we count. test_bits_per_byte is what the samples should look
    like: the cutoffs of the health tests come from it, so that a cautious credit does not
    blunt them. 0 <= credit <= test <= 8, or ConfigError.
    """

    credit_bits_per_byte: float
    test_bits_per_byte: float
    reason: str

    def __post_init__(self) -> None:
        credit, test = self.credit_bits_per_byte, self.test_bits_per_byte
        if not 0 <= credit <= 8:
            raise ConfigError(
                f"credit_bits_per_byte is {credit:g}: a byte holds from 0 to 8 bits of min-entropy"
            )
        if not 0 < test <= 8:
            raise ConfigError(
                f"test_bits_per_byte is {test:g}: the health tests need more than 0 and at most 8"
            )
        if test < credit:
            raise ConfigError(
                f"test_bits_per_byte ({test:g}) is below credit_bits_per_byte ({credit:g}):"
                " the tests must expect at least what is counted"
            )


@dataclass(frozen=True)
class StatedFigures:
    """What the operator says of a source. None leaves a figure as the source has it."""

    credit_bits_per_byte: float | None = None
    test_bits_per_byte: float | None = None
    reason: str | None = None

    def __post_init__(self) -> None:
        if self.credit_bits_per_byte and not self.reason:
            raise ConfigError(
                f"credit_bits_per_byte = {self.credit_bits_per_byte:g} is stated without a reason:"
                " say in `reason` why this source holds that much"
            )

    def over(self, own: Figures) -> Figures:
        """The figures in force: the stated ones, and the source's `own` where none is stated.

        A credit that is stated above the source's own test figure lifts that to itself.
        """
        credit, test = self.credit_bits_per_byte, self.test_bits_per_byte
        if credit is None and test is None:
            return own
        if credit is None:
            credit = own.credit_bits_per_byte
        if test is None:
            test = max(own.test_bits_per_byte, credit)
        return Figures(credit, test, self.reason or "stated by the operator")


class Source(ABC):
    """One device. Its calls block; a caller that must not block uses a thread.

    A source that was closed, or that raised, may be opened again.
    """

    def __init__(self, uri: str, stated: StatedFigures) -> None:
        self.uri = uri
        self.name = uri.rstrip(":")  # for messages: "jitter: the kernel has none"
        self._stated = stated

    @property
    def figures(self) -> Figures:
        """The figures in force, of the device that is there now."""
        return self._stated.over(self.own_figures())

    @abstractmethod
    def own_figures(self) -> Figures:
        """What holds for this kind of device as long as the operator does not say otherwise."""

    @abstractmethod
    def open(self) -> None:
        """Open the device. SourceGone: it is not there (now); SourceError: it cannot be used."""

    @abstractmethod
    def read(self, n_bytes: int) -> bytes:
        """Wait for samples; return 1 to `n_bytes` of them, exactly as the device gave them.

        As many as come without a long wait: each call has its price.
        Never b"". Raises SourceGone when the device went away, SourceError for all else.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of the device. Never raises; closing twice is nothing."""


# What the kernel answers when a device is not there, or is there no more.
_GONE = {errno.ENOENT, errno.ENODEV, errno.ENXIO, errno.EIO, errno.ESHUTDOWN}


def source_failure(name: str, doing: str, error: OSError) -> SourceError:
    """The error to raise for `error`, met while `doing` ("opening", "reading") a source."""
    # Without a number there is only a text, such as pyserial's.
    why = os.strerror(error.errno) if error.errno else error.strerror or str(error)
    if error.errno in _GONE:
        return SourceGone(f"{name}: the device is not there: {why}")
    if error.errno in (errno.EACCES, errno.EPERM):
        return SourceError(f"{name}: {why}: give this process's user or group the right to read it")
    return SourceError(f"{name}: {doing} it failed: {why}")


class DeviceFile:
    """A file descriptor that is read without buffering, shared by the sources that have a path."""

    def __init__(self, name: str, path: str) -> None:
        self._name = name
        self._path = path
        self._descriptor = -1

    def open(self) -> None:
        self.close()
        try:
            self._descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise source_failure(self._name, "opening", error) from None

    def read(self, n_bytes: int) -> bytes:
        """1 to `n_bytes` bytes, or b"" at the end of the file."""
        if self._descriptor < 0:
            raise SourceError(f"{self._name}: is not open")
        try:
            return os.read(self._descriptor, n_bytes)
        except OSError as error:
            raise source_failure(self._name, "reading", error) from None

    def identity(self) -> tuple[int, int]:
        """Device and inode of the open file: another file of the same name has others."""
        status = os.fstat(self._descriptor)
        return status.st_dev, status.st_ino

    def skip(self, n_bytes: int) -> None:
        """Go on after the first `n_bytes`. A pipe has no beginning, and just goes on."""
        with contextlib.suppress(OSError):
            os.lseek(self._descriptor, n_bytes, os.SEEK_SET)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
