"""What `entropy demo` shows: lines that tell what happens, and a picture of what flows.

In a terminal the picture stays below the lines and moves; elsewhere it is printed once, at the
end. Colours only in a terminal, and not when NO_COLOR is set; ASCII where the output has no
better letters.
"""

from __future__ import annotations

import os
import textwrap
import time
from collections.abc import Iterable, Sequence
from typing import NamedTuple, TextIO

BOX_WIDTH = 12
GAUGE_WIDTH = 10
TEXT_WIDTH = 60
PICTURE_WIDTH = 78


class Flow(NamedTuple):
    """How much is where, and how much has gone by."""

    source: str  # its short name
    raw_bytes: int  # read from the source
    born_bits: int  # of the blocks that the feeder made
    held_blocks: int  # in the broker
    capacity_blocks: int
    held_bits: int
    delivered_bytes: int
    delivered_bits: int


class Picture:
    """Lines above, and the moving picture below them."""

    def __init__(self, output: TextIO) -> None:
        self._output = output
        self._live = _can_move(output)
        self._colours = self._live and not os.environ.get("NO_COLOR")
        self._shown: list[str] = []  # the picture that is on the screen, if one is
        self._began_seconds = time.monotonic()
        self._letters = _letters(output.encoding)

    def line(self, text: str = "") -> None:
        """A line as it is; the picture makes way and comes again with the next `move`."""
        self._write(text + "\n", [])

    def title(self, text: str) -> None:
        self.line(self._styled("1", text))

    def event(self, who: str, what: str) -> None:
        """Something happened just now."""
        when = f"{time.monotonic() - self._began_seconds:5.1f} s"
        first, *more = textwrap.wrap(what, TEXT_WIDTH)
        self.line(f"  {self._styled('2', when)}  {who:<8}{first}")
        for text in more:
            self.line(f"{'':19}{text}")

    def move(self, flow: Flow) -> None:
        """Draw the picture anew, where it can move."""
        lines = ["", *picture_lines(flow, self._letters), ""]
        if self._live and lines != self._shown:
            self._write("", lines)

    def last(self, flow: Flow) -> None:
        """Draw it for good."""
        self._write("\n".join(["", *picture_lines(flow, self._letters), "", ""]), [])

    def _write(self, text: str, picture: list[str]) -> None:
        """In one go, so that nothing flickers: wipe the picture, write the text, then the new."""
        wipe = f"\x1b[{len(self._shown)}A\x1b[J" if self._shown else ""  # up, clear to the end
        self._output.write(wipe + text + "".join(line + "\n" for line in picture))
        self._output.flush()
        self._shown = picture

    def _styled(self, style: str, text: str) -> str:
        return f"\x1b[{style}m{text}\x1b[0m" if self._colours else text


def _can_move(output: TextIO) -> bool:
    """Whether this is a terminal that obeys, and is wide enough that no line wraps."""
    if not output.isatty() or os.environ.get("TERM", "dumb") == "dumb":
        return False
    try:
        return os.get_terminal_size(output.fileno()).columns > PICTURE_WIDTH
    except OSError:
        return False


def _letters(encoding: str | None) -> _Letters:
    try:
        "─│┌┐└┘▶█░".encode(encoding or "ascii")
    except (LookupError, UnicodeEncodeError):
        return _ASCII
    return _UNICODE


class _Letters(NamedTuple):
    """What boxes, arrows and the gauge are made of."""

    across: str
    down: str
    upper: tuple[str, str]  # corners, left and right
    lower: tuple[str, str]
    head: str
    full: str
    empty: str


_UNICODE = _Letters("─", "│", ("┌", "┐"), ("└", "┘"), "▶", "█", "░")
_ASCII = _Letters("-", "|", ("+", "+"), ("+", "+"), ">", "#", ".")


def picture_lines(flow: Flow, letters: _Letters) -> list[str]:
    """Four boxes in the order that bytes go: what each holds, and under it the sums so far."""
    full = round(GAUGE_WIDTH * flow.held_blocks / flow.capacity_blocks)
    gauge = letters.full * full + letters.empty * (GAUGE_WIDTH - full)
    boxes = (
        ("source", flow.source, "noise", f"{flow.raw_bytes:,} bytes"),
        ("feeder", "health tests", "SHA-512", f"{flow.born_bits:,} bits"),
        ("broker", gauge, f"{flow.held_blocks} blocks", f"{flow.held_bits:,} bits"),
        ("client", f"{flow.delivered_bytes:,} bytes", "to kernel", f"{flow.delivered_bits:,} bits"),
    )
    arrow = f" {letters.across * 4}{letters.head} "
    edge = letters.across * BOX_WIDTH
    top, bottom = (left + edge + right for left, right in (letters.upper, letters.lower))

    def row(cells: Iterable[str], gaps: Sequence[str] = ("", "", "")) -> str:
        words = [part for cell, gap in zip(cells, (*gaps, "")) for part in (cell, f"{gap:^7}")]
        return (" " + "".join(words)).rstrip()

    def boxed(text: str) -> str:
        return f"{letters.down}{text:^{BOX_WIDTH}}{letters.down}"

    return [
        row(f"{box[0]:^{BOX_WIDTH + 2}}" for box in boxes),
        row([top] * 4),
        row((boxed(box[1]) for box in boxes), ("raw", "TLS 1.3", "TLS 1.3")),
        row((boxed(box[2]) for box in boxes), (arrow, arrow, arrow)),
        row([bottom] * 4),
        row(f"{box[3]:^{BOX_WIDTH + 2}}" for box in boxes),
    ]
