"""Which USB device is meant, and getting hold of it through pyusb."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path
from typing import Any, NamedTuple

from entropy.errors import ConfigError, SourceError, SourceGone
from entropy.sources.holder import USB_DEVICES, process_with, text, usb_driver, usb_name, usb_node
from entropy.sources.parameters import parameters

CLAIM_ATTEMPTS = 5
PAUSE_SECONDS = 0.2  # between two of them
INTERFACE = 0
# What errors mean that the device is not there any more.
GONE = (errno.ENODEV, errno.ENOENT, errno.ESHUTDOWN)
_ROOT = "/"


class UsbKind(NamedTuple):
    """A kind of device, by the ids that it has on the bus."""

    name: str
    vendor_id: int
    product_id: int


class Wanted(NamedTuple):
    """Which one of its kind; None means any."""

    serial_number: str | None = None
    bus: int | None = None
    port: str | None = None  # the ports from the bus's root on, e.g. "2" or "2.3"

    def __str__(self) -> str:
        if self.serial_number is not None:
            return f" with the serial number {self.serial_number}"
        place = [f"bus {self.bus}"] if self.bus is not None else []
        place += [f"port {self.port}"] if self.port is not None else []
        return f" at {', '.join(place)}" if place else ""


def wanted_in(uri: str, found: dict[str, str]) -> Wanted:
    """What a URI's parameters ask for. ConfigError if they cannot be met."""
    bus, port, serial = (found.get(key) for key in ("bus", "port", "serial"))
    if serial is not None and (bus or port):
        raise ConfigError(f"{uri!r}: name the device by serial=, or by bus= and port=, not by both")
    if bus is not None and not bus.isdecimal():
        raise ConfigError(f"{uri!r}: bus is a number, as `entropy sources` shows it")
    if port is not None and not all(part.isdecimal() for part in port.split(".")):
        raise ConfigError(f"{uri!r}: port is written 2, or 2.3 behind a hub")
    if port is not None and bus is None:
        raise ConfigError(f"{uri!r}: a port is one of a bus: say bus= too")
    return Wanted(serial, None if bus is None else int(bus), port)


def wanted(uri: str, text_of_parameters: str) -> Wanted:
    """As `wanted_in`, from the text behind the colon."""
    return wanted_in(uri, parameters(uri, text_of_parameters, ("serial", "bus", "port")))


class Found(NamedTuple):
    """A device on the bus, and how a person finds it."""

    device: Any  # usb.core.Device
    serial_number: str
    where: str


def find(backend: Any, kind: UsbKind) -> list[Found]:
    """The devices of a kind, by bus and port. Opens those whose serial number sysfs has not."""
    import usb.core

    there = usb.core.find(
        find_all=True, backend=backend, idVendor=kind.vendor_id, idProduct=kind.product_id
    )
    found = []
    for device in there:
        serial = _serial_number(device)
        where = f"the {kind.name} at bus {device.bus}, port {_port(device)}"
        found.append(Found(device, serial, f"{where}, serial number {serial}" if serial else where))
    return sorted(found, key=lambda one: (one.device.bus, one.device.port_numbers or ()))


def matches(found: Found, wanted: Wanted) -> bool:
    return (
        wanted.bus in (None, found.device.bus)
        and wanted.port in (None, _port(found.device))
        and wanted.serial_number in (None, found.serial_number)
    )


def claim(name: str, found: Found) -> SourceError | None:
    """Claim interface 0, from a kernel driver if one is bound. Returns why it cannot be had.

    It is an error returned and not raised, so that no traceback keeps pyusb's objects alive.
    """
    import usb.core
    import usb.util

    for attempt in range(1, CLAIM_ATTEMPTS + 1):
        try:
            _configure(found.device)
            _detach(found.device)
            usb.util.claim_interface(found.device, INTERFACE)
            return None
        except usb.core.USBError as error:
            # A driver may bind, and udev set the permissions, a moment after plugging in.
            if error.errno not in (errno.EBUSY, errno.EACCES) or attempt == CLAIM_ATTEMPTS:
                usb.util.dispose_resources(found.device)
                return _refusal(name, found, error)
        time.sleep(PAUSE_SECONDS)
    raise AssertionError("the last attempt returns")


def _configure(device: Any) -> None:
    """Set the first configuration of a device that has none. Any other is left as it is."""
    import usb.core

    try:
        device.get_active_configuration()
    except usb.core.USBError as error:
        if error.errno is not None:
            raise
        device.set_configuration()


def _detach(device: Any) -> None:
    """Take interface 0 from a kernel driver. Raises USBError."""
    import usb.core

    try:
        if device.is_kernel_driver_active(INTERFACE):
            device.detach_kernel_driver(INTERFACE)
    except NotImplementedError:
        pass  # a system where no kernel driver can be in the way
    except usb.core.USBError as error:
        if error.errno != errno.ENOENT:  # it has let go by itself
            raise


def _refusal(name: str, found: Found, error: Any) -> SourceError:
    where, device = f"{name}: {found.where}", found.device
    node = usb_node(device.bus, device.address)
    if error.errno in GONE:
        return SourceGone(f"{where}, was unplugged")
    if error.errno == errno.EACCES:
        return SourceError(
            f"{where}: no permission to open {node}: install the udev rule of the package"
            " entropy-feeder (60-entropy-feeder.rules), run this as its user entropy-feeder, and"
            " plug the device in again"
        )
    if error.errno == errno.EBUSY:
        driver = usb_driver(usb_name(device.bus, device.port_numbers or ()), _ROOT)
        if driver and driver != "usbfs":
            return SourceError(
                f"{where}: the kernel driver {driver} does not let go of it: unload it"
                f" (as root, `modprobe -r {driver}`)"
            )
        by = process_with(node, _ROOT, but=os.getpid())
        if by:
            return SourceError(f"{where}, is claimed by {by}: end that, or name another device")
        return SourceError(
            f"{where}, is claimed by another process: end that, or name another device"
            " (as root, `entropy sources` says which process it is)"
        )
    return SourceError(
        f"{where}, cannot be claimed: {error.strerror}; unplug it and plug it in again"
    )


def _port(device: Any) -> str:
    return ".".join(map(str, device.port_numbers or ()))


def _serial_number(device: Any) -> str:
    """The serial number as the kernel has read it, else as the device says it now; or ""."""
    import usb.core
    import usb.util

    folder = Path(_ROOT, USB_DEVICES, usb_name(device.bus, device.port_numbers or ()))
    if text(folder / "devnum") == str(device.address):
        return text(folder / "serial")
    try:
        return str(usb.util.get_string(device, device.iSerialNumber) or "")
    except (usb.core.USBError, ValueError, NotImplementedError):
        return ""
    finally:
        usb.util.dispose_resources(device)
