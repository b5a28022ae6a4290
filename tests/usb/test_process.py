"""The driver in processes of their own, on real libusb: they end well, and hold on to nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from entropy.errors import SourceGone
from entropy.sources import usb
from entropy.sources.uri import source_for
from tests.usb.worlds import ROOT, UmockdevWorld

pytestmark = pytest.mark.umockdev


def entropy(*arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "entropy", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_sample_reads_an_alea(umockdev: UmockdevWorld) -> None:
    umockdev.plug()
    process = entropy("sample", "--source", "alea:", "--bytes", "1000")
    output, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (0, b"")
    assert len(output) == 1000


def test_sources_lists_an_alea(umockdev: UmockdevWorld) -> None:
    umockdev.plug(ports=(1, 3))
    process = entropy("sources")
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "    source   alea:serial=A1\n" in output.decode()


def test_without_a_device_there_is_one_line(umockdev: UmockdevWorld) -> None:
    process = entropy("sample", "--source", "alea:", "--bytes", "1000")
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (1, b"entropy: alea: no Araneus Alea is plugged in\n")


PROGRAM = """
import threading
from contextlib import suppress
from entropy.errors import SourceGone
from entropy.sources import usb
from entropy.sources import usb
from entropy.sources.uri import source_for

def read():
    with suppress(SourceGone):
        source.read(100)

usb.FIRST_TIMEOUT_SECONDS = 0.5
source = source_for("alea:")
source.open()
threading.Thread(target=read, daemon=True).start()
print("reading", flush=True)
"""


def test_an_end_in_the_middle_of_a_transfer_is_quiet(umockdev: UmockdevWorld) -> None:
    """The main thread ends while another waits in libusb: no crash, no word, and not for long."""
    name = umockdev.plug()
    umockdev.script(name, *[["silence"]] * 10)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"reading\n", b"")
    # The first transfer ran to its time-out, and there was no second one.
    assert umockdev.look(name)["left"] >= 9


def test_no_device_outlives_libusb(umockdev: UmockdevWorld) -> None:
    """Whoever still has one, an error's traceback for one, must not crash the process later."""
    umockdev.plug()
    backend = usb.new_backend()
    kept = list(backend.enumerate_devices())
    backend.finalize()
    assert kept
    assert not any(device._finalizer.alive for device in kept)


def test_opening_again_and_again_holds_on_to_nothing(umockdev: UmockdevWorld) -> None:
    def n_open() -> int:
        return len(os.listdir("/proc/self/fd"))

    name = umockdev.plug()
    source = source_for("alea:")

    def cycle(n_times: int) -> tuple[int, int]:
        for _ in range(n_times):
            source.open()
            source.read(100)
            umockdev.script(name, ["io"], ["io"], ["io"])
            with suppress(SourceGone):
                while True:
                    source.read(4096)
            source.close()
        umockdev.unplug(name)
        for _ in range(n_times):
            with pytest.raises(SourceGone):
                source.open()
        umockdev.plug()
        return n_open(), threading.active_count()

    before = cycle(2)
    assert cycle(20) == before


@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="needs Linux")
def test_two_feeders_of_one_machine_say_who_holds_it(
    umockdev: UmockdevWorld, tmp_path: Path
) -> None:
    umockdev.plug()
    first = entropy("sample", "--source", "alea:", "--bytes", str(2**40))
    assert first.stdout is not None
    assert first.stdout.read(1)
    second = entropy("sample", "--source", "alea:", "--bytes", "1")
    _, said = second.communicate(timeout=60)
    assert second.returncode == 1
    assert "is claimed by" in said.decode()
    first.send_signal(signal.SIGINT)
    first.stdout.close()
    assert first.stderr is not None
    first.stderr.close()
    first.wait(60)
