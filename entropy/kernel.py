"""The kernel's random generator: feeding it, and what it can tell about this machine.

Every ioctl of the package is here; see random(4). Three ways in:

  add_entropy   RNDADDENTROPY: mixes bytes in and credits them; CAP_SYS_ADMIN only
  mix           write(2) to /dev/random: mixes bytes in, never credits; anybody may
  reseed        RNDRESEEDCRNG: makes the generator take up at once what was mixed in;
                without it the kernel does so within a minute; CAP_SYS_ADMIN only

Nothing here asks for the kernel's version: what a kernel can do is tried. Two sorts matter:
since 5.6 a generator that is ready gives for ever, and is fed by a timer; before, /dev/random kept
count and made its readers wait, and is also fed when it says that it runs short.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import time
from typing import NamedTuple

from entropy.errors import KernelError
from entropy.open_signs import VMCLOCK, vmclock_page

RANDOM_DEVICE = "/dev/random"
BOOT_ID_FILE = "/proc/sys/kernel/random/boot_id"
# What tells this machine from another that was started from the same image or snapshot.
# Only some of them exist on any one platform, and some are for root only.
MACHINE_FILES = (
    "/sys/hypervisor/uuid",  # Xen
    "/sys/class/dmi/id/product_uuid",  # firmware: KVM, VMware, Hyper-V, hardware
    "/etc/machine-id",
    VMCLOCK,
)
_MACHINE_BYTES = 112  # all of VMClock's page that matters
# Only kernels whose /dev/random makes readers wait for entropy have this setting.
BLOCKING_MARK = "/proc/sys/kernel/random/read_wakeup_threshold"
CONTAINER_MARKS = ("/run/systemd/container", "/run/.containerenv", "/.dockerenv")
# The inode of the first process id namespace is a constant of the kernel (PROC_PID_INIT_INO).
FIRST_PID_NAMESPACE = "pid:[4026531836]"
# systemd-timesyncd makes this file when it has set the clock.
TIMESYNC_MARK = "/run/systemd/timesync/synchronized"

# _IOW('R', 3, int[2]) and _IO('R', 7): four architectures number the directions differently.
_OTHER_DIRECTIONS = os.uname().machine.startswith(("alpha", "mips", "ppc", "sparc"))
RNDADDENTROPY = 0x80085203 if _OTHER_DIRECTIONS else 0x40085203
RNDRESEEDCRNG = 0x20005207 if _OTHER_DIRECTIONS else 0x5207

_NOT_ALLOWED = (errno.EPERM, errno.EACCES)
_CLOCK_UNSYNCHRONISED = 5  # TIME_ERROR, adjtimex(2)


def add_entropy(data: bytes, credit_bits: int) -> bool:
    """Mix `data` into the kernel and credit it with `credit_bits` (0 to 8 for each byte).

    Returns False, with nothing mixed in, when this process may not credit; raises
    KernelError when the kernel fails otherwise. The new bytes count from the next reseed.
    """
    if not 0 <= credit_bits <= 8 * len(data):
        raise ValueError(f"{len(data)} bytes cannot be worth {credit_bits} bits")
    # struct rand_pool_info: entropy_count, buf_size, buf. A bytearray, so that it can be wiped.
    request = bytearray(struct.pack("=ii", credit_bits, len(data)) + data)
    try:
        with _Device() as device:
            fcntl.ioctl(device, RNDADDENTROPY, request)
    except OSError as error:
        if error.errno in _NOT_ALLOWED:
            return False
        raise KernelError(f"{RANDOM_DEVICE}: RNDADDENTROPY: {error.strerror}") from None
    finally:
        request[:] = bytes(len(request))
    return True


class Abilities(NamedTuple):
    """What this kernel lets this process do."""

    blocks: bool  # readers of /dev/random wait when its count runs out
    credits: bool  # RNDADDENTROPY is allowed
    reseeds: bool  # RNDRESEEDCRNG is there and allowed, though perhaps not ready yet


def probe() -> Abilities:
    """Try everything; nothing is added or credited by it. Raises KernelError without a device."""
    return Abilities(os.path.exists(BLOCKING_MARK), add_entropy(b"", 0), _can_reseed())


def _can_reseed() -> bool:
    try:
        with _Device() as device:
            fcntl.ioctl(device, RNDRESEEDCRNG)
    except OSError as error:
        return error.errno == errno.ENODATA  # the generator is not ready
    return True


def wants_entropy() -> int:
    """A file descriptor that poll(2) calls writable as long as the kernel runs short; -1 for none.

    Only where readers wait. On any other kernel it would say so once, or all the time.
    """
    if not os.path.exists(BLOCKING_MARK):
        return -1
    try:
        return os.open(RANDOM_DEVICE, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return -1


def mix(data: bytes) -> None:
    """Mix `data` into the kernel without credit. Needs no privilege. Raises KernelError."""
    try:
        with _Device() as device:
            view = memoryview(data)
            while view:
                view = view[os.write(device, view) :]
    except OSError as error:
        raise KernelError(f"{RANDOM_DEVICE}: cannot be written: {error.strerror}") from None


def reseed() -> bool:
    """Let the generator take up at once what was mixed in.

    Returns False where that is not to be had: without the privilege, on a kernel before
    4.14, and while the generator has not been credited enough to be ready (ENODATA).
    """
    try:
        with _Device() as device:
            fcntl.ioctl(device, RNDRESEEDCRNG)
    except OSError:
        return False
    return True


def diverge(sign: bytes) -> None:
    """Part from whoever goes on from the same state: mix in what tells this machine from its twin.

    sign: of whatever length; clone.CloneWatch.generation gives one. No credit, since nothing of
    it is secret, and no network: within a moment the two generators give different bytes. Raises
    KernelError.
    """
    mix(sign + clocks())
    reseed()


class _Device:
    """RANDOM_DEVICE opened for writing, as a file descriptor."""

    def __enter__(self) -> int:
        self.descriptor = os.open(RANDOM_DEVICE, os.O_WRONLY | os.O_CLOEXEC)
        return self.descriptor

    def __exit__(self, *_: object) -> None:
        os.close(self.descriptor)


def random_bytes(n_bytes: int) -> bytes:
    """Up to 256 bytes of the kernel's generator, or b"" while it is not ready. Never blocks."""
    try:
        return os.getrandom(n_bytes, os.GRND_NONBLOCK)
    except OSError:
        return b""  # not ready, or a sandbox without the call: there are other inputs


def boot_id() -> bytes:
    """The 16 bytes that name this boot of this kernel. Raises KernelError."""
    try:
        with open(BOOT_ID_FILE, encoding="utf-8") as file:
            value = bytes.fromhex(file.read().strip().replace("-", ""))
    except OSError as error:
        raise KernelError(f"{BOOT_ID_FILE}: cannot be read: {error.strerror}") from None
    except ValueError:
        value = b""
    if len(value) != 16:
        raise KernelError(f"{BOOT_ID_FILE}: does not hold a UUID")
    return value


def vm_generation() -> bytes:
    """Whatever this platform offers to tell a machine from its clones; b"" if it has nothing."""
    found = []
    for path in MACHINE_FILES:
        try:
            with open(path, "rb") as file:
                found.append(file.read(_MACHINE_BYTES))
        except OSError:  # a service finds no such device in its /dev, but was handed it
            found.append(vmclock_page(_MACHINE_BYTES) if path == VMCLOCK else b"")
    return b"|".join(found) if any(found) else b""


def clocks() -> bytes:
    """The wall clock and two clocks since boot, in nanoseconds: 24 bytes that do not repeat."""
    return struct.pack(
        "!3q",
        time.clock_gettime_ns(time.CLOCK_REALTIME),
        time.clock_gettime_ns(time.CLOCK_MONOTONIC),
        time.clock_gettime_ns(time.CLOCK_BOOTTIME),
    )


def shares_kernel() -> bool:
    """Whether this is a container: its kernel is its host's, and others draw from it too.

    When that cannot be told, the answer is True: then nothing is credited.
    """
    if any(os.path.exists(mark) for mark in CONTAINER_MARKS):
        return True
    try:
        return os.readlink("/proc/self/ns/pid") != FIRST_PID_NAMESPACE
    except OSError:
        return True


def clock_is_synchronised() -> bool:
    """Whether something keeps this machine's wall clock right. False when it cannot be told."""
    if os.path.exists(TIMESYNC_MARK):
        return True
    try:
        import ctypes  # here: most machines do not come this far

        adjtimex = ctypes.CDLL(None).adjtimex
    except (ImportError, OSError, AttributeError, MemoryError):  # the last: in a tight sandbox
        return False
    timex = ctypes.create_string_buffer(512)  # struct timex, zeroed: modes = 0 only reads
    return 0 <= int(adjtimex(timex)) < _CLOCK_UNSYNCHRONISED
