"""The demo: the first thing that a user sees runs, adds up, and leaves nothing behind."""

from __future__ import annotations

import io
import os
import re
from pathlib import Path
from typing import Any

import pytest

from entropy import cli, demo, demo_fleet
from entropy.config import SourceConfig
from entropy.demo import Account
from entropy.demo_picture import Flow, Picture, picture_lines
from entropy.errors import SourceGone
from entropy.sources.base import Figures, Source, StatedFigures

FLOW = Flow("hwrng", 1234567, 512, 5, 10, 2560, 160, 1216)


@pytest.fixture
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The demo at full speed, by the source that every machine has, with this for its files."""

    kernel = SourceConfig("kernel:", lab_only_credit_kernel=True)
    monkeypatch.setattr(demo, "best_source", lambda: kernel)
    monkeypatch.setattr(demo, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(demo, "FRAME_SECONDS", 0.005)
    monkeypatch.setattr(demo_fleet, "FEED_BITS_PER_SECOND", 1_000_000)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_it_runs_and_adds_up(quick: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["demo"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    out = captured.out
    assert "the kernel's own generator" in " ".join(out.split()), "a stand-in is called by its name"
    assert out.count("seed: 64 bytes worth 448 bits") == 1
    assert out.count("top-up: 32 bytes worth 256 bits") == 3
    assert "the sum holds; the client received 1,216 bits" in out
    account = {
        name: int(bits.replace(",", ""))
        for name, bits in re.findall(r"^  [ =+] ([a-z ]+?) +([\d,]+)   ", out, re.MULTILINE)
    }
    assert account.pop("born") == sum(account.values()) > 0
    assert (account["delivered"], account["spent"]) == (1216, 4 * 64 + 3 * 192)
    assert "\x1b" not in out, "no escapes where there is no terminal"
    assert max(map(len, out.splitlines())) <= 80
    assert os.listdir(quick) == []


def test_it_ends_in_one_line_when_something_is_wrong(
    quick: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("entropy.kernel.RANDOM_DEVICE", str(quick / "none"))
    assert cli.main(["demo"]) == 1
    error = capsys.readouterr().err
    assert "the demo ended early" in error
    assert "none: cannot be written" in error
    assert error.count("\n") == 1
    assert os.listdir(quick) == []


def test_an_account_that_does_not_hold() -> None:
    assert Account(512, 0, 0, 448, 64, 0).holds
    assert not Account(512, 0, 0, 448, 63, 0).holds


class Fake(Source):
    """A source with given figures that gives zeros, or is not there."""

    def __init__(self, uri: str, credit_bits_per_byte: float, there: bool) -> None:
        super().__init__(uri, StatedFigures())
        self._credit_bits_per_byte = credit_bits_per_byte
        self._there = there

    def own_figures(self) -> Figures:
        return Figures(self._credit_bits_per_byte, 7, "by nature")

    def open(self) -> None:
        if not self._there:
            raise SourceGone("not there")

    def read(self, n_bytes: int) -> bytes:
        return bytes(min(n_bytes, 100))

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("hwrng", "jitter", "wanted"),
    [
        ((1, True), (1, True), SourceConfig("hwrng:/dev/hwrng")),
        ((1, False), (1, True), SourceConfig("jitter:")),
        ((1, False), (1, False), SourceConfig("kernel:", lab_only_credit_kernel=True)),
    ],
)
def test_the_best_source_is_taken(
    hwrng: Any, jitter: Any, wanted: SourceConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    offered = {"hwrng:/dev/hwrng": hwrng, "jitter:": jitter}
    monkeypatch.setattr(demo_fleet, "source_for", lambda uri: Fake(uri, *offered[uri]))
    assert demo_fleet.best_source() == wanted


def test_a_source_that_counts_nothing_is_stated_for_the_demo_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(demo_fleet, "source_for", lambda uri: Fake(uri, 0, True))
    found = demo_fleet.best_source()
    assert found.credit_bits_per_byte == 1
    assert found.reason is not None
    assert "for this demo only" in found.reason
    assert "by nature" in found.reason


def test_the_picture() -> None:
    lines = picture_lines(FLOW, demo_letters("utf-8"))
    assert len({len(line) for line in lines[1:5]}) == 1, "the boxes stand in line"
    assert "█████░░░░░" in lines[2]
    assert "1,234,567 bytes" in lines[5]
    ascii_lines = picture_lines(FLOW, demo_letters("ascii"))
    assert "\n".join(ascii_lines).isascii()
    assert [len(line) for line in ascii_lines] == [len(line) for line in lines]


def demo_letters(encoding: str) -> Any:
    return Picture(io.TextIOWrapper(io.BytesIO(), encoding=encoding))._letters


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        return 0


@pytest.mark.parametrize(("columns", "moves"), [(80, True), (70, False)])
def test_it_moves_in_a_terminal_that_is_wide_enough(
    columns: int, moves: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(os, "get_terminal_size", lambda _: os.terminal_size((columns, 24)))
    output = Terminal()
    picture = Picture(output)
    picture.move(FLOW)
    picture.move(FLOW)  # nothing new: nothing is drawn
    picture.event("broker", "speaks")
    picture.last(FLOW)
    text = output.getvalue()
    assert text.count("source") == (2 if moves else 1)
    assert text.count("\x1b[8A\x1b[J") == (1 if moves else 0)
    assert ("\x1b[" in text) is moves
