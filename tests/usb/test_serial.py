"""Serial generators: a pseudo-terminal plays the device."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import tty
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from entropy.errors import ConfigError, SourceError, SourceGone
from entropy.sources import serial as serial_module
from entropy.sources.base import Source
from entropy.sources.uri import source_for


class Line:
    """A device at the other end of a line: starts on a command, or at once, and can go silent."""

    def __init__(self, path: Path, start: bytes = b"") -> None:
        self.path = path
        self._start = start
        self.heard = b""
        self.silent = False
        self._plug()

    def _plug(self) -> None:
        self._master, slave = os.openpty()
        tty.setraw(slave)
        self.path.unlink(missing_ok=True)
        self.path.symlink_to(os.ttyname(slave))
        os.set_blocking(self._master, False)
        self._slave = slave  # as a driver would: the line is there also while nobody has it open
        self._gone = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(self._master, self._gone))
        self._thread.start()

    def _run(self, master: int, gone: threading.Event) -> None:
        running = not self._start
        while not gone.wait(0.002):
            with contextlib.suppress(BlockingIOError):
                self.heard += os.read(master, 1000)
                running = not self._start or self.heard.rfind(self._start) > self.heard.rfind(
                    b"cmdo\n"
                )
            if running and not self.silent:
                with contextlib.suppress(BlockingIOError):
                    os.write(master, os.urandom(64))

    def gives(self, samples: bytes) -> None:
        """Now, and all of it."""
        assert os.write(self._master, samples) == len(samples)

    def unplug(self) -> None:
        self._gone.set()
        self._thread.join()
        os.close(self._slave)
        os.close(self._master)
        self.path.unlink()

    def replug(self) -> None:
        self.heard = b""
        self._plug()


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    made = Line(tmp_path / "ttyACM0")
    yield made
    if made.path.is_symlink():
        made.unplug()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serial_module, "TIMEOUT_SECONDS", 0.05)
    monkeypatch.setattr(serial_module, "SILENCE_SECONDS", 0.15)
    monkeypatch.setattr(serial_module, "PAUSE_SECONDS", 0.01)


def take(source: Source, n_bytes: int) -> bytes:
    samples = b""
    while len(samples) < n_bytes:
        samples += source.read(n_bytes - len(samples))
    return samples


@pytest.mark.parametrize("model", ["truerng", "truerngpro", "truerngpro&mode=raw", "raw"])
def test_it_flows(line: Line, model: str) -> None:
    source = source_for(f"serial:{line.path}?model={model}")
    source.open()
    assert len(set(take(source, 5000))) > 200
    source.close()


def test_dtr_starts_it_and_knocking_sets_the_mode_of_a_pro(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    import serial

    opened = []
    monkeypatch.setattr(
        serial.Serial,
        "open",
        lambda line, was=serial.Serial.open: opened.append((line.baudrate, line.dtr)) or was(line),
    )
    for uri, bauds in (
        (f"serial:{line.path}?model=truerng", [9600]),
        (f"serial:{line.path}?model=truerngpro", [110, 300, 110, 300]),
        (f"serial:{line.path}?model=truerngpro&mode=raw", [110, 300, 110, 19200]),
    ):
        opened.clear()
        source = source_for(uri)
        source.open()
        assert opened == [(baud, True) for baud in bauds]  # its DTR makes a TrueRNG give
        source.close()


def test_onerng_is_stopped_flushed_set_and_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import serial

    line = Line(tmp_path / "ttyACM0", start=b"cmdO\n")
    source = source_for(f"serial:{line.path}?model=onerng")
    done: list[bytes] = []
    write, flush = serial.Serial.write, serial.Serial.reset_input_buffer

    def noted_write(port: serial.Serial, data: bytes) -> Any:
        done.append(data)
        return write(port, data)

    def noted_flush(port: serial.Serial) -> None:
        done.append(b"flushed")
        flush(port)

    monkeypatch.setattr(serial.Serial, "write", noted_write)
    monkeypatch.setattr(serial.Serial, "reset_input_buffer", noted_flush)
    source.open()
    assert len(take(source, 1000)) == 1000
    # It may be running: what it gave before it was stopped is not wanted.
    assert done == [b"flushed", b"cmdo\n", b"flushed", b"cmdw\n", b"cmd0\n", b"cmdO\n"]
    assert line.heard == b"cmdo\ncmdw\ncmd0\ncmdO\n"
    done.clear()
    source.close()
    assert done == [b"cmdo\n"]
    line.unplug()


@pytest.mark.parametrize("model", ["truerng", "truerngpro", "raw"])
def test_what_waited_before_it_was_opened_is_not_read(line: Line, model: str) -> None:
    line.silent = True
    line.gives(bytes(100))
    source = source_for(f"serial:{line.path}?model={model}")
    source.open()
    line.silent = False
    assert bytes(20) not in take(source, 1000)
    source.close()


def test_unplugged_and_back(line: Line) -> None:
    source = source_for(f"serial:{line.path}?model=truerng")
    source.open()
    take(source, 100)
    line.unplug()
    with pytest.raises(SourceGone, match="was unplugged"):
        take(source, 100_000)
    with pytest.raises(SourceGone, match="the device is not there: No such file"):
        source.open()
    line.replug()
    source.open()
    assert take(source, 100)
    source.close()


def test_silence_is_gone(line: Line) -> None:
    line.silent = True
    source = source_for(f"serial:{line.path}?model=truerng")
    source.open()
    with pytest.raises(SourceGone, match=r"gave nothing for 0\.15 s: is it the model"):
        take(source, 100_000)
    line.silent = False
    source.open()
    assert take(source, 100)
    source.close()


def test_one_at_a_time(line: Line) -> None:
    one, two = (source_for(f"serial:{line.path}?model=raw") for _ in range(2))
    one.open()
    with pytest.raises(SourceError, match="is in use by another process"):
        two.open()
    one.close()
    two.open()
    assert take(two, 10)
    two.close()


def test_no_permission(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    import serial

    def refuse(_line: serial.Serial) -> None:
        raise serial.SerialException(errno.EACCES, "could not open port")

    monkeypatch.setattr(serial.Serial, "open", refuse)
    with pytest.raises(SourceError, match=r"60-entropy-feeder\.rules"):
        source_for(f"serial:{line.path}?model=raw").open()


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("serial:ttyACM0?model=raw", "must be absolute"),
        ("serial:/dev/ttyACM0", r"\?model= truerng, truerngpro, onerng, raw"),
        ("serial:/dev/ttyACM0?model=dice", "model is one of truerng, truerngpro, onerng, raw"),
        ("serial:/dev/ttyACM0?modell=raw", r"did you mean model=\?"),
        ("serial:/dev/ttyACM0?model=raw&mode=raw", "for the model truerngpro alone"),
        ("serial:/dev/ttyACM0?model=truerngpro&mode=fast", "mode is one of normal, raw"),
    ],
)
def test_what_cannot_be_meant(uri: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        source_for(uri)


def test_unknown_lines_count_nothing() -> None:
    for uri in ("serial:/dev/x?model=raw", "serial:/dev/x?model=truerngpro&mode=raw"):
        assert source_for(uri).figures.credit_bits_per_byte == 0
