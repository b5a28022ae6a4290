"""Preflight looks for signs of clones on hosts that have none of our packages yet."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from entropy.clone import BLIND, CloneWatch

ROOT = Path(__file__).resolve().parents[2]


def look(folder: Path, *, is_virtual: bool) -> str:
    """What preflight says of a broker, broker1, and a feeder, rng1, that are both this machine."""
    detect = folder / "systemd-detect-virt"
    detect.write_text(f"#!/bin/sh\nexit {int(not is_virtual)}\n")
    detect.chmod(0o755)
    here = {
        "ansible_connection": "local",
        "ansible_become": False,
        "ansible_python_interpreter": sys.executable,
    }
    groups = {"entropy_brokers": "broker1", "entropy_feeders": "rng1"}
    children = {group: {"hosts": {host: here}} for group, host in groups.items()}
    (folder / "hosts.yml").write_text(json.dumps({"all": {"children": children}}))
    done = subprocess.run(
        [
            *(Path(sys.executable).parent / "ansible-playbook", "-v", "-i", folder / "hosts.yml"),
            *("--start-at-task", "Ask its platform", ROOT / "playbooks/preflight.yml"),
        ],
        cwd=ROOT,
        env={**os.environ, "NO_COLOR": "1", "PATH": f"{folder}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ok: [broker1]" in done.stdout
    assert "ok: [rng1]" in done.stdout
    assert "here would learn" not in done.stdout  # that it could not be seen
    assert "Error" not in done.stdout
    return done.stdout


@pytest.mark.parametrize("is_virtual", [False, True])
def test_preflight_brings_all_that_the_look_for_clones_imports(
    tmp_path: Path, is_virtual: bool
) -> None:
    said = look(tmp_path, is_virtual=is_virtual)
    watch = CloneWatch()
    blind = watch.sign() in BLIND
    watch.close()
    assert ("broker1: nothing on this platform would tell the broker" in said) is blind
    # A feeder on a machine that nobody can copy as it runs has nothing to hear.
    assert ("rng1: nothing on this platform would tell the feeder" in said) is (
        blind and is_virtual
    )
