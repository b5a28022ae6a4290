"""Signs of a clone, emulated: pages and logs in the place of the platform's."""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from entropy import clone
from entropy.clone import BLIND, CloneWatch

HAS_GENERATION = 0x100
FORKED = b"5,812,90210,-;random: crng reseeded due to virtual machine fork\n"


def page(disruption: int, flags: int, generation: int) -> bytes:
    """VMClock's, by vmclock-abi.h; the fields between are of no interest."""
    head = struct.pack("<4sIHBBIQQ", b"VCLK", 4096, 1, 255, 0, 2, disruption, flags)
    return head + bytes(104 - len(head)) + struct.pack("<Q", generation) + bytes(4096 - 112)


class Platform:
    """A folder in the place of the paths that are looked at; nothing is there at first."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.vmclock = folder / "vmclock0"
        self.xen = folder / "uuid"
        self.machine_id = folder / "machine-id"
        self.generation = folder / "generation"
        self.driver = folder / "vmgenid"

    def watch(self, **more: Any) -> CloneWatch:
        paths: dict[str, Any] = {
            "vmclock": str(self.vmclock),
            "kernel_log": str(self.folder / "kmsg"),
            "xen_identity": str(self.xen),
            "identities": [str(self.machine_id)],
            "vmgenid_drivers": [str(self.driver)],
        }
        return CloneWatch(**{**paths, **more})

    def has_vmgenid(self) -> None:
        self.driver.mkdir()
        (self.driver / "module").symlink_to("/")
        (self.driver / "VMGENCTR:00").symlink_to("/")


@pytest.fixture
def platform(tmp_path: Path) -> Platform:
    return Platform(tmp_path)


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The writing end of a kernel log: a record for each datagram, as reads of /dev/kmsg are."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    theirs.setblocking(False)
    monkeypatch.setattr(clone, "_open_at_end", lambda _: theirs.fileno())
    with ours, theirs:
        yield ours


def test_a_platform_without_a_sign(platform: Platform) -> None:
    watch = platform.watch()
    assert watch.sign() == "none"
    assert watch.sign() in BLIND
    assert watch.look() is None
    assert watch.descriptor() == -1
    assert watch.generation() == b"||"


def test_vmclock_counts_generations(platform: Platform) -> None:
    platform.vmclock.write_bytes(page(1, HAS_GENERATION, 7))
    watch = platform.watch()
    assert watch.sign() == "vmclock"
    before = watch.generation()
    assert watch.look() is None
    # A live migration: the same machine goes on elsewhere.
    platform.vmclock.write_bytes(page(2, HAS_GENERATION, 7))
    assert watch.look() is None
    platform.vmclock.write_bytes(page(3, HAS_GENERATION, 8))
    assert watch.look() == "the VM generation changed"
    assert watch.look() is None
    assert watch.generation() != before
    watch.close()


def test_vmclock_that_counts_disruptions_only(platform: Platform) -> None:
    platform.vmclock.write_bytes(page(1, 0, 7))
    watch = platform.watch()
    platform.vmclock.write_bytes(page(1, 0, 8))
    assert watch.look() is None
    platform.vmclock.write_bytes(page(2, 0, 8))
    assert watch.look() == "the VM generation changed"


def test_an_early_vmclock_has_a_shorter_page(platform: Platform) -> None:
    platform.vmclock.write_bytes(page(1, HAS_GENERATION, 7)[:104])
    watch = platform.watch()
    platform.vmclock.write_bytes(page(2, HAS_GENERATION, 7)[:104])
    assert watch.look() == "the VM generation changed"


@pytest.mark.parametrize("content", [b"", b"VCLK", b"KLCV" + bytes(4092)])
def test_what_is_no_vmclock(platform: Platform, content: bytes) -> None:
    platform.vmclock.write_bytes(content)
    watch = platform.watch()
    assert watch.sign() == "none"
    assert watch.look() is None


def test_the_kernels_message(platform: Platform, log: socket.socket) -> None:
    platform.has_vmgenid()
    watch = platform.watch()
    assert watch.sign() == "kernel message"
    assert watch.look() is None
    log.send(b"6,811,90200,-;usb 1-1: new device\n")
    assert watch.look() is None
    log.send(FORKED)
    log.send(b"6,813,90220,-;usb 1-1: new device\n")
    assert watch.look() == "the kernel was told of a VM fork"
    assert watch.look() is None


def test_only_the_kernel_may_say_so(platform: Platform, log: socket.socket) -> None:
    watch = platform.watch()
    log.send(b"13," + FORKED[2:])  # facility 1: written by a program
    log.send(b"x," + FORKED[2:])
    log.send(FORKED.replace(b";", b","))
    assert watch.look() is None


def test_a_log_that_overran_is_read_on(
    platform: Platform, log: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = platform.watch()
    log.send(FORKED)
    real, failures = os.read, [BrokenPipeError(32, "overran"), OSError(22, "too long")]

    def read(descriptor: int, n_bytes: int) -> bytes:
        if failures:
            raise failures.pop()
        return real(descriptor, n_bytes)

    monkeypatch.setattr("os.read", read)
    assert watch.look() == "the kernel was told of a VM fork"


def test_a_flood_is_read_in_parts(
    platform: Platform, log: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clone, "_MOST_RECORDS", 2)
    watch = platform.watch()
    for record in (b"6,1,1,-;a\n", b"6,2,2,-;b\n", FORKED):
        log.send(record)
    assert watch.look() is None
    assert watch.look() == "the kernel was told of a VM fork"


def test_vmgenid_that_nobody_tells_us_of(platform: Platform) -> None:
    platform.has_vmgenid()
    assert platform.watch().sign() == "vmgenid"
    (platform.driver / "VMGENCTR:00").unlink()
    assert platform.watch().sign() == "none"


def test_xen_gives_a_restored_machine_another_identity(platform: Platform) -> None:
    platform.xen.write_text("one\n")
    watch = platform.watch()
    assert watch.sign() == "machine identity"
    platform.xen.write_text("two\n")
    assert watch.look() == f"{platform.xen} changed"
    assert watch.look() is None


def test_a_name_that_comes_or_goes_is_no_sign(platform: Platform) -> None:
    watch = platform.watch()
    platform.machine_id.write_text("one\n")
    assert watch.look() is None
    platform.machine_id.unlink()
    assert watch.look() is None
    platform.machine_id.write_text("two\n")
    assert watch.look() == f"{platform.machine_id} changed"


def test_names_are_what_can_be_read(platform: Platform) -> None:
    assert platform.watch().names() == {}
    platform.xen.write_text("one")
    platform.vmclock.write_bytes(page(1, HAS_GENERATION, 7))
    names = platform.watch().names()
    assert set(names) == {"vmclock", str(platform.xen)}
    assert names[str(platform.xen)] == b"one".hex()


def test_a_file_stands_in_for_the_sign(platform: Platform) -> None:
    platform.generation.write_text("1")
    watch = platform.watch(generation_file=str(platform.generation))
    assert watch.sign() == "generation file"
    before = watch.generation()
    assert watch.look() is None
    platform.generation.write_text("2")
    assert watch.look() == "the VM generation changed"
    assert watch.look() is None
    assert watch.generation() != before


class Clocks:
    """The kernel's three, moved by hand; each read takes a while."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seconds = {time.CLOCK_MONOTONIC: 100.0, time.CLOCK_BOOTTIME: 100.0}
        self.seconds[time.CLOCK_REALTIME] = 1e6
        self.read_seconds = 1e-6
        monkeypatch.setattr("time.clock_gettime_ns", self.read)

    def read(self, clock: int) -> int:
        self.pass_(self.read_seconds)
        return int(self.seconds[clock] * 1e9)

    def pass_(self, seconds: float) -> None:
        for clock in self.seconds:
            self.seconds[clock] += seconds


def test_a_suspension(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    clocks = Clocks(monkeypatch)
    watch = platform.watch()
    clocks.pass_(1000)
    assert watch.look() is None
    clocks.seconds[time.CLOCK_BOOTTIME] += 312
    clocks.seconds[time.CLOCK_REALTIME] += 312
    assert watch.look() == "suspended for 312 s"
    assert watch.look() is None


def test_a_busy_machine_is_not_a_suspended_one(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    clocks = Clocks(monkeypatch)
    watch = platform.watch()
    for read_seconds in (5, 1e-6, 70, 0.1):
        clocks.read_seconds = read_seconds
        assert watch.look() is None


def test_a_clock_that_is_set(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    clocks = Clocks(monkeypatch)
    watch, indifferent = platform.watch(wall_jump_seconds=10), platform.watch()
    for step_seconds, reason in (
        (-100, None),
        (9, None),
        (86_400, "the clock was set forward by 86400 s"),
        (0, None),
    ):
        clocks.seconds[time.CLOCK_REALTIME] += step_seconds
        assert watch.look() == reason
        assert indifferent.look() is None


def test_this_machine() -> None:
    """The real paths, whichever of them are here."""
    watch = CloneWatch()
    assert watch.sign() in ("vmclock", "kernel message", "machine identity", *BLIND)
    assert watch.look() is None
    watch.close()
    watch.close()
