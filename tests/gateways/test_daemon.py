"""The gateway as a process: signals, systemd, exit status, one line for what is wrong."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.gateways.site import Site, asked, reading, until

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "entropy", "gateway", "egd", "--config"]


def write_config(site: Site, endpoint: str) -> str:
    text = f"""
[gateway]
site_id = "lab"
credential = "{site.folder}/gw1.json"
ca = "{site.folder}/ca.pem"
brokers = ["{endpoint}"]
[egd]
listen = ["unix:{site.socket}"]
"""
    return site.fleet.secret("gateway.toml", text.encode())


def test_serves_until_it_is_told_to_stop(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    notices = site.folder / "notify"
    monkeypatch.setenv("NOTIFY_SOCKET", str(notices))

    async def scenario(channel: socket.socket) -> None:
        async with site.fleet.broker() as broker:
            await site.feed(broker, 8)
            config = write_config(site, broker.addresses[0])
            process = await asyncio.create_subprocess_exec(
                *COMMAND, config, cwd=ROOT, stderr=asyncio.subprocess.PIPE
            )
            said: list[str] = []

            def heard(line: str) -> bool:
                with contextlib.suppress(BlockingIOError):
                    while True:
                        said.extend(channel.recv(4096).decode().splitlines())
                return line in said

            told = False
            try:
                await until(lambda: heard("READY=1"))
                async with reading(site.socket) as streams:
                    assert len(await asked(streams, b"\x02\xff", 255)) == 255
                    process.send_signal(signal.SIGTERM)
                    told = True
                    assert await streams[0].read() == b""
            finally:
                if not told:
                    process.kill()
            _, errors = await process.communicate()
            assert process.returncode == 0, errors
            assert heard("STOPPING=1")
            assert "WATCHDOG=1" in said
            lines = errors.decode().splitlines()
            assert any("drawing from broker1" in line for line in lines)
            assert all(line.startswith(("<6>", "<5>", "<4>")) for line in lines), lines
        assert not site.socket.exists()

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(str(notices))
        channel.setblocking(False)
        asyncio.run(scenario(channel))


@pytest.mark.parametrize("options", [[], ["--check-config"]])
def test_a_credential_that_may_not_draw_ends_it_with_one_line(
    site: Site, options: list[str]
) -> None:
    site.fleet.credential("gw1", "feed")
    config = write_config(site, "127.0.0.1:1")
    done = subprocess.run(
        [*COMMAND, config, *options], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "'gw1' may not draw" in line
