"""The broker as the system runs it: a process, its notifications, its end."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from entropy.transport.blocking import BlockingConnection
from entropy.transport.endpoint import parse_endpoint
from entropy.transport.tls import client_context
from entropy.wire.codes import DrawKind, Role
from entropy.wire.keys import derive
from tests.broker.fleet import PATIENCE_SECONDS, Fleet

ROOT = Path(__file__).resolve().parents[2]
_KEYS = ("id", "site_id", "listen", "acl", "certificate", "key", "ca", "control_socket")


def write_config(fleet: Fleet, name: str = "broker1", more: str = "") -> Path:
    config = fleet.config(name)
    path = fleet.folder / f"{name}.toml"
    path.write_text(
        "[broker]\n"
        + "".join(f"{name} = {json.dumps(getattr(config, name))}\n" for name in _KEYS)
        + '[admin]\nlisten = ""\n'
        + more
    )
    return path


class Process:
    """A broker, the notifications it sends, and its lines."""

    def __init__(self, process: subprocess.Popen[str], notices: socket.socket) -> None:
        self.process = process
        self._notices = notices

    def wait_for_notice(self, wanted: str) -> None:
        while wanted not in self._notices.recv(4096).decode().splitlines():
            pass

    def end(self, number: int) -> tuple[int, str]:
        """Signal it; its exit status and what it said."""
        self.process.send_signal(number)
        _, said = self.process.communicate(timeout=PATIENCE_SECONDS)
        return self.process.returncode, said


@contextmanager
def running(fleet: Fleet, config: Path, watchdog_seconds: float = 0.1) -> Iterator[Process]:
    """A broker; who reads none of its notices for long gives it a slow watchdog."""
    notify_path = config.with_suffix(".notify")
    notify_path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices:
        notices.bind(str(notify_path))
        notices.settimeout(PATIENCE_SECONDS)
        process = subprocess.Popen(
            [sys.executable, "-m", "entropy", "broker", "--config", str(config)],
            cwd=ROOT,
            env=os.environ
            | {
                "NOTIFY_SOCKET": str(notify_path),
                "WATCHDOG_USEC": str(round(watchdog_seconds * 1_000_000)),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            yield Process(process, notices)
        finally:
            process.kill()
            process.communicate()


def ask(fleet: Fleet, command: str, name: str = "broker1") -> dict[str, Any]:
    with socket.socket(socket.AF_UNIX) as control:
        control.connect(str(fleet.folder / f"{name}.sock"))
        control.sendall(json.dumps({"command": command}).encode() + b"\n")
        answer: dict[str, Any] = json.loads(control.makefile().readline())
        return answer


def test_its_life(fleet: Fleet) -> None:
    vm1 = fleet.credential("vm1", "draw")
    config = write_config(fleet)
    with running(fleet, config) as broker:
        broker.wait_for_notice("READY=1")
        broker.wait_for_notice("WATCHDOG=1")
        assert ask(fleet, "status")["ok"] is True
        broker.process.send_signal(signal.SIGKILL)
        broker.process.wait()
    with running(fleet, config) as broker:  # over what the killed one left
        broker.wait_for_notice("READY=1")
        status, said = broker.end(signal.SIGTERM)
    assert status == 0
    lines = said.splitlines()
    assert lines[0].startswith("<6>broker broker1 of site lab listens on 127.0.0.1:")
    assert lines[1] == "<5>shutting down"
    assert not (fleet.folder / "broker1.sock").exists()
    host, port = parse_endpoint(lines[0].split()[-1])
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, port))
    assert vm1.secret.hex() not in said


def test_a_draw_and_its_end_by_sigterm(fleet: Fleet) -> None:
    vm1 = fleet.credential("vm1", "draw")
    config = write_config(fleet)
    with running(fleet, config) as broker:
        broker.wait_for_notice("READY=1")
        assert broker.process.stderr is not None
        endpoint = broker.process.stderr.readline().split()[-1]
        with BlockingConnection.connect(
            endpoint,
            context=client_context(str(fleet.folder / "ca.pem"), check_dates=True),
            credential=vm1,
            keys=derive(vm1.secret),
            role=Role.CLIENT,
            boot_id=bytes(16),
            counter=1,
            nonce=bytes(32),
            timeout_seconds=PATIENCE_SECONDS,
        ) as client:
            assert client.draw(DrawKind.SEED, 64, 0).credit_bits == 0
            assert broker.end(signal.SIGTERM)[0] == 0


def test_a_second_broker_on_the_same_socket_says_why(fleet: Fleet) -> None:
    fleet.publish()
    config = write_config(fleet)
    with running(fleet, config) as broker:
        broker.wait_for_notice("READY=1")
        second = subprocess.run(
            [sys.executable, "-m", "entropy", "broker", "--config", str(config)],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
    assert second.returncode == 2
    [line] = second.stderr.splitlines()
    assert "another broker listens there" in line


@pytest.mark.parametrize("spoil", [False, True])
def test_check_config(fleet: Fleet, spoil: bool) -> None:
    fleet.publish()
    config = write_config(fleet)
    if spoil:
        (fleet.folder / "ca.pem").unlink()
    found = subprocess.run(
        [sys.executable, "-m", "entropy", "broker", "--config", str(config), "--check-config"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert found.returncode == (2 if spoil else 0)
    assert ("ca.pem" in found.stderr) == spoil
    assert "Traceback" not in found.stderr
