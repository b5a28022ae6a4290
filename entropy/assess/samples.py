"""Raw samples of a source, as the device gives them: neither tested nor conditioned."""

from __future__ import annotations

import sys
import time
from typing import NamedTuple, TextIO

from entropy.assess.assessment import LEAST_SAMPLES
from entropy.errors import SourceGone
from entropy.sources.base import Source

_READ_BYTES = 4096
_BAR_CELLS = 30


class Samples(NamedTuple):
    data: bytes  # one sample in each byte
    seconds: float  # that it took


def take(source: Source, n_samples: int, bar: ProgressBar) -> Samples:
    """Open `source`, read so many bytes, close it. Raises SourceError, SourceGone when it ends."""
    data = bytearray()
    source.open()
    try:
        start = time.monotonic()
        while len(data) < n_samples:
            bar.show(len(data) / n_samples, f"{len(data):,} of {n_samples:,} samples")
            try:
                data += source.read(min(_READ_BYTES, n_samples - len(data)))
            except SourceGone as gone:
                advice = f": for these alone say --bytes {len(data)}"
                raise SourceGone(
                    f"{gone}; {len(data)} of {n_samples} samples were taken"
                    + (advice if len(data) >= LEAST_SAMPLES else "")
                ) from None
        return Samples(bytes(data), time.monotonic() - start)
    finally:
        bar.clear()
        source.close()


class ProgressBar:
    """One line on a terminal that is drawn again and again; nothing where there is no terminal."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._is_shown = self._stream.isatty()
        self._drawn = ""

    def show(self, fraction: float, text: str) -> None:
        if not self._is_shown:
            return
        n_cells = int(_BAR_CELLS * fraction)
        line = f"[{'#' * n_cells}{'.' * (_BAR_CELLS - n_cells)}] {fraction:4.0%}  {text}"
        if line != self._drawn:
            self._stream.write(f"\r{line.ljust(len(self._drawn))}")
            self._stream.flush()
            self._drawn = line

    def clear(self) -> None:
        if self._drawn:
            self._stream.write(f"\r{' ' * len(self._drawn)}\r")
            self._stream.flush()
            self._drawn = ""
