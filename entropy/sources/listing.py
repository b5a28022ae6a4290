"""What is plugged in: every generator that this machine has, and the URI to use it by.

All of it is read from sysfs and /proc; no device is opened, and no library is needed. What Linux
drives itself is listed twice, as the USB device that it is and as the hwrng that it became.
"""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TextIO

from entropy.sources.alea import ALEA, ALEA_FIGURES
from entropy.sources.base import Figures
from entropy.sources.chaoskey import CHAOSKEY, COOKED_FIGURES
from entropy.sources.holder import USB_DEVICES, process_with, text, usb_driver, usb_node
from entropy.sources.hwrng import CURRENT_DEVICE_PATH, DEFAULT_PATH, SWITCH, figures_of
from entropy.sources.jitter import IN_A_GUEST, ON_A_HOST, is_guest
from entropy.sources.serial import MODELS


class Device(NamedTuple):
    """One generator. Texts are "" where there is nothing to say."""

    device: str  # what it is
    serial_number: str
    driver: str  # the kernel driver that holds it, or "usbfs", a program by libusb
    holder: str  # the process that has it open, as far as we may see that
    uri: str  # "" where we cannot read it
    credit_bits_per_byte: float
    test_bits_per_byte: float
    reason: str  # of the two figures
    first: str  # what has to be done before it can be read
    note: str  # what else an operator should know

    @property
    def is_real(self) -> bool:
        """Whether it is a device that can be read as it is, and earns credit."""
        readable = bool(self.uri) and not self.first
        return readable and self.credit_bits_per_byte > 0 and self.uri != "jitter:"


_NONE = Figures(0, 4, "this program cannot read it")
_USE_ITS_TOOL = "let its maker's tool feed exec:COMMAND, with figures of your own"
_CHAOSKEY_NOTE = "the kernel credits what the driver chaoskey gives it, without a health test"
# Devices that are a serial line, by their ids.
_LINES = {
    ("1d50", "6086"): ("OneRNG", "onerng"),
    ("04d8", "f5fe"): ("TrueRNG", "truerng"),
    ("16d0", "0aa0"): ("TrueRNGpro", "truerngpro"),
    ("04d8", "ebb5"): ("TrueRNGpro V2", "truerngpro"),
}
# Devices that need the tool of their maker, and what their product string holds: Infinite Noise
# has the ids of any FTDI adapter.
_OTHERS = {
    ("1fc9", "8110"): ("SwiftRNG", ""),
    ("1fc9", "8111"): ("SwiftRNG", ""),
    ("0403", "6015"): ("Infinite Noise", "Infinite Noise"),
}


def listing(root: str = "/") -> list[Device]:
    """Everything found: USB devices first, then what the kernel drives, then CPU jitter."""
    return [*_usb(root), *_hwrng(root), *_jitter(root)]


def first_real(devices: list[Device]) -> Device | None:
    """The device that a feeder should read when nobody says which."""
    return next((device for device in devices if device.is_real), None)


def _usb(root: str) -> Iterator[Device]:
    for folder in sorted(Path(root, USB_DEVICES).glob("*-*"), key=_place):
        ids = (text(folder / "idVendor"), text(folder / "idProduct"))
        if ids in _LINES:
            yield from _line(root, folder, *_LINES[ids])
        elif ids in _OTHERS:
            name, product = _OTHERS[ids]
            if product in text(folder / "product"):
                yield _on_usb(root, folder, name, "", _NONE, first=_USE_ITS_TOOL)
        elif ids == _ids(ALEA.vendor_id, ALEA.product_id):
            yield _bulk(root, folder, ALEA.name, "alea", ALEA_FIGURES)
        elif ids == _ids(CHAOSKEY.vendor_id, CHAOSKEY.product_id):
            yield _bulk(root, folder, CHAOSKEY.name, "chaoskey", COOKED_FIGURES)


def _bulk(root: str, folder: Path, name: str, scheme: str, figures: Figures) -> Device:
    serial = text(folder / "serial")
    bus, _, port = folder.name.partition("-")
    tells = _may_stand_in_a_uri(serial) and not _has_a_twin(folder, serial)
    which = f"serial={serial}" if tells else f"bus={bus},port={port}"
    note = _CHAOSKEY_NOTE if usb_driver(folder.name, root) == "chaoskey" else ""
    return _on_usb(root, folder, name, f"{scheme}:{which}", figures, note=note)


def _line(root: str, folder: Path, name: str, model: str) -> Iterator[Device]:
    """A serial device: its line has a name once the driver cdc_acm has bound."""
    lines = [path.name for path in folder.glob(f"{folder.name}:*/tty/*")]
    figures = MODELS[model].figures
    if not lines:
        first = "no driver has made a serial line of it: is cdc_acm loaded?"
        yield _on_usb(root, folder, name, "", figures, first=first)
    for line in lines:
        path = _by_id(root, line) or f"/dev/{line}"
        device = _on_usb(root, folder, name, f"serial:{path}?model={model}", figures)
        yield device._replace(holder=process_with(f"/dev/{line}", root))


def _on_usb(
    root: str,
    folder: Path,
    name: str,
    uri: str,
    figures: Figures,
    *,
    first: str = "",
    note: str = "",
) -> Device:
    bus, address = text(folder / "busnum"), text(folder / "devnum")
    is_known = bus.isdecimal() and address.isdecimal()
    return Device(
        name,
        text(folder / "serial"),
        usb_driver(folder.name, root),
        process_with(usb_node(int(bus), int(address)), root) if is_known else "",
        uri,
        *_figures(figures),
        first,
        note,
    )


def _hwrng(root: str) -> Iterator[Device]:
    available = text(_under(root, CURRENT_DEVICE_PATH).with_name("rng_available"))
    current = text(_under(root, CURRENT_DEVICE_PATH))
    for name in _names(available, current):
        is_current = name == current
        first = "" if is_current else f"as root: {SWITCH.format(name=name)}"
        if name in _names_by_chaoskey(root):
            first = "nothing, but read it as the USB device that it is"
        holder = process_with(DEFAULT_PATH, root) if is_current else ""
        note = "" if is_current else f"{DEFAULT_PATH} reads {current} now"
        what = "the generator of the host" if name.startswith("virtio") else "driven by Linux"
        figures = _figures(figures_of(name, in_a_guest=is_guest(root)))
        yield Device(
            f"{name}, {what}", "", name, holder, f"hwrng:name={name}", *figures, first, note
        )


def _names(available: str, current: str) -> list[str]:
    """The names in rng_available. chaoskey's is the product's, with spaces: such a one can be told
    from several only while it is the current one."""
    if " " not in current:
        return [name for name in available.split() if name != "none"]
    before, found, after = available.partition(current)
    return [*_names(before, ""), *([found] if found else []), *_names(after, "")]


def _names_by_chaoskey(root: str) -> set[str]:
    """What the driver chaoskey calls the generators that it makes of USB devices."""
    names = set()
    for folder in Path(root, USB_DEVICES).glob("*-*"):
        if ":" not in folder.name and usb_driver(folder.name, root) == "chaoskey":
            product, serial = text(folder / "product"), text(folder / "serial")
            names.add(f"{product}-{serial}" if product and serial else "chaoskey")
    return names


def _jitter(root: str) -> Iterator[Device]:
    figures = IN_A_GUEST if is_guest(root) else ON_A_HOST
    try:
        with socket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET) as algorithm:
            algorithm.bind(("rng", "jitterentropy_rng"))
    except OSError:
        return
    yield Device("CPU jitter", "", "jitterentropy_rng", "", "jitter:", *_figures(figures), "", "")


def _figures(figures: Figures) -> tuple[float, float, str]:
    return figures.credit_bits_per_byte, figures.test_bits_per_byte, figures.reason


def _by_id(root: str, line: str) -> str:
    """The name of a serial line that does not depend on the order of plugging in; or ""."""
    folder = Path(root, "dev/serial/by-id")
    if folder.is_dir():
        for link in sorted(folder.iterdir()):
            if link.is_symlink() and os.path.basename(os.readlink(link)) == line:
                return f"/dev/serial/by-id/{link.name}"
    return ""


def _place(folder: Path) -> list[int]:
    """By bus, then port by port, as numbers."""
    return [int(number) for number in re.findall(r"\d+", folder.name)]


def _ids(vendor_id: int, product_id: int) -> tuple[str, str]:
    return f"{vendor_id:04x}", f"{product_id:04x}"


def _may_stand_in_a_uri(serial: str) -> bool:
    return bool(re.fullmatch(r"[!-~]+", serial)) and "," not in serial


def _has_a_twin(folder: Path, serial: str) -> bool:
    """Whether another device of the same kind says that it has the same serial number."""
    kind = [text(folder / part) for part in ("idVendor", "idProduct")]
    return any(
        text(other / "serial") == serial
        and [text(other / part) for part in ("idVendor", "idProduct")] == kind
        for other in folder.parent.iterdir()
        if other.name != folder.name
    )


def _under(root: str, path: str) -> Path:
    return Path(root, path.lstrip("/"))


# As text and as JSON


def as_values(devices: list[Device]) -> list[dict[str, object]]:
    """For JSON: the fields, and `real`."""
    return [{**device._asdict(), "real": device.is_real} for device in devices]


def as_lines(devices: list[Device]) -> list[str]:
    """For people: some lines for each device."""
    lines = []
    for one in devices:
        lines.append(
            one.device + (f", serial number {one.serial_number}" if one.serial_number else "")
        )
        lines.append(f"    source   {one.uri or 'none'}")
        held = ", ".join(part for part in (one.driver, one.holder) if part)
        lines.append(f"    held by  {held or 'nobody'}")
        lines.append(
            f"    counts   {one.credit_bits_per_byte:g} bits per byte, tested for"
            f" {one.test_bits_per_byte:g}: {one.reason}"
        )
        if one.first:
            lines.append(f"    first    {one.first}")
        if one.note:
            lines.append(f"    note     {one.note}")
    return lines or ["no generator was found"]


def run(output: TextIO, *, as_json: bool) -> int:
    """`entropy sources`. Returns the exit status, 0."""
    devices = listing()
    if as_json:
        json.dump(as_values(devices), output, indent=2)
        output.write("\n")
    else:
        output.writelines(f"{line}\n" for line in as_lines(devices))
    return 0
