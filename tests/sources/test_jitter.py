"""The kernel's jitter generator over AF_ALG, and how a guest is told from a host."""

from __future__ import annotations

import errno
import os
import re
import socket
from pathlib import Path
from typing import Any

import pytest

from entropy.errors import SourceError
from entropy.sources.base import StatedFigures
from entropy.sources.jitter import JitterSource, is_guest

HOST_CPU = "processor\t: 0\nflags\t\t: fpu vme sse2 rdrand\n"
GUEST_CPU = "processor\t: 0\nflags\t\t: fpu vme sse2 hypervisor rdrand\n"


def machine(root: Path, files: dict[str, str]) -> str:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(root)


@pytest.mark.parametrize(
    ("files", "guest"),
    [
        ({"proc/cpuinfo": HOST_CPU}, False),
        ({"proc/cpuinfo": GUEST_CPU}, True),
        ({"proc/cpuinfo": HOST_CPU, "sys/hypervisor/type": "xen\n"}, True),
        # arm64: no such flag
        ({"proc/cpuinfo": "processor\t: 0\n", "proc/device-tree/hypervisor": ""}, True),
        ({"proc/cpuinfo": "processor\t: 0\n", "sys/class/dmi/id/sys_vendor": "QEMU\n"}, True),
        (
            {"proc/cpuinfo": "processor\t: 0\n", "sys/class/dmi/id/sys_vendor": "Google LLC\n"},
            True,
        ),
        ({"proc/cpuinfo": "processor\t: 0\n", "sys/class/dmi/id/sys_vendor": "Ampere\n"}, False),
        ({"proc/cpuinfo": "processor\t: 0\n"}, True),
        ({}, True),
    ],
)
def test_guest_or_host(tmp_path: Path, files: dict[str, str], guest: bool) -> None:
    root = machine(tmp_path, files)
    assert is_guest(root) is guest
    figures = JitterSource("jitter:", StatedFigures(), root).figures
    assert figures.credit_bits_per_byte == (0 if guest else 1)


def test_this_kernel() -> None:
    """It either gives samples or says in words that it cannot."""
    source = JitterSource("jitter:", StatedFigures())
    try:
        source.open()
        samples = source.read(64)
    except SourceError as error:
        said = str(error)
    else:
        said = f"{len(samples)} bytes came"
    finally:
        source.close()
    assert re.fullmatch(r"\d+ bytes came|jitter: this kernel has no .* use another source", said)


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.EAFNOSUPPORT, "this kernel has no AF_ALG sockets"),
        (errno.ENOENT, "this kernel has no jitterentropy_rng"),
        (errno.ENOMEM, "opening it failed: Cannot allocate memory"),
    ],
)
def test_what_the_kernel_may_lack(
    monkeypatch: pytest.MonkeyPatch, number: int, message: str
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("entropy.sources.jitter.socket.socket", refuse)
    source = JitterSource("jitter:", StatedFigures())
    with pytest.raises(SourceError, match=message):
        source.open()
    with pytest.raises(SourceError, match="is not open"):
        source.read(10)
    source.close()


def test_reading_through_the_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel_end, our_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    class Listener:
        bound: Any = None

        def __enter__(self) -> Listener:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def bind(self, name: tuple[str, str]) -> None:
            Listener.bound = name

        def accept(self) -> tuple[socket.socket, None]:
            return our_end, None

    monkeypatch.setattr("entropy.sources.jitter.socket.socket", lambda *_: Listener())
    source = JitterSource("jitter:", StatedFigures())
    source.open()
    assert Listener.bound == ("rng", "jitterentropy_rng")
    kernel_end.send(bytes(range(128)))
    kernel_end.send(bytes(50))
    assert source.read(150) == bytes(range(128)) + bytes(22)
    kernel_end.close()
    with pytest.raises(SourceError, match="gave nothing"):
        source.read(10)
    source.close()
