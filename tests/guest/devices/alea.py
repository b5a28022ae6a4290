#!/usr/bin/python3
"""An Araneus Alea that the kernel believes in: a USB gadget with one bulk IN endpoint.

    alea.py UDC RATE

It runs as root in a guest, gives RATE bytes in a second to whoever reads, and looks at
/run/alea/gives for what to give: noise, zeros, or nothing. Whoever wants it unplugged writes an
empty line to the UDC file of its gadget, and to plug it in again the name of a controller.

The device's side is FunctionFS: descriptors are written to ep0, data to ep1. It speaks full
speed, since the kernel's chaoskey driver reads 64 bytes at a time and larger packets would not fit.
"""

from __future__ import annotations

import contextlib
import os
import struct
import subprocess
import sys
import time
from pathlib import Path

GADGET = Path("/sys/kernel/config/usb_gadget/alea")
ENDPOINTS = Path("/dev/ffs-alea")
STATE = Path("/run/alea")
STEP_SECONDS = 0.05  # what it gives at once is less than what a start-up test wants to see

# linux/usb/functionfs.h
_DESCRIPTORS_MAGIC, _STRINGS_MAGIC, _HAS_FULL_SPEED = 3, 2, 1
_VENDOR_SPECIFIC, _BULK, _IN_1 = 0xFF, 2, 0x81
_PACKET_BYTES = 64


def descriptors() -> bytes:
    """One interface with one bulk IN endpoint, as FunctionFS wants it (its version 2)."""
    interface = struct.pack("<9B", 9, 4, 0, 0, 1, _VENDOR_SPECIFIC, 0, 0, 0)
    endpoint = struct.pack("<4BHB", 7, 5, _IN_1, _BULK, _PACKET_BYTES, 0)
    rest = struct.pack("<I", 2) + interface + endpoint
    return struct.pack("<3I", _DESCRIPTORS_MAGIC, 12 + len(rest), _HAS_FULL_SPEED) + rest


def make() -> None:
    """The gadget in configfs, with nothing plugged in yet."""
    for path, text in (
        ("idVendor", "0x12d8"),
        ("idProduct", "0x0001"),
        ("bDeviceClass", "0xff"),
        ("strings/0x409/manufacturer", "Araneus Information Systems Oy"),
        ("strings/0x409/product", "Alea II TRNG"),
        ("strings/0x409/serialnumber", "TEST0001"),
    ):
        (GADGET / path).parent.mkdir(parents=True, exist_ok=True)
        (GADGET / path).write_text(text)
    (GADGET / "functions/ffs.alea").mkdir(parents=True)
    (GADGET / "configs/c.1").mkdir(parents=True)
    (GADGET / "configs/c.1/ffs.alea").symlink_to(GADGET / "functions/ffs.alea")
    ENDPOINTS.mkdir()
    subprocess.run(["mount", "-t", "functionfs", "alea", str(ENDPOINTS)], check=True)


def give(endpoint: int, rate_bytes_per_second: int) -> None:
    n_bytes = int(rate_bytes_per_second * STEP_SECONDS)
    while True:
        time.sleep(STEP_SECONDS)
        kind = (STATE / "gives").read_text().strip()
        if kind not in ("noise", "zeros"):  # also when the file is just being written
            continue
        data = os.urandom(n_bytes) if kind == "noise" else bytes(n_bytes)
        # Unplugged in the middle of it. While it is away the next write waits.
        with contextlib.suppress(OSError):
            os.write(endpoint, data)


def main() -> None:
    controller, rate = sys.argv[1], int(sys.argv[2])
    STATE.mkdir(exist_ok=True)
    (STATE / "gives").write_text("noise")
    make()
    control = os.open(ENDPOINTS / "ep0", os.O_RDWR)
    os.write(control, descriptors())
    os.write(control, struct.pack("<4I", _STRINGS_MAGIC, 16, 0, 0))
    endpoint = os.open(ENDPOINTS / "ep1", os.O_RDWR)
    (GADGET / "UDC").write_text(controller)
    give(endpoint, rate)


if __name__ == "__main__":
    main()
