"""Sources on USB: one bulk endpoint of one device, read by libusb through pyusb.

`UsbSource` is the Source; a kind of device adds its ids, its figures, and what its bytes mean.
`Claimed` is one device as long as it is held. What each fault means to them:

| fault (errno)                         | what is done                                           |
|---------------------------------------|--------------------------------------------------------|
| short packet, part of the data        | what came is taken                                     |
| empty packet, time-out (110)          | read again; SourceGone after 15 s of nothing           |
| stall (32)                            | clear_halt, read again                                 |
| I/O error (5), babble (75), others    | read again                                             |
| three of the last two rows in a row   | SourceGone: it is opened anew                          |
| unplugged (19)                        | SourceGone: it is looked for again, wherever it is     |
| a kernel driver is bound              | detached, and not attached again                       |
| claimed by somebody else (16)         | tried five times, then SourceError that says by whom   |
| no permission (13)                    | the same, then SourceError that names the udev rule    |

After SourceGone or SourceError, `open` starts from nothing: a new libusb context, since an old
one may never see what was plugged in meanwhile. pyusb is imported by `open` alone.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import functools
import threading
import time
from typing import Any

from entropy.errors import SourceError, SourceGone
from entropy.sources.base import Source, StatedFigures
from entropy.sources.usb_find import GONE, INTERFACE, UsbKind, Wanted, claim, find, matches

# What is asked for at once is as much as the device gives in about 0.1 s: it waits between two
# transfers. Whole packets always, or the last one could babble.
LEAST_TRANSFER_BYTES = 4096
MOST_TRANSFER_BYTES = 65536
TRANSFER_SECONDS = 0.1
FIRST_TIMEOUT_SECONDS = 5.0  # the first read after plugging in takes up to 2 s
TIMEOUT_SECONDS = 1.0
SILENCE_SECONDS = 15.0
ERRORS_IN_A_ROW = 3
_EMPTY_PAUSE_SECONDS = 0.01  # a device that sends empty packets must not keep a core busy
_ERROR_PAUSE_SECONDS = 0.02
_ANYONE = Wanted()
_BULK, _TYPE_MASK, _IN = 2, 3, 0x80


def new_backend() -> Any:
    """libusb with a context of its own. SourceError if it cannot be had."""
    import usb.backend.libusb1

    shared = usb.backend.libusb1.get_backend()  # loads the library, once
    if shared is None:
        raise SourceError(
            "libusb cannot be used: install libusb-1.0-0"
            " (a sandbox must allow AF_NETLINK, by which libusb hears of new devices)"
        )
    backend_class: Any = type(shared)
    try:
        return _tidy(backend_class)(shared.lib)
    except OSError as error:
        raise SourceError(f"libusb cannot be used: {error.strerror}") from None


@functools.lru_cache(maxsize=1)
def _tidy(backend_class: Any) -> Any:
    """A backend that lets go of each device that it found before it lets go of libusb.

    pyusb leaves the order to chance: a device may be kept by the traceback of an error, until the
    garbage collector meets it, and libusb without its context then crashes the process.
    """

    class Tidy(backend_class):  # type: ignore[misc]
        def __init__(self, lib: Any) -> None:
            self._found: list[Any] = []
            super().__init__(lib)

        def enumerate_devices(self) -> Any:
            found = list(super().enumerate_devices())
            self._found += found
            return iter(found)

        def _finalize_object(self) -> None:
            for device in self._found:
                device.finalize()
            super()._finalize_object()

    return Tidy


class UsbSource(Source):
    """A device of one kind. Subclasses set `kind` and say `own_figures`."""

    kind: UsbKind

    def __init__(
        self,
        uri: str,
        stated: StatedFigures,
        wanted: Wanted = _ANYONE,
        endpoint_address: int | None = None,
    ) -> None:
        super().__init__(uri, stated)
        self._wanted = wanted
        self._endpoint_address = endpoint_address
        self._claimed: Claimed | None = None
        self._samples = bytearray()

    def open(self) -> None:
        self.close()
        self._claimed = Claimed(self.name, self.kind, self._wanted, self._endpoint_address)

    def read(self, n_bytes: int) -> bytes:
        if self._claimed is None:
            raise SourceError(f"{self.name}: is not open")
        while not self._samples:
            self._samples += self.decode(self._claimed.transfer())
        samples = bytes(self._samples[:n_bytes])
        del self._samples[:n_bytes]
        return samples

    def decode(self, data: bytes) -> bytes:
        """The samples in what one transfer brought."""
        return data

    def close(self) -> None:
        self._samples[:] = bytes(len(self._samples))
        self._samples.clear()
        if self._claimed is not None:
            self._claimed.release()
            self._claimed = None


class Claimed:
    """One device with its interface 0 claimed, from making to `release`.

    endpoint_address: which bulk IN endpoint is read; None: the first.
    Making it raises SourceGone if no such device is there, SourceError if it cannot be had.
    """

    def __init__(
        self, name: str, kind: UsbKind, wanted: Wanted, endpoint_address: int | None = None
    ) -> None:
        self._name = name
        self._lock = threading.Lock()  # held while libusb is at work
        self._ending = False  # somebody waits to release it
        self._backend = new_backend()
        self._device: Any = None
        self._where = ""
        self._timeout_seconds = FIRST_TIMEOUT_SECONDS
        self._endpoint_address = 0
        self._packet_bytes = 0
        self._wanted_bytes = LEAST_TRANSFER_BYTES
        try:
            refusal = self._claim_one(kind, wanted) or self._choose(endpoint_address)
        except OSError as error:  # a USBError; most likely it went while we looked
            refusal = SourceGone(f"{name}: the bus cannot be searched: {error.strerror}")
        if refusal is not None:
            self.release()
            raise refusal
        # pyusb closes everything at exit, which must not happen in the middle of a transfer.
        atexit.register(self.release)

    def _claim_one(self, kind: UsbKind, wanted: Wanted) -> SourceError | None:
        """Claim the first device that matches and can be had. Returns why there is none."""
        there = find(self._backend, kind)
        refusals = []
        for found in there:
            if matches(found, wanted):
                refusal = claim(self._name, found)
                if refusal is None:
                    self._device, self._where = found.device, found.where
                    return None
                refusals.append(refusal)
        if refusals:
            return refusals[0]
        others = "; there is " + ", ".join(found.where for found in there) if there else ""
        return SourceGone(f"{self._name}: no {kind.name}{wanted} is plugged in{others}")

    def _choose(self, address: int | None) -> SourceError | None:
        """Choose the endpoint to read. Returns what is wrong if there is none."""
        for endpoint in self._device.get_active_configuration()[(INTERFACE, 0)]:
            is_bulk = endpoint.bmAttributes & _TYPE_MASK == _BULK
            is_meant = address in (None, endpoint.bEndpointAddress)
            if is_bulk and is_meant and endpoint.bEndpointAddress & _IN:
                self._endpoint_address = int(endpoint.bEndpointAddress)
                self._packet_bytes = int(endpoint.wMaxPacketSize)
                return None
        which = "endpoint" if address is None else f"endpoint {address:#x}"
        return SourceError(
            f"{self._name}: {self._where}, has no bulk IN {which} in interface 0: it is not a"
            " device as we know it, and exec: with a program that does may read it"
        )

    def transfer(self) -> bytes:
        """Wait for what the device gives next: 1 byte or more. Raises SourceGone, SourceError."""
        import usb.core

        silent_seconds = 0.0
        n_errors = 0
        while silent_seconds < SILENCE_SECONDS:
            if self._ending:
                raise SourceGone(f"{self._name}: was closed")
            with self._lock:
                n_bytes = -(-self._wanted_bytes // self._packet_bytes) * self._packet_bytes
                started = time.monotonic()
                try:
                    data = self._device.read(
                        self._endpoint_address, n_bytes, int(1000 * self._timeout_seconds)
                    )
                    if data:
                        took_seconds = time.monotonic() - started
                        self._pace(len(data) == n_bytes, took_seconds)
                        self._timeout_seconds = TIMEOUT_SECONDS
                        return bytes(data)
                    time.sleep(_EMPTY_PAUSE_SECONDS)
                    silent_seconds += time.monotonic() - started
                except usb.core.USBTimeoutError:
                    silent_seconds += self._timeout_seconds
                    self._timeout_seconds = TIMEOUT_SECONDS
                except usb.core.USBError as error:
                    n_errors += 1
                    self._survive(error, n_errors)
        raise SourceGone(
            f"{self._name}: {self._where}, gave nothing for {SILENCE_SECONDS:g} s; if it stays"
            " like that, unplug it and plug it in again"
        )

    def _pace(self, was_full: bool, took_seconds: float) -> None:
        """Ask for more at once, or for less, next time."""
        if was_full and took_seconds < TRANSFER_SECONDS / 2:
            self._wanted_bytes = min(2 * self._wanted_bytes, MOST_TRANSFER_BYTES)
        elif not was_full or took_seconds > TRANSFER_SECONDS:
            self._wanted_bytes = max(self._wanted_bytes // 2, LEAST_TRANSFER_BYTES)

    def _survive(self, error: Any, n_errors: int) -> None:
        """Make the next read possible, or raise."""
        import usb.core

        if error.errno in GONE:
            raise SourceGone(f"{self._name}: {self._where}, was unplugged") from None
        if n_errors >= ERRORS_IN_A_ROW:
            raise SourceGone(
                f"{self._name}: {self._where}, gave {n_errors} errors in a row, the last one:"
                f" {error.strerror}; if it stays like that, unplug it and plug it in again"
            ) from None
        if error.errno != errno.EPIPE:
            time.sleep(_ERROR_PAUSE_SECONDS)
            return
        try:
            self._device.clear_halt(self._endpoint_address)
        except usb.core.USBError as worse:
            self._survive(worse, n_errors + 1)

    def release(self) -> None:
        """Let go of the device and of libusb, when the transfer that runs has ended."""
        atexit.unregister(self.release)
        self._ending = True
        with self._lock:
            if self._device is not None:
                import usb.util

                with contextlib.suppress(OSError):  # it may have gone
                    usb.util.dispose_resources(self._device)
                # Its last reference to a device must be gone before the context is.
                self._device = None
            if self._backend is not None:
                self._backend.finalize()
                self._backend = None
