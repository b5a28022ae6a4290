"""Devices that are opened by one process, kept by systemd, and found open by another."""

from __future__ import annotations

import array
import fcntl
import os
import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from entropy import kernel, open_signs
from entropy.clone import CloneWatch
from entropy.open_signs import hand_over, handed_over
from tests.client.test_clone import FORKED, HAS_GENERATION, page


@pytest.fixture(name="supervisor")
def _supervisor(tmp_path: Path) -> Iterator[socket.socket]:
    """systemd's end of the socket for notifications."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(str(tmp_path / "notify"))
        channel.settimeout(20)
        yield channel


def receive(supervisor: socket.socket) -> tuple[str, list[int]]:
    text, controls, _, _ = supervisor.recvmsg(4096, 4096)
    descriptors = array.array("i")
    for level, kind, data in controls:
        assert (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
        descriptors.frombytes(data)
    return text.decode(), descriptors.tolist()


def is_empty(supervisor: socket.socket) -> bool:
    return not select.select([supervisor], [], [], 0)[0]


def test_what_is_sent(
    supervisor: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    (tmp_path / "vmclock0").write_bytes(page(1, HAS_GENERATION, 7))
    hand_over({"kmsg": str(tmp_path / "kmsg"), "vmclock": str(tmp_path / "vmclock0")})
    # The log is not here. Whatever was handed over before is thrown away all the same.
    assert receive(supervisor) == ("FDSTOREREMOVE=1\nFDNAME=kmsg", [])
    assert receive(supervisor) == ("FDSTOREREMOVE=1\nFDNAME=vmclock", [])
    text, descriptors = receive(supervisor)
    assert text == "FDSTORE=1\nFDNAME=vmclock\nFDPOLL=0"
    (descriptor,) = descriptors
    try:
        assert os.path.samestat(os.fstat(descriptor), os.stat(tmp_path / "vmclock0"))
        flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
        assert flags & os.O_ACCMODE == os.O_RDONLY
        assert flags & os.O_NONBLOCK
        assert os.pread(descriptor, 4, 0) == b"VCLK"
    finally:
        os.close(descriptor)
    assert is_empty(supervisor)


def run_as_the_unit_does(environment: dict[str, str]) -> None:
    argv = [sys.executable, "-I", "-S", open_signs.__file__]
    done = subprocess.run(argv, env=environment, capture_output=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_the_program(supervisor: socket.socket, tmp_path: Path) -> None:
    """With the real devices, whichever of them are here."""
    run_as_the_unit_does({"NOTIFY_SOCKET": str(tmp_path / "notify")})
    names = []
    while not is_empty(supervisor):
        text, descriptors = receive(supervisor)
        names.append(text.splitlines()[1])
        for descriptor in descriptors:
            os.close(descriptor)
    assert list(dict.fromkeys(names)) == ["FDNAME=kmsg", "FDNAME=vmclock"]


@pytest.mark.parametrize("address", ["", "nonsense", "/nowhere/at/all", "@nobody/listens"])
def test_nobody_listens(address: str) -> None:
    run_as_the_unit_does({"NOTIFY_SOCKET": address} if address else {})


class _Handed:
    """This process, as systemd would have started it with these files open from 3 on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, first: int) -> None:
        self._patch = monkeypatch
        monkeypatch.setattr(open_signs, "_FIRST_DESCRIPTOR", first)
        monkeypatch.setattr(open_signs, "_kept", {})

    def tell(self, n_descriptors: int, names: str, pid: int | None = None) -> None:
        self._patch.setenv("LISTEN_PID", str(os.getpid() if pid is None else pid))
        self._patch.setenv("LISTEN_FDS", str(n_descriptors))
        self._patch.setenv("LISTEN_FDNAMES", names)


def is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


@pytest.fixture(name="pair")
def _pair(tmp_path: Path) -> Iterator[tuple[int, int]]:
    """Two descriptors with neighbouring numbers, inheritable: a log, and VMClock's page."""
    log, clock = 400, 401
    (tmp_path / "kmsg").write_bytes(FORKED)
    (tmp_path / "vmclock0").write_bytes(page(1, HAS_GENERATION, 7))
    for number, name in ((log, "kmsg"), (clock, "vmclock0")):
        opened = os.open(tmp_path / name, os.O_RDONLY)
        os.dup2(opened, number)
        os.close(opened)
    yield log, clock
    for number in (log, clock):
        if is_open(number):
            os.close(number)


def watch(folder: Path) -> CloneWatch:
    """None of the paths is there."""
    nowhere = str(folder / "nowhere")
    (folder / "driver").mkdir(exist_ok=True)
    if not (folder / "driver" / "VMGENCTR:00").is_symlink():
        (folder / "driver" / "VMGENCTR:00").symlink_to("/")
    return CloneWatch(
        vmclock=nowhere,
        kernel_log=nowhere,
        xen_identity=nowhere,
        identities=[],
        vmgenid_drivers=[str(folder / "driver")],
    )


def test_a_page_that_was_handed_over(
    pair: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _Handed(monkeypatch, pair[0]).tell(2, "kmsg:vmclock")
    watched = watch(tmp_path)
    assert watched.sign() == "vmclock"
    assert not is_open(pair[0])  # of no use beside the page
    assert not os.get_inheritable(pair[1])
    assert not [key for key in os.environ if key.startswith("LISTEN_")]
    assert watched.look() is None
    (tmp_path / "vmclock0").write_bytes(page(1, HAS_GENERATION, 8))
    assert watched.look() == "the VM generation changed"
    assert page(1, HAS_GENERATION, 8)[:112] in kernel.vm_generation()  # so it is in every nonce
    assert watch(tmp_path).sign() == "vmgenid"  # the next one is handed nothing
    watched.close()
    assert not is_open(pair[1])
    assert page(1, HAS_GENERATION, 8)[:112] in kernel.vm_generation()


def test_a_log_that_was_handed_over(
    pair: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _Handed(monkeypatch, pair[0]).tell(1, "kmsg")
    watched = watch(tmp_path)
    assert watched.sign() == "kernel message"
    assert watched.descriptor() == pair[0]
    assert not os.get_inheritable(pair[0])
    assert not os.get_blocking(pair[0])
    assert watched.look() is None  # what was said before is no matter of ours
    with (tmp_path / "kmsg").open("ab") as log:
        log.write(FORKED)
    assert watched.look() == "the kernel was told of a VM fork"
    watched.close()
    assert not is_open(pair[0])


def test_what_is_not_meant_for_us(pair: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    handed = _Handed(monkeypatch, pair[0])
    handed.tell(2, "kmsg:vmclock", pid=1)
    assert handed_over() == {}
    assert os.environ["LISTEN_FDS"] == "2"  # another process's
    handed.tell(2, "http:vmclock")
    assert handed_over() == {"vmclock": pair[1]}
    assert os.get_inheritable(pair[0])  # untouched
    handed.tell(9, "kmsg")
    assert handed_over() == {"kmsg": pair[0]}
    assert handed_over() == {}


def test_descriptors_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    handed = _Handed(monkeypatch, 900)
    handed.tell(2, "kmsg:vmclock")
    assert handed_over() == {}
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.setenv("LISTEN_FDS", "many")
    assert handed_over() == {}
