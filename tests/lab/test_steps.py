"""The runner of make's steps counts truthfully and never waits for ever."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import subprocess
import sys
from types import ModuleType

import pytest

from lab.names import CHECKOUT

STEPS = str(CHECKOUT / ".ci" / "steps")


def load() -> ModuleType:
    loader = importlib.machinery.SourceFileLoader("steps", STEPS)
    spec = importlib.util.spec_from_loader("steps", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


@pytest.fixture(autouse=True, scope="module")
def _no_bytecode() -> None:
    sys.dont_write_bytecode = True  # no cache beside a file that is no module


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("454 passed, 1 skipped, 5 deselected in 8.51s", (454, 0)),
        ("2 failed, 454 passed in 61.00s (0:01:01)", (454, 2)),
        ("1 failed, 3 passed, 2 errors in 0.50s", (3, 3)),
        ("\x1b[32m5 passed\x1b[0m in 0.04s", (5, 0)),
        ("default : actions=7  successful=6  disabled=0  skipped=0  missing=0  failed=1", (6, 1)),
        ("we passed 3 of them in 2 s", None),
        ("All checks passed!", None),
    ],
)
def test_what_a_line_counts(line: str, expected: tuple[int, int] | None) -> None:
    assert load().counts(line) == expected


def steps(*words: str) -> tuple[int, list[str]]:
    done = subprocess.run(
        [sys.executable, STEPS, *words], capture_output=True, text=True, check=False, timeout=60
    )
    return done.returncode, done.stdout.splitlines()


def test_all_pass() -> None:
    status, lines = steps("one 10 true", "two 10 echo 12 passed in 0.10s")
    assert status == 0
    assert lines[-1] == "13 passed, 0 failed"


def test_what_comes_after_a_failure_still_runs() -> None:
    status, lines = steps("one 10 exit 3", "two 10 echo here")
    assert status == 1
    assert "here" in lines
    assert lines[-1] == "1 passed, 1 failed"


def test_a_step_that_fails_is_a_failure_whatever_it_printed() -> None:
    status, lines = steps("one 10 echo 12 passed in 0.10s; exit 1")
    assert status == 1
    assert lines[-1] == "12 passed, 1 failed"


def test_a_step_may_run_pytest_more_than_once() -> None:
    status, lines = steps("one 10 echo 12 passed in 0.10s; echo 1 failed, 3 passed in 0.20s; false")
    assert status == 1
    assert lines[-1] == "15 passed, 1 failed"


def test_a_step_that_does_not_end_is_ended_with_its_children() -> None:
    status, lines = steps("one 0.2 sleep 1000 | cat", "two 10 true")
    assert status == 1
    assert any(line.startswith("== one: FAILED, not done after") for line in lines)
    assert lines[-1] == "1 passed, 1 failed"


def test_what_goes_around_runs_before_and_after() -> None:
    status, lines = steps("--around", "echo around", "one 10 echo inside; false")
    assert status == 1
    kept = [line for line in lines if line in ("around", "inside")]
    assert kept == ["around", "inside", "around"]
    assert lines[-1] == "0 passed, 1 failed"


def test_nothing_runs_where_what_goes_before_fails() -> None:
    status, lines = steps("--around", "false", "one 10 echo here")
    assert status == 1
    assert "here" not in lines
    assert lines[-1] == "0 passed, 1 failed"
