"""One guest for all of these tests, started once."""

from __future__ import annotations

import subprocess
from collections.abc import Generator, Iterator
from typing import Any

import pytest

from lab.command import LabError
from lab.guest import pieces
from lab.guest.machine import Machine
from lab.names import CHECKOUT


@pytest.fixture(scope="session")
def guest() -> Iterator[Machine]:
    """A machine with its own kernel and our packages, as they are now."""
    folder = pieces.FOLDER / "debs"
    subprocess.run([CHECKOUT / "packaging" / "build", folder], check=True)
    with Machine.start("usb", pieces.ensure(sorted(folder.glob("*.deb")))) as machine:
        yield machine


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    """A test that failed shows what the guest said last: there is no way to look later."""
    outcome = yield
    report = outcome.get_result()
    machine = getattr(item, "funcargs", {}).get("guest")
    if report.when == "call" and report.failed and isinstance(machine, Machine):
        try:
            said = machine.run(["journalctl", "--quiet", "--lines=80", "--output=short-monotonic"])
            report.sections.append(("the guest's journal", said.stdout))
        except LabError as error:
            report.sections.append(("the guest's journal cannot be had", str(error)))
