"""The feeder as a process: signals, systemd, exit status, one line for what is wrong."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.feeder.site import START, WINDOW, Received, Site, blocks_of, noise, until

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "entropy", "feeder", "--config"]


def write_config(site: Site, endpoint: str, source: str) -> str:
    text = f"""
[feeder]
site_id = "lab"
credential = "{site.folder}/rng1.json"
ca = "{site.folder}/ca.pem"
brokers = ["{endpoint}"]

[source]
{source}
"""
    return site.secret("feeder.toml", text.encode())


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The socket that a service under systemd tells its state to."""
    path = str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(path)
        channel.setblocking(False)
        yield channel


def heard(channel: socket.socket) -> list[str]:
    lines = []
    while True:
        try:
            lines += channel.recv(4096).decode().splitlines()
        except BlockingIOError:
            return lines


def test_feeds_until_it_is_told_to_stop(site: Site, systemd: socket.socket) -> None:
    """From a pipe that is still open: SIGTERM ends even a read that never returns."""
    pipe = site.folder / "pipe"
    os.mkfifo(pipe)
    keep = os.open(pipe, os.O_RDWR)

    async def scenario() -> None:
        async with site.broker() as broker:
            received = Received(broker)
            config = write_config(
                site,
                broker.addresses[0],
                f'uri = "file:{pipe}"\ncredit_bits_per_byte = 4\nreason = "a test"\n',
            )
            process = await asyncio.create_subprocess_exec(
                *COMMAND, config, cwd=ROOT, stderr=asyncio.subprocess.PIPE
            )
            try:
                samples = noise(4 * WINDOW)
                os.write(keep, START + samples)
                await until(lambda: received.blocks == blocks_of(samples))
                said: list[str] = []

                def feeding() -> bool:
                    said.extend(heard(systemd))
                    return any(line.endswith("delivering; feeding broker1") for line in said)

                await until(feeding)
                assert "READY=1" in said
            finally:
                process.send_signal(signal.SIGTERM)
            _, errors = await process.communicate()
            assert process.returncode == 0, errors
            assert "STOPPING=1" in heard(systemd)
            lines = errors.decode().splitlines()
            assert all(line.startswith(("<6>", "<5>", "<4>")) for line in lines), lines
            assert "Traceback" not in errors.decode()

    try:
        asyncio.run(scenario())
    finally:
        os.close(keep)


def test_a_process_whose_machine_was_copied_says_so_and_drops_its_session(
    site: Site, systemd: socket.socket
) -> None:
    pipe, sign = site.folder / "pipe", site.folder / "generation"
    os.mkfifo(pipe)
    keep = os.open(pipe, os.O_RDWR)
    sign.write_text("1")

    async def scenario() -> None:
        async with site.broker() as broker:
            config = write_config(
                site,
                broker.addresses[0],
                f'uri = "file:{pipe}"\ncredit_bits_per_byte = 4\nreason = "a test"\n'
                f'[clone]\ngeneration_file = "{sign}"\n',
            )
            process = await asyncio.create_subprocess_exec(
                *COMMAND, config, cwd=ROOT, stderr=asyncio.subprocess.PIPE
            )
            try:
                os.write(keep, START + noise(4 * WINDOW))
                await until(lambda: broker.status()["reservoir"]["held_blocks"] == 14)
                await until(lambda: any("feeding broker1" in line for line in heard(systemd)))
                sign.write_text("2")
                said: list[str] = []

                def begins_anew() -> bool:
                    said.extend(heard(systemd))
                    return any("in its start-up test; no broker" in line for line in said)

                await until(begins_anew)
                await until(lambda: not broker.sessions)
            finally:
                process.send_signal(signal.SIGTERM)
            _, errors = await process.communicate()
            assert process.returncode == 0, errors
            lines = errors.decode().splitlines()
            assert "<6>sign of clones: generation file" in lines
            [alarm] = [line for line in lines if "ALARM" in line]
            assert "the VM generation changed: this machine was cloned" in alarm
            assert "the session with broker1 is cut" in alarm

    try:
        asyncio.run(scenario())
    finally:
        os.close(keep)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ('uri = "kernel:"', "kernel earns no credit"),
        ('uri = "tarot:"', "'tarot:' is not a source; known are alea:, chaoskey:, serial:"),
        ('uri = "file:x"\ncredit_bits_per_byte = 4', "is stated without a reason"),
    ],
)
@pytest.mark.parametrize("options", [[], ["--check-config"]])
def test_what_cannot_feed_ends_with_one_line(
    site: Site, source: str, message: str, options: list[str]
) -> None:
    config = write_config(site, "127.0.0.1:1", source)
    done = subprocess.run(
        [*COMMAND, config, *options], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert message in line
