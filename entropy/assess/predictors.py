"""Two of SP 800-90B's four predictors: the symbols that were common, and those some way back.

Sections 6.3.7 and 6.3.8; the two that learn from contexts are in learners.py. Where the
standard leaves something open, it is done as NIST's own tool does it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from entropy.assess.counting import Symbols
from entropy.assess.scoreboard import Hits, Scoreboard, longest_run, prediction_estimate

_WINDOWS = (63, 255, 1023, 4095)  # symbols
_N_LAGS = 128
_BLOCK_STEPS = 4096


def multi_mcw(symbols: Symbols) -> float:
    """6.3.7: the commonest symbol of each of four windows; needs more than 4095 symbols."""
    n = len(symbols)
    n_values = int(symbols.max()) + 1
    first = _WINDOWS[0]
    hits = np.zeros((len(_WINDOWS), n - first), dtype=np.bool_)
    for row, window in zip(hits, _WINDOWS):
        guesses = commonest_of_bits if n_values == 2 else commonest_of_symbols
        row[window - first :] = guesses(symbols, window) == symbols[window:]
    board = Scoreboard(len(_WINDOWS))
    right = np.empty(n - first, dtype=np.bool_)
    for start in range(0, n - first, _BLOCK_STEPS):
        block = hits[:, start : start + _BLOCK_STEPS]
        right[start : start + _BLOCK_STEPS] = _of_believed(board, block)
    return prediction_estimate(int(right.sum()), len(right), longest_run(right), n_values)


def commonest_of_bits(bits: Symbols, window: int) -> Symbols:
    """For each place from `window` on, the commoner of the bits in the window before it.

    The windows are odd, so there is always one.
    """
    ones = np.concatenate(([0], np.cumsum(bits, dtype=np.int64)))
    majority: Symbols = (ones[window:-1] - ones[: -window - 1] > window // 2).astype(np.uint8)
    return majority


def commonest_of_symbols(symbols: Symbols, window: int) -> Symbols:
    """For each place from `window` on, the commonest symbol in the window before it.

    Of several, the one that came last.
    """
    values = symbols.tobytes()
    counts = [0] * (int(symbols.max()) + 1)
    commonest = values[0]
    guesses = bytearray()
    for place, value in enumerate(values):
        counts[value] += 1
        if place >= window:
            guesses.append(commonest)
            leaving = values[place - window]
            counts[leaving] -= 1
            if leaving == commonest != value:
                highest = max(counts)
                last = place
                while counts[values[last]] < highest:
                    last -= 1
                commonest = values[last]
                continue
        if counts[value] >= counts[commonest]:
            commonest = value
    return np.frombuffer(bytes(guesses), dtype=np.uint8)


def lag(symbols: Symbols) -> float:
    """6.3.8: the symbols 1, 2 ... 128 places back."""
    n = len(symbols)
    board = Scoreboard(_N_LAGS)
    right = np.empty(n - 1, dtype=np.bool_)
    # Before the first symbol there is none, and none is equal to it.
    padded = np.full(_N_LAGS + n, -1, dtype=np.int16)
    padded[_N_LAGS:] = symbols
    for start in range(1, n, _BLOCK_STEPS):
        now = padded[_N_LAGS + start : _N_LAGS + start + _BLOCK_STEPS]
        rows = np.lib.stride_tricks.sliding_window_view(
            padded[start : start + _N_LAGS + len(now) - 1], len(now)
        )
        # Row r holds what came _N_LAGS - r places before.
        right[start - 1 : start - 1 + len(now)] = _of_believed(board, rows[::-1] == now)
    n_values = int(symbols.max()) + 1
    return prediction_estimate(int(right.sum()), n - 1, longest_run(right), n_values)


def _of_believed(board: Scoreboard, hits: Hits) -> npt.NDArray[np.bool_]:
    """Whether the guess of the predictor that was believed was right."""
    right: npt.NDArray[np.bool_] = hits[board.believed(hits), np.arange(hits.shape[1])]
    return right
