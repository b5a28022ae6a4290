#!/usr/bin/python3
"""A TrueRNG that the kernel believes in: the USB gadget of a serial port (CDC-ACM).

    truerng.py UDC RATE

It runs as root in a guest and gives RATE bytes in a second of noise to whoever opens the port.
"""

from __future__ import annotations

import os
import sys
import time
import tty
from pathlib import Path

GADGET = Path("/sys/kernel/config/usb_gadget/truerng")
PORT = Path("/dev/ttyGS0")
STEP_SECONDS = 0.1


def make(controller: str) -> None:
    for path, text in (
        ("idVendor", "0x04d8"),
        ("idProduct", "0xf5fe"),
        ("bDeviceClass", "0x02"),
        ("strings/0x409/manufacturer", "ubld.it"),
        ("strings/0x409/product", "TrueRNG"),
        ("strings/0x409/serialnumber", "TEST0002"),
    ):
        (GADGET / path).parent.mkdir(parents=True, exist_ok=True)
        (GADGET / path).write_text(text)
    (GADGET / "functions/acm.0").mkdir(parents=True)
    (GADGET / "configs/c.1").mkdir(parents=True)
    (GADGET / "configs/c.1/acm.0").symlink_to(GADGET / "functions/acm.0")
    (GADGET / "UDC").write_text(controller)


def give(rate_bytes_per_second: int) -> None:
    """For ever; the port is opened anew when the other side has hung up."""
    n_bytes = int(rate_bytes_per_second * STEP_SECONDS)
    while True:
        try:
            with open(PORT, "wb", buffering=0) as port:
                tty.setraw(port.fileno())
                while True:
                    port.write(os.urandom(n_bytes))
                    time.sleep(STEP_SECONDS)
        except OSError:
            time.sleep(STEP_SECONDS)


def main() -> None:
    make(sys.argv[1])
    give(int(sys.argv[2]))


if __name__ == "__main__":
    main()
