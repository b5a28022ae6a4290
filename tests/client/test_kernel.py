"""The kernel's interface: what is asked of it, and what is made of its answers."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import struct
from pathlib import Path

import pytest

from entropy import kernel
from entropy.errors import KernelError


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file in the place of /dev/random."""
    path = tmp_path / "random"
    path.touch()
    monkeypatch.setattr(kernel, "RANDOM_DEVICE", str(path))
    return path


@pytest.fixture
def calls(device: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, bytes]]:
    """The ioctls that are made, in the place of the real one."""
    made: list[tuple[int, bytes]] = []

    def ioctl(descriptor: int, request: int, argument: bytes = b"") -> int:
        assert os.readlink(f"/proc/self/fd/{descriptor}") == str(device)
        made.append((request, bytes(argument)))
        return 0

    monkeypatch.setattr("fcntl.ioctl", ioctl)
    return made


def test_bytes_are_added_with_their_credit(calls: list[tuple[int, bytes]]) -> None:
    assert kernel.add_entropy(b"abcdef", 17)
    assert calls == [(kernel.RNDADDENTROPY, struct.pack("=ii", 17, 6) + b"abcdef")]


@pytest.mark.parametrize("credit_bits", [-1, 49])
def test_no_credit_beyond_the_bytes(calls: list[tuple[int, bytes]], credit_bits: int) -> None:
    with pytest.raises(ValueError, match="cannot be worth"):
        kernel.add_entropy(b"abcdef", credit_bits)
    assert calls == []


def test_a_reseed_is_asked_for(calls: list[tuple[int, bytes]]) -> None:
    assert kernel.reseed()
    assert calls == [(kernel.RNDRESEEDCRNG, b"")]


def _fails_with(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def ioctl(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.ioctl", ioctl)


@pytest.mark.parametrize("number", [errno.EPERM, errno.EACCES])
def test_without_the_privilege(device: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    _fails_with(number, monkeypatch)
    assert not kernel.add_entropy(b"abc", 3)
    assert not kernel.reseed()


def test_a_kernel_that_is_not_ready(device: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _fails_with(errno.ENODATA, monkeypatch)
    assert not kernel.reseed()


def test_other_failures_are_told(device: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _fails_with(errno.ENOTTY, monkeypatch)
    with pytest.raises(KernelError, match="RNDADDENTROPY: Inappropriate ioctl"):
        kernel.add_entropy(b"abc", 3)


def test_mixing_writes_all(device: Path) -> None:
    kernel.mix(b"x" * 1000)
    assert device.read_bytes() == b"x" * 1000


def test_no_device(device: Path) -> None:
    device.unlink()
    with pytest.raises(KernelError, match="cannot be written: No such file"):
        kernel.mix(b"x")
    with pytest.raises(KernelError, match="No such file"):
        kernel.add_entropy(b"x", 1)


def test_what_a_kernel_can_is_tried(
    calls: list[tuple[int, bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = tmp_path / "read_wakeup_threshold"
    monkeypatch.setattr(kernel, "BLOCKING_MARK", str(mark))
    assert kernel.probe() == (False, True, True)
    assert calls == [
        (kernel.RNDADDENTROPY, struct.pack("=ii", 0, 0)),
        (kernel.RNDRESEEDCRNG, b""),
    ]
    mark.touch()
    assert kernel.probe().blocks


@pytest.mark.parametrize(
    ("number", "credits", "reseeds"),
    [(errno.EPERM, False, False), (errno.ENODATA, None, True), (errno.EINVAL, None, False)],
)
def test_what_a_kernel_cannot(
    device: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    credits: bool | None,
    reseeds: bool,
) -> None:
    _fails_with(number, monkeypatch)
    if credits is None:  # EINVAL: a kernel before 4.14, which does not know the request
        monkeypatch.setattr(kernel, "add_entropy", lambda *_: True)
    assert kernel.probe()[1:] == (bool(credits is None), reseeds)


def test_a_kernel_says_that_it_runs_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device, mark = tmp_path / "random", tmp_path / "read_wakeup_threshold"
    monkeypatch.setattr(kernel, "RANDOM_DEVICE", str(device))
    monkeypatch.setattr(kernel, "BLOCKING_MARK", str(mark))
    os.mkfifo(device)
    pool = os.open(device, os.O_RDWR | os.O_NONBLOCK)
    assert kernel.wants_entropy() == -1, "this kernel keeps no count"
    mark.touch()
    short = kernel.wants_entropy()
    poller = select.poll()
    poller.register(short, select.POLLOUT)
    assert poller.poll(0)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(pool, bytes(4096))
    assert not poller.poll(0)
    os.close(short)
    os.close(pool)
    device.unlink()
    assert kernel.wants_entropy() == -1


def test_the_real_device_takes_bytes() -> None:
    """No credit: whether this process may credit or not, this changes nothing for anybody."""
    kernel.mix(b"entropy's own tests")
    assert kernel.add_entropy(b"entropy's own tests", 0) in (True, False)


def test_random_bytes_never_block(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(kernel.random_bytes(32)) == 32
    assert kernel.random_bytes(32) != kernel.random_bytes(32)

    def not_ready(n_bytes: int, flags: int) -> bytes:
        assert flags & os.GRND_NONBLOCK
        raise BlockingIOError

    monkeypatch.setattr("os.getrandom", not_ready)
    assert kernel.random_bytes(32) == b""


def test_boot_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(kernel.boot_id()) == 16
    file = tmp_path / "boot_id"
    monkeypatch.setattr(kernel, "BOOT_ID_FILE", str(file))
    with pytest.raises(KernelError, match="cannot be read"):
        kernel.boot_id()
    for text in ("", "not hex", "abcd"):
        file.write_text(text)
        with pytest.raises(KernelError, match="does not hold a UUID"):
            kernel.boot_id()


def test_clocks_do_not_repeat() -> None:
    assert len({kernel.clocks() for _ in range(100)}) == 100
    assert len(kernel.clocks()) == 24


def test_the_machine_and_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [tmp_path / name for name in "ab"]
    monkeypatch.setattr(kernel, "MACHINE_FILES", tuple(map(str, files)))
    assert kernel.vm_generation() == b""
    seen = set()
    for file in files:
        file.write_text("one")
        seen.add(kernel.vm_generation())
        file.write_text("two")
        seen.add(kernel.vm_generation())
        file.unlink()
    assert len(seen) == 4


def test_a_mark_says_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = tmp_path / "containerenv"
    monkeypatch.setattr(kernel, "CONTAINER_MARKS", (str(mark),))
    monkeypatch.setattr(kernel, "FIRST_PID_NAMESPACE", os.readlink("/proc/self/ns/pid"))
    assert not kernel.shares_kernel()
    mark.touch()
    assert kernel.shares_kernel()


def test_another_namespace_says_container(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "CONTAINER_MARKS", ())
    monkeypatch.setattr(kernel, "FIRST_PID_NAMESPACE", "pid:[1]")
    assert kernel.shares_kernel()


def test_the_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = tmp_path / "synchronized"
    monkeypatch.setattr(kernel, "TIMESYNC_MARK", str(mark))
    assert kernel.clock_is_synchronised() in (True, False)  # adjtimex(2), truly asked
    mark.touch()
    assert kernel.clock_is_synchronised()


@pytest.mark.parametrize(("state", "synchronised"), [(0, True), (4, True), (5, False), (-1, False)])
def test_adjtimex_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: int, synchronised: bool
) -> None:
    class Library:
        @staticmethod
        def adjtimex(_: object) -> int:
            return state

    monkeypatch.setattr(kernel, "TIMESYNC_MARK", str(tmp_path / "absent"))
    monkeypatch.setattr("ctypes.CDLL", lambda _: Library)
    assert kernel.clock_is_synchronised() is synchronised


def test_twins_part_without_credit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mixed in first, taken up at once then; the clocks are in it, in case the sign is the same."""
    done: list[object] = []
    monkeypatch.setattr(kernel, "mix", done.append)
    monkeypatch.setattr(kernel, "reseed", lambda: done.append("reseed"))
    monkeypatch.setattr(kernel, "clocks", lambda: b"clocks")
    kernel.diverge(b"sign")
    assert done == [b"signclocks", "reseed"]
