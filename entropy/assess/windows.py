"""What the feeder's health tests see in a set of samples, window after window."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from entropy.assess.counting import Symbols
from entropy.errors import HealthFailure
from entropy.health import BIT_WINDOW_BITS, WINDOW_BYTES, Cutoffs, HealthTests

Statistic = npt.NDArray[np.int64]


class Windows(NamedTuple):
    """For each whole window of 512 bytes the statistics that the tests compare with cutoffs.

    The repetition counts are the longest runs that ended or grew in the window; of the bits'
    proportions it is the highest of four.
    """

    cutoffs: Cutoffs
    byte_repetition: Statistic
    byte_proportion: Statistic
    bit_repetition: Statistic
    bit_proportion: Statistic
    failures: tuple[str, ...]  # what the tests themselves said, once for each window that failed


def look(samples: bytes, test_bits_per_byte: float) -> Windows:
    """Raises ConfigError for a figure that no test can be cut from."""
    tests = HealthTests(test_bits_per_byte)
    n_windows = len(samples) // WINDOW_BYTES
    failures = []
    for start in range(0, n_windows * WINDOW_BYTES, WINDOW_BYTES):
        try:
            tests.push(samples[start : start + WINDOW_BYTES])
        except HealthFailure as failure:
            failures.append(str(failure))

    given: Symbols = np.frombuffer(samples[: n_windows * WINDOW_BYTES], dtype=np.uint8)
    bits = np.unpackbits(given)
    return Windows(
        tests.cutoffs,
        _longest_runs(given, WINDOW_BYTES),
        _first_again(given, WINDOW_BYTES),
        _longest_runs(bits, 8 * WINDOW_BYTES),
        _first_again(bits, BIT_WINDOW_BITS).reshape(n_windows, -1).max(axis=1),
        tuple(failures),
    )


def _longest_runs(symbols: Symbols, window: int) -> Statistic:
    places = np.arange(len(symbols))
    begins = np.ones(len(symbols), dtype=np.bool_)
    begins[1:] = symbols[1:] != symbols[:-1]
    lengths = places - np.maximum.accumulate(np.where(begins, places, 0)) + 1
    longest: Statistic = lengths.reshape(-1, window).max(axis=1)
    return longest


def _first_again(symbols: Symbols, window: int) -> Statistic:
    """How often the first symbol of each window comes in it."""
    rows = symbols.reshape(-1, window)
    count: Statistic = np.count_nonzero(rows == rows[:, :1], axis=1)
    return count
