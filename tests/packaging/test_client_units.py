"""The two ways to run the client: a service that stays, or a timer that starts one that ends."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from .layout import DEBIAN

ONCE = "entropy-client-once.service"
RESIDENT = "entropy-client.service"


def lines(unit: str) -> list[str]:
    prefixed = DEBIAN / f"entropy-client.{unit}"
    path = prefixed if prefixed.exists() else DEBIAN / unit
    found = [line.strip() for line in path.read_text().splitlines()]
    return [line for line in found if line and not line.startswith("#")]


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed here")
def test_systemd_understands_every_line(tmp_path: Path) -> None:
    for name in (ONCE, RESIDENT, "entropy-client.timer"):
        (tmp_path / name).write_text(
            "\n".join(lines(name)).replace("/usr/bin/entropy", "/bin/true")
        )
    for name in (ONCE, RESIDENT, "entropy-client.timer"):
        argv = ["systemd-analyze", "--no-pager", "--man=no", "verify", tmp_path / name]
        said = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60).stderr
        assert [line for line in said.splitlines() if line.startswith(f"{tmp_path}/")] == []


def test_the_one_that_ends_may_do_no_more_than_the_one_that_stays() -> None:
    may_differ = {
        "Type",
        "ExecStart",
        "SuccessExitStatus",
        "Description",
        "TimeoutStartSec",
    }
    resident = set(lines(RESIDENT))
    more = [line for line in lines(ONCE) if line not in resident]
    assert {line.partition("=")[0] for line in more} <= may_differ
    assert "CapabilityBoundingSet=CAP_SYS_ADMIN" in lines(ONCE)
    assert "DeviceAllow=/dev/kmsg r" not in lines(ONCE)  # it is gone before anything is said
    kept = {line.partition("=")[0] for line in lines(ONCE)}
    lost = {line.partition("=")[0] for line in resident} - kept
    assert lost == {
        "StartLimitIntervalSec",
        "Restart",
        "RestartSec",
        "RestartPreventExitStatus",
        "WatchdogSec",
        "[Install]",
        "WantedBy",
    }


def test_a_boot_waits_for_neither() -> None:
    for unit in (ONCE, RESIDENT):
        assert "TimeoutStartSec=30" in lines(unit)
        assert not [line for line in lines(unit) if line.startswith("Before=")]


def test_one_way_or_the_other() -> None:
    timer = lines("entropy-client.timer")
    assert f"Conflicts={RESIDENT}" in timer
    assert f"Unit={ONCE}" in timer
