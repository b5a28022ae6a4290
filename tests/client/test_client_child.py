"""Work in a process of its own: what it reports, what becomes of it."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import NoReturn

import pytest

from entropy.client_child import Child
from entropy.errors import ConfigError, CredentialError, EntropyError, KernelError, TransportError

# The client has one thread. Here others' may be left, which Python 3.12 warns of.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


def test_it_reports(tmp_path: Path) -> None:
    child = Child(lambda: {"pid": os.getpid(), "list": [1, 2.5, None]})
    report = child.report()
    assert report["list"] == [1, 2.5, None]
    assert report["pid"] != os.getpid()
    child.end()
    with pytest.raises(ProcessLookupError):
        os.kill(report["pid"], 0)


@pytest.mark.parametrize(
    ("raised", "comes"),
    [
        (ConfigError, ConfigError),
        (CredentialError, CredentialError),
        (KernelError, KernelError),
        (TransportError, KernelError),
    ],
)
def test_its_errors_are_ours(raised: type[EntropyError], comes: type[EntropyError]) -> None:
    def work() -> NoReturn:
        raise raised("in words")

    with pytest.raises(comes, match="in words"):
        Child(work).report()


def test_a_fault_is_told_without_a_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KernelError, match="ended before its time"):
        Child(lambda: 1 // 0).report()
    assert capfd.readouterr().err == (
        "a fault in the program: ZeroDivisionError: integer division or modulo by zero\n"
    )


def test_one_that_hangs_can_be_ended(tmp_path: Path) -> None:
    fifo = tmp_path / "pid"
    os.mkfifo(fifo)

    def work() -> None:
        fifo.write_text(str(os.getpid()))
        time.sleep(1000)

    child = Child(work)
    pid = int(fifo.read_text())
    child.end()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    child.end()
