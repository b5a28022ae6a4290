"""Who holds a device: the kernel driver bound to it, or the process that has it open.

All of it is read from sysfs and /proc, where everybody may look; of other users' processes only
root sees what they have open, so "" means that it is not known.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

USB_DEVICES = "sys/bus/usb/devices"


def usb_node(bus: int, address: int) -> str:
    """The device file of a USB device."""
    return f"/dev/bus/usb/{bus:03}/{address:03}"


def usb_name(bus: int, ports: Sequence[int]) -> str:
    """The kernel's name of a USB device, e.g. 1-2.3: the bus, and the ports from its root on."""
    return f"{bus}-{'.'.join(map(str, ports))}"


def text(path: Path) -> str:
    """What a file of sysfs or /proc says, on one line; "" if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def usb_driver(name: str, root: str = "/") -> str:
    """The driver of a USB device's interface 0; "usbfs" is a program that claimed it; or ""."""
    for interface in sorted(Path(root, USB_DEVICES).glob(f"{name}:*.0")):
        try:
            return os.path.basename(os.readlink(interface / "driver"))
        except OSError:
            continue
    return ""


def process_with(node: str, root: str = "/", *, but: int | None = None) -> str:
    """The first process that has `node` open, as "process 812 (rngd)"; or "".

    but: a process that is not meant, this one itself.
    """
    wanted = os.path.realpath(node)
    for folder in sorted(Path(root, "proc").glob("[0-9]*"), key=lambda path: int(path.name)):
        if folder.name == str(but):
            continue
        try:
            targets = [os.readlink(entry) for entry in (folder / "fd").iterdir()]
        except OSError:
            continue  # another user's, or it has just ended
        if wanted in targets:
            return f"process {folder.name} ({text(folder / 'comm') or 'unnamed'})"
    return ""
