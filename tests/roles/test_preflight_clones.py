"""Preflight looks for signs of clones on hosts that have none of our packages yet."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_preflight_brings_all_that_the_look_for_clones_imports(tmp_path: Path) -> None:
    here = {
        "ansible_connection": "local",
        "ansible_become": False,
        "ansible_python_interpreter": sys.executable,
    }
    (tmp_path / "hosts.yml").write_text(
        json.dumps({"all": {"children": {"entropy_brokers": {"hosts": {"broker1": here}}}}})
    )
    done = subprocess.run(
        [
            *(Path(sys.executable).parent / "ansible-playbook", "-v", "-i", tmp_path / "hosts.yml"),
            *("--start-at-task", "Ask its platform", ROOT / "playbooks/preflight.yml"),
        ],
        cwd=ROOT,
        env={**os.environ, "NO_COLOR": "1", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ok: [broker1]" in done.stdout
    assert "a broker here would learn" not in done.stdout
    assert "Error" not in done.stdout
