"""`hwrng:`, `hwrng:/dev/hwrng` or `hwrng:name=tpm-rng-0`: a generator that the kernel drives.

Linux may have several, and one of them at a time answers behind /dev/hwrng: the kernel's choice,
which changes when a better one is plugged in or goes away. The figures belong to a device, so its
name is compared after each read: another name is the end of this source, and what answers then
is opened (and tested) anew.

With a name it reads that device and no other. It cannot choose: rng_current is one setting for
the whole machine, whoever reads it, so root sets it (`SWITCH`). While another device is current
this source is not there, and says what to do. The name is looked at before and after each read;
a switch to and fro within one read would be missed.
"""

from __future__ import annotations

import os

from entropy.errors import SourceGone
from entropy.sources.base import DeviceFile, Figures, Source, StatedFigures
from entropy.sources.jitter import is_guest

DEFAULT_PATH = "/dev/hwrng"
CURRENT_DEVICE_PATH = "/sys/class/misc/hw_random/rng_current"
SWITCH = "echo {name} > " + CURRENT_DEVICE_PATH

# Most drivers hand out what the device has whitened already, so only a device that is stuck
# shows in a test; a test figure of 4 leaves room for those that do not whiten.
_HARDWARE = Figures(
    1, 4, "a hardware generator by its kernel driver: its own conditioning hides its quality"
)
_VIRTIO = Figures(
    0, 7, "virtio: this is the generator of the machine's host, not a source of its own"
)
_VIRTUAL_TPM = Figures(
    0, 7, "a TPM in a virtual machine: as a rule it is a program of the machine's host"
)
_UNKNOWN = Figures(0, 4, "the kernel does not say which device answers behind this path")


class HwrngSource(Source):
    """Reads the kernel's hardware generator device."""

    def __init__(
        self,
        uri: str,
        stated: StatedFigures,
        path: str = DEFAULT_PATH,
        current_device_path: str = CURRENT_DEVICE_PATH,
        wanted_name: str | None = None,
    ) -> None:
        super().__init__(uri, stated)
        self._wanted_name = wanted_name
        self._path = path
        self._file = DeviceFile(self.name, path)
        self._current_device_path = current_device_path
        self._device = ""

    def own_figures(self) -> Figures:
        device = self._wanted_name or self._current_device()
        # Without a device there is nothing to be unsure of: a feeder that starts before it is
        # plugged in waits for it, and asks again.
        if not device and not os.path.exists(self._path):
            return _HARDWARE
        return figures_of(device, in_a_guest=is_guest())

    def open(self) -> None:
        current, wanted = self._current_device(), self._wanted_name
        if current == "none":
            raise SourceGone(f"{self.name}: the kernel has no hardware generator now")
        if wanted and current != wanted:
            raise SourceGone(self._not_current(wanted, current or "an unnamed device"))
        self._file.open()
        self._device = self._current_device()

    def read(self, n_bytes: int) -> bytes:
        samples = self._file.read(n_bytes)
        device = self._current_device()
        if device != self._device:
            raise SourceGone(
                f"{self.name}: the kernel switched from {self._device or 'an unnamed device'}"
                f" to {device or 'an unnamed device'}"
            )
        if not samples:
            raise SourceGone(f"{self.name}: it gave nothing")
        return samples

    def close(self) -> None:
        self._file.close()

    def _not_current(self, wanted: str, current: str) -> str:
        available = _word(self._current_device_path.replace("rng_current", "rng_available"))
        if f" {wanted} " in f" {available} ":  # a name may hold spaces
            how = SWITCH.format(name=wanted)
            return f"{self.name}: the kernel reads from {current} now; as root: {how}"
        return f"{self.name}: the kernel has no such generator now; it has {available or 'none'}"

    def _current_device(self) -> str:
        """The name that the kernel gives, e.g. "virtio_rng.0", "tpm-rng-0", "none"; "" unknown."""
        return _word(self._current_device_path)


def figures_of(device: str, *, in_a_guest: bool) -> Figures:
    """The figures of a device by the name that the kernel gives it; "" is unknown."""
    if device.startswith("virtio"):
        return _VIRTIO
    if device.startswith("tpm") and in_a_guest:
        return _VIRTUAL_TPM
    return _HARDWARE if device else _UNKNOWN


def _word(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""
