"""A bus in memory as a backend of pyusb: what lies above libusb, tested anywhere in no time.

A silent device costs no time here: a transfer that would wait is answered by its time-out.
"""

from __future__ import annotations

import errno
import struct
from array import array
from collections import namedtuple
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import usb.backend
import usb.core

from tests.usb.emulated import EmulatedDevice

# As libusb's own backend words them: error code of libusb, errno.
_ERRORS = {
    "gone": (-4, errno.ENODEV, "No such device (it may have been disconnected)"),
    "forbidden": (-3, errno.EACCES, "Access denied (insufficient permissions)"),
    "not found": (-5, errno.ENOENT, "Entity not found"),
    "busy": (-6, errno.EBUSY, "Resource busy"),
    "stall": (-9, errno.EPIPE, "Pipe error"),
    "io": (-1, errno.EIO, "Input/Output Error"),
    "babble": (-8, errno.EOVERFLOW, "Overflow"),
}

_Device = namedtuple(
    "_Device",
    "bLength bDescriptorType bcdUSB bDeviceClass bDeviceSubClass bDeviceProtocol bMaxPacketSize0"
    " idVendor idProduct bcdDevice iManufacturer iProduct iSerialNumber bNumConfigurations",
)
_Configuration = namedtuple(
    "_Configuration",
    "bLength bDescriptorType wTotalLength bNumInterfaces"
    " bConfigurationValue iConfiguration bmAttributes bMaxPower",
)
_Interface = namedtuple(
    "_Interface",
    "bLength bDescriptorType bInterfaceNumber bAlternateSetting bNumEndpoints"
    " bInterfaceClass bInterfaceSubClass bInterfaceProtocol iInterface",
)


def raise_fault(fault: str) -> None:
    """Raise what libusb would, for the name of a fault; nothing for ""."""
    if fault:
        code, number, text = _ERRORS[fault]
        raise usb.core.USBError(text, code, number)


class Bus:
    """What is plugged in, and the contexts that were made to look at it."""

    def __init__(self, *devices: EmulatedDevice) -> None:
        self.devices = list(devices)
        self.contexts: list[MemoryBackend] = []

    def new_backend(self) -> MemoryBackend:
        self.contexts.append(MemoryBackend(self))
        return self.contexts[-1]

    def unplug(self, device: EmulatedDevice) -> None:
        device.plugged = False
        self.devices.remove(device)

    def plug(self, device: EmulatedDevice) -> EmulatedDevice:
        self.devices.append(device)
        return device

    @property
    def open_contexts(self) -> int:
        return sum(not context.closed for context in self.contexts)


class MemoryBackend(usb.backend.IBackend):  # type: ignore[misc]
    """A context: it sees what was plugged in when it was made, and nothing that came later."""

    def __init__(self, bus: Bus) -> None:
        self._there = list(bus.devices)
        self.closed = False

    def _finalize_object(self) -> None:
        self.closed = True

    def enumerate_devices(self) -> Iterator[EmulatedDevice]:
        assert not self.closed
        return iter(self._there)

    def get_parent(self, dev: EmulatedDevice) -> None:
        return None

    def get_device_descriptor(self, dev: EmulatedDevice) -> Any:
        values = struct.unpack("<BBHBBBBHHHBBBB", dev.device_descriptor)
        return SimpleNamespace(
            **_Device(*values)._asdict(),
            address=dev.address,
            bus=dev.bus,
            port_number=dev.ports[-1],
            port_numbers=dev.ports,
            speed=2,
        )

    def get_configuration_descriptor(self, dev: EmulatedDevice, config: int) -> Any:
        if config != 0:
            raise IndexError(config)
        values = struct.unpack("<BBHBBBBB", dev.configuration_descriptor[:9])
        return SimpleNamespace(**_Configuration(*values)._asdict(), extra_descriptors=[])

    def get_interface_descriptor(
        self, dev: EmulatedDevice, intf: int, alt: int, config: int
    ) -> Any:
        if intf != 0 or alt != 0:
            raise IndexError(intf)
        values = dev.configuration_descriptor[9:18]
        return SimpleNamespace(**_Interface(*values)._asdict(), extra_descriptors=[])

    def get_endpoint_descriptor(
        self, dev: EmulatedDevice, ep: int, intf: int, alt: int, config: int
    ) -> Any:
        one = dev.endpoints[ep]
        return SimpleNamespace(
            bLength=7,
            bDescriptorType=5,
            bEndpointAddress=one.address,
            bmAttributes=one.attributes,
            wMaxPacketSize=one.packet_bytes,
            bInterval=0,
            bRefresh=0,
            bSynchAddress=0,
            extra_descriptors=[],
        )

    def open_device(self, dev: EmulatedDevice) -> EmulatedDevice:
        assert not self.closed
        raise_fault(dev.open())
        return dev

    def close_device(self, dev_handle: EmulatedDevice) -> None:
        pass

    def get_configuration(self, dev_handle: EmulatedDevice) -> int:
        return dev_handle.configuration

    def set_configuration(self, dev_handle: EmulatedDevice, config_value: int) -> None:
        raise_fault(dev_handle.configure())

    def claim_interface(self, dev_handle: EmulatedDevice, intf: int) -> None:
        assert intf == 0
        raise_fault(dev_handle.claim())

    def release_interface(self, dev_handle: EmulatedDevice, intf: int) -> None:
        dev_handle.release()

    def is_kernel_driver_active(self, dev_handle: EmulatedDevice, intf: int) -> bool:
        return bool(dev_handle.kernel_driver)

    def detach_kernel_driver(self, dev_handle: EmulatedDevice, intf: int) -> None:
        dev_handle.detach()

    def clear_halt(self, dev_handle: EmulatedDevice, ep: int) -> None:
        raise_fault("" if dev_handle.plugged else "gone")
        dev_handle.clear_halt()

    def ctrl_transfer(
        self,
        dev_handle: EmulatedDevice,
        bmRequestType: int,
        bRequest: int,
        wValue: int,
        wIndex: int,
        data: array[int],
        timeout: int,
    ) -> int:
        assert (bmRequestType, bRequest, wValue >> 8) == (0x80, 6, 3), "a string descriptor alone"
        text = dev_handle.string(wValue & 0xFF)
        data[: len(text)] = array("B", text)
        return len(text)

    def bulk_read(
        self, dev_handle: EmulatedDevice, ep: int, intf: int, buff: array[int], timeout: int
    ) -> int:
        assert not self.closed
        assert dev_handle.claimed
        dev_handle.requests.append((ep, len(buff), timeout))
        data, fault = dev_handle.transfer(len(buff))
        buff[: len(data)] = array("B", data)
        if fault == "silence" and not data:
            raise usb.core.USBTimeoutError("Operation timed out", -7, errno.ETIMEDOUT)
        raise_fault("" if fault == "silence" else fault)
        return len(data)
