"""Whether this machine was cloned, restored from a snapshot, or suspended.

Two machines that go on from one snapshot have equal memory: equal keys, equal reservoirs, equal
state of every generator. What tells them apart comes from outside, and each platform has
something else, or nothing. From the surest:

  vmclock           VMClock's page, which the hypervisor changes; read by anybody (vmclock-abi.h)
  kernel message    Linux's vmgenid driver has reseeded the kernel and says so in its log; opening
                    that takes CAP_SYSLOG, unless kernel.dmesg_restrict is 0: the packaged units
                    have it opened for them (open_signs.py)
  machine identity  Xen answers each read of its UUID anew
  vmgenid           there is such a device, the kernel reseeds itself, but this process may not
                    read the log: it is not told
  none              nothing on this platform would say a word

Looked at besides, whatever the platform gives: the other files that name a machine (firmware's
UUID, of which the kernel keeps a copy from its start; /etc/machine-id), and CLOCK_BOOTTIME minus
CLOCK_MONOTONIC, which is the time spent suspended. Nothing here is an ioctl, and nothing blocks.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Sequence

from entropy.open_signs import KERNEL_LOG, VMCLOCK, handed_over

XEN_IDENTITY = "/sys/hypervisor/uuid"
IDENTITIES = ("/sys/class/dmi/id/product_uuid", "/etc/machine-id")
# The driver became a platform driver in Linux 6.10; either way its device is a link here.
VMGENID_DRIVERS = ("/sys/bus/acpi/drivers/vmgenid", "/sys/bus/platform/drivers/vmgenid")

BLIND = ("vmgenid", "none")  # signs of which `look` never hears

_FORKED = b"reseeded due to virtual machine fork"
_RECORD_BYTES = 8192  # the longest that the kernel's log gives out
_MOST_RECORDS = 1000  # for one look; what is left is read by the next
_VMCLOCK_MAGIC = b"VCLK"
_VMCLOCK_BYTES = 112  # of struct vmclock_abi, to the end of vm_generation_counter
_HAS_GENERATION = 1 << 8  # VMCLOCK_FLAG_VM_GEN_COUNTER_PRESENT
_CLOCK_ERROR_SECONDS = 0.001
_IDENTITY_BYTES = 64


class CloneWatch:
    """Signs since the last look, for one process. Made anew after a fork(2).

    generation_file: stands in for the hypervisor's sign in tests and drills: a change of its
    content is a change of the VM's generation. "" for none.
    wall_jump_seconds: also take a leap of the wall clock forward by more than this for a sign;
    None to ignore it. A restored machine's clock is wrong until something sets it right, but so
    is one with a bad battery.
    The other parameters are the paths of the constants, for tests. The two devices are taken as
    this process was handed them, if it was, and opened if not.
    """

    def __init__(
        self,
        generation_file: str = "",
        *,
        wall_jump_seconds: float | None = None,
        vmclock: str = VMCLOCK,
        kernel_log: str = KERNEL_LOG,
        xen_identity: str = XEN_IDENTITY,
        identities: Sequence[str] = IDENTITIES,
        vmgenid_drivers: Sequence[str] = VMGENID_DRIVERS,
    ) -> None:
        given = handed_over()
        self._vmclock = given.pop("vmclock") if "vmclock" in given else _open(vmclock)
        self._generation_file = generation_file
        self._generation = self._read_generation()
        self._log = -1
        if self._vmclock is None or not self._generation:
            descriptor = given.pop("kmsg", None)
            self._log = _open_at_end(kernel_log) if descriptor is None else _at_end(descriptor)
        for descriptor in given.values():  # of no use beside a better one
            os.close(descriptor)
        self._has_vmgenid = any(map(_has_device, vmgenid_drivers))
        self._has_xen = bool(_read(xen_identity))
        paths = [xen_identity, *identities, *([generation_file] if generation_file else [])]
        self._known = {path: _read(path) for path in paths}
        self._most_suspended_seconds = _suspended_seconds()[1]
        self._wall_jump_seconds = wall_jump_seconds
        self._most_wall_seconds = _wall_seconds()[1]

    def look(self) -> str | None:
        """Why this machine may be another since the last look, in words; None if it is not.

        Costs some 50 microseconds; for once a second, and before anything is given out after a
        pause. Several signs of one event may be seen in several looks.
        """
        reasons = [
            self._look_at_vmclock(),
            self._look_at_log(),
            self._look_at_identities(),
            self._look_at_suspension(),
            self._look_at_wall(),
        ]
        return "; ".join(reason for reason in reasons if reason) or None

    def sign(self) -> str:
        """The surest sign that this platform gives this process; a word of the module's list.

        "generation file" where one is set.
        """
        if self._generation_file:
            return "generation file"
        if self._generation:
            return "vmclock"
        if self._has_vmgenid and self._log >= 0:
            return "kernel message"
        if self._has_xen:
            return "machine identity"
        return "vmgenid" if self._has_vmgenid else "none"

    def generation(self) -> bytes:
        """All that this process can read of what tells this machine from its clones; may be b""."""
        return b"|".join(
            [self._generation or b"", *(value or b"" for value in self._known.values())]
        )

    def names(self) -> dict[str, str]:
        """The same by where it is from, in hex; only what this process may read. For a state file:
        another process may read more, so what both have is what can be compared."""
        found = {"vmclock": self._generation, **self._known}
        return {where: value.hex() for where, value in found.items() if value}

    def descriptor(self) -> int:
        """Readable, for poll(2), as soon as the kernel says something; -1 for none."""
        return self._log

    def close(self) -> None:
        for descriptor in (self._vmclock, self._log):
            if descriptor is not None and descriptor >= 0:
                os.close(descriptor)
        self._vmclock, self._log = None, -1

    def _look_at_vmclock(self) -> str | None:
        before, now = self._generation, self._read_generation()
        if not now or now == before:
            return None
        self._generation = now
        return "the VM generation changed" if before else None

    def _read_generation(self) -> bytes | None:
        """What VMClock says of clones. Where it does not count them: of any disruption."""
        if self._vmclock is None:
            return None
        try:
            page = os.pread(self._vmclock, _VMCLOCK_BYTES, 0)
        except OSError:
            return None
        if len(page) < 32 or page[:4] != _VMCLOCK_MAGIC:
            return None
        flags = int.from_bytes(page[24:32], "little")
        if flags & _HAS_GENERATION and len(page) == _VMCLOCK_BYTES:
            return b"generation" + page[104:112]
        return b"disruption" + page[16:24]

    def _look_at_log(self) -> str | None:
        found = None
        for _ in range(_MOST_RECORDS if self._log >= 0 else 0):
            try:
                record = os.read(self._log, _RECORD_BYTES)
            except OSError as error:
                if error.errno in (errno.EPIPE, errno.EINVAL, errno.EINTR):
                    continue  # records were overwritten before they were read, or too long
                break
            if not record:
                break
            prefix, _, text = record.partition(b";")
            # "priority and facility,number,time,...;text": facility 0 is the kernel's alone.
            priority = prefix.partition(b",")[0]
            if priority.isdigit() and int(priority) < 8 and _FORKED in text:
                found = "the kernel was told of a VM fork"
        return found

    def _look_at_identities(self) -> str | None:
        reason = None
        for path, before in self._known.items():
            now = _read(path)
            if now == before or (now is None and path != self._generation_file):
                continue
            self._known[path] = now
            if path == self._generation_file:
                reason = "the VM generation changed"
            elif before is not None:
                reason = reason or f"{path} changed"
        return reason

    def _look_at_suspension(self) -> str | None:
        least, most = _suspended_seconds()
        slept_seconds = least - self._most_suspended_seconds
        self._most_suspended_seconds = most
        return (
            f"suspended for {_in_words(slept_seconds)} s"
            if slept_seconds > _CLOCK_ERROR_SECONDS
            else None
        )

    def _look_at_wall(self) -> str | None:
        least, most = _wall_seconds()
        leap_seconds = least - self._most_wall_seconds
        self._most_wall_seconds = most
        if self._wall_jump_seconds is None or leap_seconds <= self._wall_jump_seconds:
            return None
        return f"the clock was set forward by {leap_seconds:.0f} s"


def _in_words(seconds: float) -> str:
    return f"{seconds:.0f}" if seconds >= 10 else f"{seconds:.2g}"


def _suspended_seconds() -> tuple[float, float]:
    """The time that this kernel was suspended: the least and the most that it may be.

    The clocks are read one after the other, and anything may happen in between.
    """
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    boot = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    after = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    return (boot - after) / 1e9, (boot - before) / 1e9


def _wall_seconds() -> tuple[float, float]:
    """When the kernel started, by the wall clock: the least and the most."""
    before = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    wall = time.clock_gettime_ns(time.CLOCK_REALTIME)
    after = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    return (wall - after) / 1e9, (wall - before) / 1e9


def _open(path: str) -> int | None:
    try:
        return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None


def _open_at_end(path: str) -> int:
    """The log, to be read from here on; -1 if it may not be read."""
    descriptor = _open(path)
    return -1 if descriptor is None else _at_end(descriptor)


def _at_end(descriptor: int) -> int:
    try:
        os.lseek(descriptor, 0, os.SEEK_END)
    except OSError:
        os.close(descriptor)
        return -1
    return descriptor


def _has_device(driver: str) -> bool:
    try:
        names = os.listdir(driver)
    except OSError:
        return False
    return any(name != "module" and os.path.islink(os.path.join(driver, name)) for name in names)


def _read(path: str) -> bytes | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        return os.read(descriptor, _IDENTITY_BYTES)
    except OSError:
        return None
    finally:
        os.close(descriptor)
