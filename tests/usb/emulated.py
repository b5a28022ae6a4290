"""Noise generators that are not there: descriptors, what they answer, and how they misbehave.

Nothing here knows pyusb or usbfs: a backend of pyusb (`backend`) and a kernel's device file
(`bus`) both ask an `EmulatedDevice`. It runs in Debian's own Python too: the standard library only.
"""

from __future__ import annotations

import random
import struct
from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

ALEA = (0x12D8, 0x0001)
CHAOSKEY = (0x1D50, 0x60C6)
BULK, INTERRUPT = 2, 3


class Answer(NamedTuple):
    """What one transfer comes to."""

    data: bytes = b""
    fault: str = ""  # "", "silence", "stall", "io", "babble", "gone"


class Endpoint(NamedTuple):
    address: int = 0x81
    attributes: int = BULK
    packet_bytes: int = 64


@dataclass
class EmulatedDevice:
    """One device. `script` holds what happens next, one entry for each transfer.

    Entries are lists, so that they travel as JSON: ["short", N], ["part", N], ["empty"],
    ["silence"], ["stall"], ["io"], ["babble"], ["zeros"], ["gone"]. After the last, noise.
    """

    ids: tuple[int, int] = ALEA
    serial_number: str = "A1"
    bus: int = 1
    ports: tuple[int, ...] = (2,)
    address: int = 2
    endpoints: tuple[Endpoint, ...] = (Endpoint(),)
    configuration: int = 1
    kernel_driver: str = ""
    n_rebinds: int = 0  # so often the driver binds again after it was detached
    claimed_elsewhere: int = 0  # so many attempts to claim it fail
    forbidden: int = 0  # so many attempts to open it fail
    script: deque[list[object]] = field(default_factory=deque)
    noise: random.Random = field(default_factory=lambda: random.Random(1))

    plugged: bool = True
    stalled: bool = False
    claimed: bool = False
    n_bytes_given: int = 0
    calls: list[str] = field(default_factory=list)
    requests: list[tuple[int, int, int]] = field(default_factory=list)  # endpoint, bytes, ms

    def transfer(self, n_bytes: int) -> Answer:
        """Answer a request for `n_bytes`."""
        if not self.plugged:
            return Answer(fault="gone")
        if self.stalled:
            return Answer(fault="stall")
        step = self.script.popleft() if self.script else ["short", n_bytes]
        kind = step[0]
        if kind in ("short", "part"):
            wanted = step[1]
            assert isinstance(wanted, int)
            data = self.noise.randbytes(min(wanted, n_bytes))
            self.n_bytes_given += len(data)
            return Answer(data, "silence" if kind == "part" else "")
        if kind == "zeros":
            return Answer(bytes(n_bytes))
        if kind == "empty":
            return Answer()
        if kind == "gone":
            self.plugged = False
        self.stalled = kind == "stall"
        return Answer(fault=str(kind))

    # What a host does to it. Each returns a fault or "".

    def open(self) -> str:
        if not self.plugged:
            return "gone"
        if self.forbidden:
            self.forbidden -= 1
            return "forbidden"
        return ""

    def claim(self) -> str:
        if self.kernel_driver or self.claimed:
            return "busy"
        if self.claimed_elsewhere:
            self.claimed_elsewhere -= 1
            return "busy"
        self.claimed = True
        self.calls.append("claim")
        return ""

    def release(self) -> None:
        self.claimed = False
        self.calls.append("release")

    def detach(self) -> None:
        self.calls.append("detach")
        if self.n_rebinds:
            self.n_rebinds -= 1
        else:
            self.kernel_driver = ""

    def clear_halt(self) -> None:
        self.calls.append("clear_halt")
        self.stalled = False

    def configure(self) -> str:
        self.calls.append("set_configuration")
        if self.kernel_driver:
            return "busy"
        self.configuration = 1
        return ""

    # Descriptors, as in USB 2.0 chapter 9

    @property
    def device_descriptor(self) -> bytes:
        vendor_id, product_id = self.ids
        index = 3 if self.serial_number else 0
        return struct.pack(
            "<BBHBBBBHHHBBBB",
            *(18, 1, 0x0200, 0, 0, 0, 64, vendor_id, product_id, 0x0100, 0, 0, index, 1),
        )

    @property
    def configuration_descriptor(self) -> bytes:
        endpoints = b"".join(
            struct.pack("<BBBBHB", 7, 5, one.address, one.attributes, one.packet_bytes, 0)
            for one in self.endpoints
        )
        interface = struct.pack("<BBBBBBBBB", 9, 4, 0, 0, len(self.endpoints), 255, 0, 0, 0)
        n_bytes = 9 + len(interface) + len(endpoints)
        head = struct.pack("<BBHBBBBB", 9, 2, n_bytes, 1, 1, 0, 0x80, 50)
        return head + interface + endpoints

    def string(self, index: int) -> bytes:
        """A string descriptor; number 0 lists the languages."""
        body = struct.pack("<H", 0x0409) if index == 0 else self.serial_number.encode("utf-16-le")
        return bytes([2 + len(body), 3]) + body
