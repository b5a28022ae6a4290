"""Every suffix of a sequence in order, and how long each agrees with the one before it.

All that the estimators over tuples need is in these two arrays: equal tuples stand side by side.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from entropy.assess.counting import Symbols

_KEY_BITS = 62  # of an int64: as much of each suffix as one number holds


class Suffixes(NamedTuple):
    order: npt.NDArray[np.int64]  # where each suffix begins, in lexicographic order
    common: npt.NDArray[np.int64]  # how many symbols it shares with the one before; 0 for the first


def sort_suffixes(symbols: Symbols) -> Suffixes:
    """For 64 symbols or more.

    First by as many symbols as a number holds, which for good noise is enough, then by twice as
    many and so on, for those suffixes that are still equal (Manber and Myers; Larsson and
    Sadakane).
    """
    n = len(symbols)
    keys, n_symbols = _first_symbols(symbols)
    # Backwards and stable: of equal keys the shorter suffix, which is filled up with zeros, first.
    order = n - 1 - np.argsort(keys[::-1], kind="stable")
    sorted_keys = keys[order]
    ended = order + n_symbols > n
    differs = np.ones(n, dtype=np.bool_)  # from the suffix before
    differs[1:] = (sorted_keys[1:] != sorted_keys[:-1]) | ended[:-1]

    common = np.zeros(n, dtype=np.int64)
    unlike = sorted_keys[1:] ^ sorted_keys[:-1]
    symbol_bits = _KEY_BITS // n_symbols
    equal_symbols = np.where(
        unlike == 0, n_symbols, n_symbols - 1 - _top_bit(unlike) // symbol_bits
    )
    common[1:] = np.minimum(equal_symbols, n - np.maximum(order[1:], order[:-1]))

    tied = np.flatnonzero(~differs)
    if len(tied):
        _sort_ties(order, differs, n_symbols)
        common[tied] = _measure(symbols, order[tied], order[tied - 1], n_symbols)
    return Suffixes(order, common)


def _first_symbols(symbols: Symbols) -> tuple[npt.NDArray[np.int64], int]:
    """The first symbols of each suffix as one number, zeros after the end, and how many."""
    n = len(symbols)
    symbol_bits = max(1, int(symbols.max()).bit_length())
    n_symbols = _KEY_BITS // symbol_bits
    symbol_bits = _KEY_BITS // n_symbols
    keys = symbols.astype(np.int64)
    have = 1
    while have < n_symbols:
        take = min(have, n_symbols - have)
        following = np.zeros(n, dtype=np.int64)
        following[: n - have] = keys[have:] >> symbol_bits * (have - take)
        keys = keys << symbol_bits * take | following
        have += take
    return keys, n_symbols


def _top_bit(numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The place of the highest bit that is set; of 0, anything."""
    # With the bit below the highest cleared, no rounding to a float reaches the next power.
    exponents = np.frexp((numbers & ~(numbers >> 1)).astype(np.float64))[1]
    return exponents.astype(np.int64) - 1


def _sort_ties(
    order: npt.NDArray[np.int64], differs: npt.NDArray[np.bool_], n_symbols: int
) -> None:
    """Put into order, in place, the runs of suffixes whose first `n_symbols` are equal."""
    n = len(order)
    rank = np.empty(n + 1, dtype=np.int64)
    rank[order] = np.maximum.accumulate(np.where(differs, np.arange(n), 0))
    rank[n] = -1  # the empty suffix comes first
    while True:
        tied = ~differs
        tied[:-1] |= tied[1:]
        members = np.flatnonzero(tied)
        if len(members) == 0:
            return
        suffixes = order[members]
        keys = rank[suffixes] * (n + 1) + rank[suffixes + n_symbols] + 1
        sorting = np.argsort(keys, kind="stable")
        keys = keys[sorting]
        suffixes = suffixes[sorting]
        order[members] = suffixes
        differs[members[1:]] |= keys[1:] != keys[:-1]
        rank[suffixes] = np.maximum.accumulate(np.where(differs[members], members, 0))
        n_symbols *= 2


def _measure(
    symbols: Symbols,
    suffixes: npt.NDArray[np.int64],
    befores: npt.NDArray[np.int64],
    at_least: int,
) -> npt.NDArray[np.int64]:
    """How many symbols each pair of suffixes shares, `at_least` being known (Kasai and others).

    In the order of the text a suffix shares at most one symbol less than the one before it did,
    so all comparisons together are no more than twice the symbols.
    """
    n = len(symbols)
    text = symbols.tobytes()
    by_place = np.argsort(suffixes)
    measured = []
    shared = before = 0
    for i, j in zip(suffixes[by_place].tolist(), befores[by_place].tolist()):
        shared = max(at_least, shared - (i - before))
        before = i
        end = n - max(i, j)
        while shared < end and text[i + shared] == text[j + shared]:
            shared += 1
        measured.append(shared)
    lengths = np.empty(len(suffixes), dtype=np.int64)
    lengths[by_place] = measured
    return lengths
