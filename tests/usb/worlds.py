"""Two buses with the same handles: one in memory below pyusb, one below libusb by umockdev."""

from __future__ import annotations

import json
import os
import subprocess
from abc import ABC, abstractmethod
from collections import deque
from pathlib import Path
from typing import Any

from tests.usb.backend import Bus
from tests.usb.emulated import EmulatedDevice, Endpoint

ROOT = Path(__file__).resolve().parents[2]
Step = list[object]


class World(ABC):
    """A bus that devices are plugged into. They are named as the kernel does, e.g. 1-2.3."""

    @abstractmethod
    def plug(self, **settings: Any) -> str:
        """Plug in an EmulatedDevice with these settings; returns its name."""

    @abstractmethod
    def unplug(self, name: str) -> None: ...

    @abstractmethod
    def script(self, name: str, *steps: Step) -> None:
        """What the device does next, one step for each transfer."""

    @abstractmethod
    def look(self, name: str) -> dict[str, Any]:
        """calls, requests, driver, n_bytes_given, and how many steps are left."""


class MemoryWorld(World):
    def __init__(self) -> None:
        self.bus = Bus()
        self.devices: dict[str, EmulatedDevice] = {}

    def plug(self, **settings: Any) -> str:
        settings["endpoints"] = [Endpoint(*one) for one in settings.get("endpoints", [[]])]
        device = self.bus.plug(EmulatedDevice(**settings))
        name = f"{device.bus}-{'.'.join(map(str, device.ports))}"
        self.devices[name] = device
        return name

    def unplug(self, name: str) -> None:
        self.bus.unplug(self.devices[name])

    def script(self, name: str, *steps: Step) -> None:
        self.devices[name].script = deque(steps)

    def look(self, name: str) -> dict[str, Any]:
        device = self.devices[name]
        return {
            "calls": list(device.calls),
            "requests": list(device.requests),
            "n_bytes_given": device.n_bytes_given,
            "driver": device.kernel_driver,
            "left": len(device.script),
        }


class UmockdevWorld(World):
    """The testbed in a process of its own, since Debian's Python alone has the bindings."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            ["/usr/bin/python3", "-m", "tests.usb.bus"],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.folder = self._answer()
        os.environ["UMOCKDEV_DIR"] = self.folder  # the preloaded library looks at every call
        self._plugged: list[str] = []

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        assert line, "the bus has ended; its standard error says why"
        return line

    def _do(self, *command: Any) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        return json.loads(self._answer())

    def plug(self, **settings: Any) -> str:
        name = str(self._do("plug", settings))
        self._plugged.append(name)
        return name

    def unplug(self, name: str) -> None:
        self._do("unplug", name)
        self._plugged.remove(name)

    def script(self, name: str, *steps: Step) -> None:
        self._do("script", name, list(steps))

    def pace(self, name: str, bytes_per_second: int) -> None:
        """From now on it gives no more than this, as a device's own noise would limit it."""
        self._do("pace", name, bytes_per_second)

    def look(self, name: str) -> dict[str, Any]:
        looked: dict[str, Any] = self._do("look", name)
        return looked

    def clear(self) -> None:
        """Unplug everything."""
        for name in list(self._plugged):
            self.unplug(name)

    def end(self) -> None:
        self.clear()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()
        del os.environ["UMOCKDEV_DIR"]
