"""`alea:`, `alea:serial=S`, `alea:bus=1,port=2`: the Araneus Alea I and II, over USB.

It needs no start command and gives about 12.5 kB/s of what OpenBSD's manual calls raw entropy.
"""

from __future__ import annotations

from entropy.sources.base import Figures
from entropy.sources.usb import UsbSource
from entropy.sources.usb_find import UsbKind

ALEA = UsbKind("Araneus Alea", 0x12D8, 0x0001)
ALEA_FIGURES = Figures(
    4,
    7,
    "Araneus Alea: unverified. Nobody outside its maker has published what a byte holds; half is"
    " counted, and an assessment of your own device only bounds it from above",
)


class AleaSource(UsbSource):
    """Reads an Alea: every byte as it comes."""

    kind = ALEA

    def own_figures(self) -> Figures:
        return ALEA_FIGURES
