"""What a service tells systemd, over a real socket."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from entropy import notify


@pytest.fixture
def supervisor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(path)
        listener.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", path)
        yield listener


def test_a_state_arrives(supervisor: socket.socket) -> None:
    notify.notify("READY=1\nSTATUS=well")
    assert supervisor.recv(100) == b"READY=1\nSTATUS=well"


def test_an_abstract_address(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"entropy-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("\0" + name)
        listener.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + name)
        notify.notify("WATCHDOG=1")
        assert listener.recv(100) == b"WATCHDOG=1"


@pytest.mark.parametrize("address", [None, "", "nowhere", "/nonexistent/socket"])
def test_nobody_listens(monkeypatch: pytest.MonkeyPatch, address: str | None) -> None:
    if address is None:
        monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    else:
        monkeypatch.setenv("NOTIFY_SOCKET", address)
    notify.notify("READY=1")


@pytest.mark.parametrize(
    ("microseconds", "for_us", "seconds"),
    [
        ("3000000", True, 1.5),
        ("3000000", False, None),
        ("0", True, None),
        ("", True, None),
        ("soon", True, None),
    ],
)
def test_the_watchdog(
    monkeypatch: pytest.MonkeyPatch, microseconds: str, for_us: bool, seconds: float | None
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", microseconds)
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid() if for_us else os.getpid() + 1))
    assert notify.watchdog_interval_seconds() == seconds


def test_lines_in_a_terminal_and_in_the_journal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify.log("one\ntwo")
    monkeypatch.setenv("JOURNAL_STREAM", "8:1")
    notify.log("bad", notify.ERROR)
    assert capsys.readouterr().err == "one two\n<3>bad\n"
