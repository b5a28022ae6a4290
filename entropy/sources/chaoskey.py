"""`chaoskey:`, `chaoskey:endpoint=raw`: the ChaosKey, over USB. Selected as `alea:` is.

It has two streams: cooked (the default), which it has whitened itself, and raw, the samples of
its converter, 12 bits in two bytes, the lower byte first. Of a raw sample the lower eight bits
are taken: the health tests look at bytes, and the upper four bits move least.
"""

from __future__ import annotations

from entropy.sources.base import Figures, StatedFigures
from entropy.sources.parameters import one_of, parameters
from entropy.sources.usb import UsbSource
from entropy.sources.usb_find import UsbKind, wanted_in

CHAOSKEY = UsbKind("ChaosKey", 0x1D50, 0x60C6)
ENDPOINTS = {"cooked": 0x85, "raw": 0x86}
COOKED_FIGURES = Figures(
    1, 7, "ChaosKey, cooked: whitened in the device, so that no test sees its noise; counted low"
)
RAW_FIGURES = Figures(
    1,
    4,
    "ChaosKey, raw: the lower 8 of the 12 bits of each sample. Unverified and counted low: assess"
    " your own device",
)


class ChaosKeySource(UsbSource):
    """Reads one of a ChaosKey's two streams."""

    kind = CHAOSKEY

    def __init__(self, uri: str, stated: StatedFigures, text: str = "") -> None:
        found = parameters(uri, text, ("endpoint", "serial", "bus", "port"))
        endpoint = one_of(uri, "endpoint", found.pop("endpoint", "cooked"), ENDPOINTS)
        super().__init__(uri, stated, wanted_in(uri, found), ENDPOINTS[endpoint])
        self._is_raw = endpoint == "raw"
        self._half = b""  # of a sample that two transfers share

    def own_figures(self) -> Figures:
        return RAW_FIGURES if self._is_raw else COOKED_FIGURES

    def open(self) -> None:
        super().open()
        self._half = b""

    def decode(self, data: bytes) -> bytes:
        if not self._is_raw:
            return data
        data = self._half + data
        self._half = data[len(data) & ~1 :]
        return data[: len(data) & ~1 : 2]
