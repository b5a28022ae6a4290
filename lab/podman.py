"""Podman, run as root where it works and with limits that this machine allows."""

from __future__ import annotations

import resource
import subprocess
from collections.abc import Sequence
from pathlib import Path

from lab import namespace
from lab.command import run
from lab.names import STATE

CONF = STATE / "containers.conf"


def write_conf() -> None:
    """Write the containers.conf that replaces the machine's own for our commands alone.

    Podman's default limits lie above the hard ones of a machine that takes CAP_SYS_RESOURCE
    away, and no container would start: ours are the hard limits themselves.
    """
    n_files = _hard_limit(resource.RLIMIT_NOFILE, "fs/nr_open")
    n_processes = _hard_limit(resource.RLIMIT_NPROC, "kernel/pid_max")
    text = f"""\
[containers]
default_ulimits = ["nofile={n_files}:{n_files}", "nproc={n_processes}:{n_processes}"]
pids_limit = 0
[network]
network_backend = "netavark"
[engine]
runtime = "runc"
"""
    STATE.mkdir(mode=0o700, exist_ok=True)
    if not CONF.exists() or CONF.read_text() != text:
        CONF.write_text(text)


def _hard_limit(which: int, sysctl: str) -> int:
    most = int((Path("/proc/sys") / sysctl).read_text())
    hard = resource.getrlimit(which)[1]
    return most if hard == resource.RLIM_INFINITY else min(hard, most)


def command(arguments: Sequence[str]) -> list[str]:
    """The command that runs podman with these arguments."""
    return namespace.inside(["podman", *arguments], {"CONTAINERS_CONF": str(CONF)})


def podman(
    *arguments: str,
    stdin: str | None = None,
    check: bool = True,
    timeout_seconds: float = 120,
) -> subprocess.CompletedProcess[str]:
    """Run podman and catch what it prints. Raises LabError as command.run does."""
    return run(command(arguments), stdin=stdin, check=check, timeout_seconds=timeout_seconds)
