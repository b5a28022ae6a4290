"""Broker, feeder and client as an operator starts them: real processes, by the command line."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from entropy.demo_fleet import DemoFleet

ROOT = Path(__file__).resolve().parent.parent
PATIENCE_SECONDS = 30.0
SITE = 'site_id = "demo"\nca = "{folder}/ca.pem"\n'
BROKER = """
[broker]
id = "broker"
listen = ["127.0.0.1:0"]
acl = "{folder}/acl.json"
certificate = "{folder}/tls.pem"
key = "{folder}/tls.key"
control_socket = "{folder}/control.sock"
state_dir = "{folder}/state"
"""
ADMIN = '[admin]\nlisten = ""\n'
FEEDER = """
[feeder]
credential = "{folder}/feeder.json"
brokers = ["{endpoint}"]
"""
SOURCE = '[source]\nuri = "kernel:"\nlab_only_credit_kernel = true\n'
CLIENT = """
[client]
credential = "{folder}/client.json"
brokers = ["{endpoint}"]
state_dir = "{folder}/state"
credit = false
"""


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "entropy", *arguments]


def entropy(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        command(*arguments), cwd=ROOT, capture_output=True, timeout=PATIENCE_SECONDS
    )


class Daemon:
    """A running daemon, and what it says."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.said = b""

    def wait_for(self, pattern: str) -> re.Match[str]:
        assert self.process.stderr is not None
        end = time.monotonic() + PATIENCE_SECONDS
        while (found := re.search(pattern, self.said.decode())) is None:
            left_seconds = end - time.monotonic()
            assert left_seconds > 0, f"it never said {pattern}: {self.said.decode()}"
            if select.select([self.process.stderr], [], [], left_seconds)[0]:
                part = os.read(self.process.stderr.fileno(), 65536)
                assert part, f"it ended without {pattern}: {self.said.decode()}"
                self.said += part
        return found

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        self.said += self.process.communicate(timeout=PATIENCE_SECONDS)[1]
        return self.process.returncode


@contextmanager
def daemon(*arguments: str) -> Iterator[Daemon]:
    with subprocess.Popen(command(*arguments), cwd=ROOT, stderr=subprocess.PIPE) as process:
        try:
            yield Daemon(process)
        finally:
            if process.poll() is None:
                process.kill()


class Files:
    """The demo's folder, with a configuration file for each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        DemoFleet(folder)

    def write(self, name: str, text: str, *tables: str, endpoint: str = "") -> str:
        path = self.folder / f"{name}.toml"
        whole = (text + SITE).format(folder=self.folder, endpoint=endpoint) + "".join(tables)
        path.write_text(whole)
        return str(path)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def test_a_fleet_of_processes(files: Files) -> None:
    control = str(files.folder / "control.sock")
    with daemon("broker", "--config", files.write("broker", BROKER, ADMIN)) as broker:
        endpoint = broker.wait_for(r"listens on (127\.0\.0\.1:\d+)")[1]
        client_file = files.write("client", CLIENT, endpoint=endpoint)
        feeder_file = files.write("feeder", FEEDER, SOURCE, endpoint=endpoint)
        with daemon("feeder", "--config", feeder_file) as feeder:
            feeder.wait_for("connected to broker")

            seeded = entropy("client", "--once", "--config", client_file)
            assert seeded.returncode == 0
            assert b"seed: 64 bytes worth 448 bits from broker" in seeded.stderr

            drawn = entropy("draw", "--config", client_file, "--bytes", "3000")
            assert drawn.returncode == 0
            assert len(drawn.stdout) == 3000
            assert drawn.stdout.count(0) < 100, "it looks like noise"
            assert re.search(rb"3000 bytes worth \d+ bits from broker\n", drawn.stderr)

            status = _status(control)
            vm = next(client for client in status["clients"] if client["id"] == "client")
            assert vm["delivered_bytes"] == 3064
            assert status["alarms"] == [], "no login looked like a clone's"
            books = status["accounting"]
            assert books.pop("fed_bits") + books.pop("imported_bits") == sum(books.values())
            assert b"broker broker of demo: ready" in entropy("status", "--control", control).stdout

            assert feeder.stop() == 0
        assert broker.stop() == 0
        for words in (broker.said, feeder.said):
            assert b"Traceback" not in words
        for name in ("feeder", "client"):
            secret = json.loads((files.folder / f"{name}.json").read_text())["secret"]
            assert secret.encode() not in broker.said + feeder.said + seeded.stderr + drawn.stderr


def _status(control: str) -> dict[str, Any]:
    done = entropy("status", "--json", "--control", control)
    assert done.returncode == 0, done.stderr
    status: dict[str, Any] = json.loads(done.stdout)
    return status


@pytest.mark.parametrize(
    ("name", "text", "tables"),
    [
        ("broker", BROKER, [ADMIN]),
        ("feeder", FEEDER, [SOURCE]),
        ("client", CLIENT, []),
    ],
)
def test_checking_a_configuration(
    files: Files, name: str, text: str, tables: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    from entropy import cli

    path = files.write(name, text, *tables, endpoint="127.0.0.1:1")
    assert cli.main([name, "--config", path, "--check-config"]) == 0
    assert capsys.readouterr().err == f"{path}: is fine\n"
    (files.folder / "ca.pem").unlink()
    assert cli.main([name, "--config", path, "--check-config"]) == 2
    error = capsys.readouterr().err
    assert str(files.folder / "ca.pem") in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "secret", "text", "tables"),
    [
        ("broker", "tls.key", BROKER, [ADMIN]),
        ("broker", "acl.json", BROKER, [ADMIN]),
        ("feeder", "feeder.json", FEEDER, [SOURCE]),
        ("client", "client.json", CLIENT, []),
    ],
)
def test_a_secret_that_others_can_read_stops_the_start(
    files: Files, name: str, secret: str, text: str, tables: list[str]
) -> None:
    from entropy import cli

    path = files.write(name, text, *tables, endpoint="127.0.0.1:1")
    (files.folder / secret).chmod(0o644)
    done = entropy(name, "--config", path)
    assert done.returncode == 2
    assert done.stderr.count(b"\n") == 1
    assert f"{files.folder / secret} is readable by everybody (mode 0644)" in done.stderr.decode()
    assert cli.main([name, "--config", path, "--check-config"]) == 2
