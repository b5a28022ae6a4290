"""How a guest's end, or its silence, is told: with a program in the place of qemu."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab.command import LabError
from lab.guest.machine import GuestError, Machine


@contextmanager
def machine(folder: Path, script: str) -> Iterator[Machine]:
    console = folder / "console"
    console.write_text("Linux version 6\nKernel panic\n")
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with Machine(process, console) as guest:
        yield guest
    assert process.returncode is not None
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)


def answering(*answers: dict[str, object]) -> str:
    lines = [json.dumps(answer) for answer in answers]
    return f"for line in {lines!r}: input(); print(line, flush=True)\ninput()"


def test_a_guest_that_ended_shows_its_last_words(tmp_path: Path) -> None:
    with (
        machine(tmp_path, "input()") as guest,
        pytest.raises(LabError, match=r"the guest has ended.*(?s:.)*Kernel panic"),
    ):
        guest.read("/etc/hostname")


def test_a_guest_that_is_silent_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    with (
        machine(tmp_path, "import time; time.sleep(600)") as guest,
        pytest.raises(LabError, match=r"not answered for 0\.1 s(?s:.)*Kernel panic"),
    ):
        guest._request({"read": "/"}, timeout_seconds=0.1)


def test_what_cannot_be_done_is_an_error_until_it_can(tmp_path: Path) -> None:
    data = base64.b64encode(b"here").decode()
    script = answering({"error": "no such file"}, {"error": "no such file"}, {"data": data})
    with machine(tmp_path, script) as guest:
        with pytest.raises(GuestError, match="no such file"):
            guest.read("/x")
        assert guest.until("it is there", lambda: guest.read("/x")) == b"here"


def test_what_never_comes_is_named(tmp_path: Path) -> None:
    with (
        machine(tmp_path, answering({"error": "no such file"})) as guest,
        pytest.raises(LabError, match=r"within 0 s: a file: in the guest: no such file"),
    ):
        guest.until("a file", lambda: guest.read("/x"), timeout_seconds=0)


@pytest.mark.parametrize(("status", "words"), [(3, r"failed \(3\):\nnot so"), (-1, "no end after")])
def test_a_program_that_fails(tmp_path: Path, status: int, words: str) -> None:
    said = base64.b64encode(b"not so\n").decode()
    answer = {"status": status, "stdout": "", "stderr": said}
    with (
        machine(tmp_path, answering(answer)) as guest,
        pytest.raises(LabError, match=f"in the guest.*(?s:.)*{words}"),
    ):
        guest.run(["false"])
