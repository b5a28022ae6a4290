from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from entropy.sources import usb, usb_find
from tests.usb.worlds import MemoryWorld, UmockdevWorld, World

UNDER_UMOCKDEV = "umockdev" in os.environ.get("LD_PRELOAD", "")


@pytest.fixture(scope="session")
def umockdev_bus() -> Iterator[UmockdevWorld]:
    if not UNDER_UMOCKDEV:
        pytest.skip("not run by tests/usb/run")
    bus = UmockdevWorld()
    yield bus
    bus.end()


@pytest.fixture
def umockdev(umockdev_bus: UmockdevWorld, quick: None) -> Iterator[UmockdevWorld]:
    yield umockdev_bus
    umockdev_bus.clear()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits that a test can afford: a tenth of a second stands for the seconds of a real device."""
    monkeypatch.setattr(usb, "FIRST_TIMEOUT_SECONDS", 0.1)
    monkeypatch.setattr(usb, "TIMEOUT_SECONDS", 0.05)
    monkeypatch.setattr(usb, "SILENCE_SECONDS", 0.3)
    monkeypatch.setattr(usb_find, "PAUSE_SECONDS", 0.01)


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch, quick: None) -> MemoryWorld:
    world = MemoryWorld()
    monkeypatch.setattr(usb, "new_backend", world.bus.new_backend)
    monkeypatch.setattr(usb_find, "_ROOT", "/nowhere")
    return world


@pytest.fixture(params=["memory", pytest.param("umockdev", marks=pytest.mark.umockdev)])
def world(request: pytest.FixtureRequest) -> World:
    """Every test that takes it runs on the bus in memory, and on real libusb where it can."""
    found: World = request.getfixturevalue(request.param)
    return found
