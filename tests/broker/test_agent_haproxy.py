"""What a real haproxy makes of the agent's lines, one after the other."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from lab import oneshot
from tests.broker import haproxy_story

pytestmark = pytest.mark.lab
ROOT = Path(__file__).resolve().parents[2]


def test_weight_drain_and_down_are_done_and_undone(tmp_path: Path) -> None:
    unwanted = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "entropy", tmp_path / "entropy", ignore=unwanted)
    shutil.copy(haproxy_story.__file__, tmp_path / "story.py")
    done = oneshot.run(["/usr/bin/python3", "story.py"], folder=tmp_path, timeout_seconds=280)
    seen = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(seen) == len(haproxy_story.STORY), done.stderr
    for step in seen:
        assert step["seen"] == step["wanted"], (step, done.stderr)
