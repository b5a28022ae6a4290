"""A kernel's USB bus by umockdev: sysfs, uevents, and device files that answer usbfs's ioctls.

Run by Debian's own Python, which has the bindings: `umockdev-wrapper /usr/bin/python3 -m
tests.usb.bus`. It prints the folder of the testbed, then reads commands, one JSON list in a line,
and answers each with a line: ["plug", {...}], ["unplug", SYSNAME], ["script", SYSNAME, [...]],
["look", SYSNAME], ["pace", BYTES_PER_SECOND]. It ends when its standard input does.

The layouts are those of <linux/usbdevice_fs.h> on a 64-bit machine.
"""

from __future__ import annotations

import errno
import json
import struct
import sys
import time
from collections import deque
from typing import Any

import gi

gi.require_version("UMockdev", "1.0")
from gi.repository import GLib, UMockdev  # noqa: E402

from entropy.sources.holder import usb_name, usb_node  # noqa: E402
from tests.usb.emulated import Answer, EmulatedDevice, Endpoint  # noqa: E402

# The numbers of usbfs's ioctls, the lowest byte of each request.
_CONTROL, _SET_CONFIGURATION, _GET_DRIVER, _SUBMIT_URB, _DISCARD_URB = 0, 5, 8, 10, 11
_REAP_URB_NDELAY, _CLAIM, _RELEASE, _DRIVER_IOCTL, _CLEAR_HALT = 13, 15, 16, 18, 21
_GET_CAPABILITIES, _DISCONNECT_CLAIM = 26, 27
_URB_BYTES = 56
_CONTROL_URB = 2
_STATUS = {
    "": 0,
    "silence": -errno.ECONNRESET,  # once it was discarded
    "stall": -errno.EPIPE,
    "io": -errno.EPROTO,
    "babble": -errno.EOVERFLOW,
    "gone": -errno.ESHUTDOWN,
}
_ERRNO = {"gone": errno.ENODEV, "busy": errno.EBUSY}
_LONGEST_WAIT_MS = 100  # or libusb could not look at its clock
_LOOK_AGAIN_MS = 1  # a file is always ready to be polled, so an answer that waits keeps both calm


class Urb:
    """A transfer that libusb has submitted."""

    def __init__(self, data: Any, kind: int, endpoint: int, n_bytes: int) -> None:
        self.data = data
        self.kind = kind
        self.endpoint = endpoint
        self.buffer = data.resolve(16, n_bytes) if n_bytes else None
        self.n_bytes = n_bytes
        self.answer: Answer | None = None  # None: the device has not answered yet
        self.due = 0.0


class DeviceFile(UMockdev.IoctlBase):  # type: ignore[misc]
    """/dev/bus/usb/BBB/DDD of one device."""

    def __init__(self, device: EmulatedDevice) -> None:
        super().__init__()
        self.device = device
        self.urbs: list[Urb] = []
        self.bytes_per_second = 0  # 0: as fast as it goes
        self._free_at = 0.0

    def do_handle_ioctl(self, client: Any) -> bool:
        number = client.get_request() & 0xFF
        if not self.device.plugged and number != _REAP_URB_NDELAY:
            client.complete(-1, errno.ENODEV)
            return True
        result = self._answer(number, client, client.get_arg())
        if result is not None:
            client.complete(-1 if result else 0, result)
        return True

    def _answer(self, number: int, client: Any, arg: Any) -> int | None:
        """The errno, 0 for done; None: it is answered later."""
        device = self.device
        if number == _GET_CAPABILITIES:
            arg.resolve(0, 4).update(0, struct.pack("=I", 0x01 | 0x04))
        elif number == _GET_DRIVER:
            name = device.kernel_driver or ("usbfs" if device.claimed else "")
            if not name:
                return errno.ENODATA
            arg.resolve(0, 260).update(4, name.encode().ljust(256, b"\0"))
        elif number == _SET_CONFIGURATION:
            return _ERRNO.get(device.configure(), 0)
        elif number in (_CLAIM, _DISCONNECT_CLAIM):
            return _ERRNO.get(device.claim(), 0)
        elif number == _RELEASE:
            device.release()
        elif number == _DRIVER_IOCTL:
            device.detach()  # disconnect is the one that libusb sends here
        elif number == _CLEAR_HALT:
            device.clear_halt()
        elif number == _SUBMIT_URB:
            self._submit(arg.resolve(0, _URB_BYTES))
        elif number == _DISCARD_URB:
            return self._discard(*struct.unpack("=Q", arg.retrieve()))
        elif number == _REAP_URB_NDELAY:
            return self._reap(client, arg)
        else:
            return errno.ENOTTY
        return 0

    def _submit(self, data: Any) -> None:
        kind, endpoint = struct.unpack_from("=BB", data.retrieve(), 0)
        (n_bytes,) = struct.unpack_from("=i", data.retrieve(), 24)
        urb = Urb(data, kind, endpoint, n_bytes)
        if kind == _CONTROL_URB:
            assert urb.buffer is not None
            _, _, value, _, length = struct.unpack_from("<BBHHH", urb.buffer.retrieve())
            urb.answer = Answer(self.device.string(value & 0xFF)[:length])
        else:
            self.device.requests.append((endpoint, n_bytes, 0))
            answer = self.device.transfer(n_bytes)
            if answer.fault != "silence":
                urb.answer = answer
            elif answer.data:
                urb.answer = None
                self._write(urb, answer.data)
            if self.bytes_per_second:
                start = max(time.monotonic(), self._free_at)
                urb.due = self._free_at = start + len(answer.data) / self.bytes_per_second
        self.urbs.append(urb)

    def _write(self, urb: Urb, data: bytes) -> None:
        offset = 8 if urb.kind == _CONTROL_URB else 0
        if data:
            urb.buffer.update(offset, data)
        urb.data.update(28, struct.pack("=i", len(data)))

    def _discard(self, address: int) -> int:
        for urb in self.urbs:
            if urb.data.client_addr == address and urb.answer is None:
                (n_bytes,) = struct.unpack_from("=i", urb.data.retrieve(), 28)
                urb.data.update(4, struct.pack("=i", _STATUS["silence"]))
                urb.answer = Answer(bytes(n_bytes), "discarded")
                return 0
        return errno.EINVAL

    def _reap(self, client: Any, arg: Any) -> int | None:
        if not self.device.plugged:
            for urb in self.urbs:
                urb.answer = urb.answer or Answer(fault="gone")
        for urb in self.urbs:
            if urb.answer is not None and urb.due <= time.monotonic():
                self.urbs.remove(urb)
                if urb.answer.fault != "discarded":
                    self._write(urb, urb.answer.data)
                    urb.data.update(4, struct.pack("=i", _STATUS[urb.answer.fault]))
                arg.resolve(0, 8).set_ptr(0, urb.data)
                return 0
        if not self.device.plugged:
            return errno.ENODEV
        if any(urb.answer is not None for urb in self.urbs):  # it comes: the answer waits for it
            due = min(urb.due for urb in self.urbs if urb.answer is not None)
            left_ms = min(max(1, int(1000 * (due - time.monotonic()))), _LONGEST_WAIT_MS)
            GLib.timeout_add(left_ms, self._late, client, arg)
        else:
            GLib.timeout_add(_LOOK_AGAIN_MS, self._not_yet, client)
        return None

    def _late(self, client: Any, arg: Any) -> bool:
        if client.get_connected():
            result = self._reap(client, arg)
            if result is not None:
                client.complete(-1 if result else 0, result)
        return False

    def _not_yet(self, client: Any) -> bool:
        if client.get_connected():
            client.complete(-1, errno.EAGAIN)
        return False


class Bus:
    """The testbed and what is plugged into it."""

    def __init__(self) -> None:
        self.testbed = UMockdev.Testbed.new()
        self.files: dict[str, DeviceFile] = {}
        self._hubs: set[str] = set()
        self._paths: dict[str, str] = {}

    def do(self, command: str, *arguments: Any) -> Any:
        return getattr(self, f"_{command}")(*arguments)

    def _plug(self, settings: dict[str, Any]) -> str:
        settings["endpoints"] = tuple(Endpoint(*one) for one in settings.get("endpoints", [[]]))
        for key in ("ids", "ports"):
            if key in settings:
                settings[key] = tuple(settings[key])
        device = EmulatedDevice(**settings)
        name = usb_name(device.bus, device.ports)
        path = f"usb{device.bus}"
        self._hub(path, device.bus, 1)
        for depth in range(1, len(device.ports)):
            path += f"/{usb_name(device.bus, device.ports[:depth])}"
            self._hub(path, device.bus, 100 + len(self._hubs))
        path += f"/{name}"
        node = self._add(path, device.bus, device.address, device)
        self.files[name] = file = DeviceFile(device)
        self.testbed.attach_ioctl(node, file)
        self.testbed.uevent(f"/sys/devices/{path}", "add")
        self._paths[name] = f"/sys/devices/{path}"
        return name

    def _hub(self, path: str, bus: int, address: int) -> None:
        if path not in self._hubs:
            self._hubs.add(path)
            self._add(path, bus, address, EmulatedDevice(ids=(0x1D6B, 2), serial_number=""))

    def _add(self, path: str, bus: int, address: int, device: EmulatedDevice) -> str:
        node = usb_node(bus, address).removeprefix("/dev/")
        descriptors = device.device_descriptor + device.configuration_descriptor
        lines = [
            f"P: /devices/{path}",
            f"N: {node}",
            f"E: DEVNAME=/dev/{node}",
            "E: DEVTYPE=usb_device",
            "E: SUBSYSTEM=usb",
            f"A: busnum={bus}",
            f"A: devnum={address}",
            "A: speed=12",
            f"A: bConfigurationValue={device.configuration or ''}",
            f"A: idVendor={device.ids[0]:04x}",
            f"A: idProduct={device.ids[1]:04x}",
            f"A: serial={device.serial_number}",
            f"H: descriptors={descriptors.hex()}",
        ]
        self.testbed.add_from_string("\n".join(lines) + "\n")
        return f"/dev/{node}"

    def _unplug(self, name: str) -> None:
        device = self.files[name].device
        device.plugged = False
        path = self._paths.pop(name)
        self.testbed.uevent(path, "remove")
        self.testbed.detach_ioctl(usb_node(device.bus, device.address))
        self.testbed.remove_device(path)

    def _script(self, name: str, steps: list[list[object]]) -> None:
        self.files[name].device.script = deque(steps)

    def _pace(self, name: str, bytes_per_second: int) -> None:
        self.files[name].bytes_per_second = bytes_per_second

    def _look(self, name: str) -> dict[str, Any]:
        device = self.files[name].device
        return {
            "calls": device.calls,
            "requests": device.requests,
            "n_bytes_given": device.n_bytes_given,
            "driver": device.kernel_driver,
            "left": len(device.script),
        }


def main() -> None:
    bus = Bus()
    print(bus.testbed.get_root_dir(), flush=True)
    loop = GLib.MainLoop()

    def on_input(_source: Any, _condition: Any) -> bool:
        line = sys.stdin.buffer.readline()
        if not line:
            loop.quit()
            return False
        print(json.dumps(bus.do(*json.loads(line))), flush=True)
        return True

    GLib.io_add_watch(sys.stdin.fileno(), GLib.IO_IN | GLib.IO_HUP, on_input)
    loop.run()


if __name__ == "__main__":
    main()
