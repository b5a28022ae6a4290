"""The deployed fleet of the lab, as the tests reach it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from lab import lifecycle, podman
from lab.names import CHECKOUT, STATE, container

INVENTORY = CHECKOUT / "inventories/lab"
BROKERS = ("broker1", "broker2")
VMS = ("vm1", "vm2", "vm3", "vm4")
CLIENT = "/etc/entropy/client.toml"


class Run(NamedTuple):
    """A run of ansible-playbook: all that it said, and how many tasks each host had."""

    status: int
    output: str
    recap: dict[str, dict[str, int]]


class Fleet:
    """Commands on its hosts, runs of playbooks on it, and its containers."""

    def __init__(self) -> None:
        lifecycle.prepare()
        self.state = lifecycle.load_state()
        self.vip = str(self.state["vip"])

    def ssh(
        self, host: str, command: str, *, stdin: str = "", check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """A shell command as root on a host. Its output is text."""
        return subprocess.run(
            ["ssh", "-F", str(STATE / "ssh_config"), host, f"sudo bash -c {_quoted(command)}"],
            input=stdin,
            capture_output=True,
            text=True,
            check=check,
            timeout=60,
        )

    def python(self, host: str, script: str) -> str:
        """What a script prints that runs on a host, with the Python and the packages there."""
        return self.ssh(host, "/usr/bin/python3 -", stdin=script).stdout

    def podman(self, *words: str) -> None:
        podman.podman(*words)

    def container(self, host: str) -> str:
        return container(host)

    def play(self, *arguments: str, playbook: str = "site.yml", inventory: Path = INVENTORY) -> Run:
        """One run of a playbook, on the lab's inventory unless another is given."""
        done = subprocess.run(
            [
                str(Path(sys.executable).parent / "ansible-playbook"),
                *("-i", str(inventory), playbook, *arguments),
            ],
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            check=False,
        )
        output = done.stdout + done.stderr
        recap = {
            line.split()[0]: {key: int(n) for key, n in re.findall(r"(\w+)=(\d+)", line)}
            for line in output.splitlines()
            if re.match(r"\w+ +: ok=", line)
        }
        return Run(done.returncode, output, recap)

    def status(self, broker: str) -> dict[str, Any]:
        return dict(json.loads(self.ssh(broker, "entropy status --json").stdout))

    def runs(self, host: str, service: str) -> bool:
        done = self.ssh(host, f"systemctl is-active {service}", check=False)
        return done.returncode == 0

    def vip_holder(self) -> str | None:
        """Which broker has the virtual address; None while none or both have it."""
        holders = [
            broker
            for broker in BROKERS
            if self.ssh(broker, f"ip -o address show to {self.vip}", check=False).stdout
        ]
        return holders[0] if len(holders) == 1 else None

    def client_at(self, host: str, *endpoints: str) -> str:
        """The path of a copy of the host's client.toml that knows these endpoints alone."""
        path = "/run/entropy-test-client.toml"
        self.ssh(
            host,
            f"sed 's/^brokers = .*/brokers = {json.dumps(list(endpoints))}/' {CLIENT} >{path}",
        )
        return path


def wait_until(condition: Callable[[], object], what: str, seconds: float = 60) -> None:
    """Wait for a condition; the test fails with `what` when it does not come true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"after {seconds:.0f} s it was still not so: {what}"
        time.sleep(0.25)


@pytest.fixture(scope="session")
def fleet() -> Fleet:
    return Fleet()


def _quoted(command: str) -> str:
    return "'" + command.replace("'", "'\\''") + "'"
