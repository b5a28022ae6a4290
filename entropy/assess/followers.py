"""What followed each context so far, and which symbol followed it most often."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from entropy.assess.counting import Symbols

Numbers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

_DENSE_CODES = 2**16  # numbers below this are sorted many times faster


class Contexts(NamedTuple):
    """All places whose context, the `length` symbols before, comes at least twice."""

    length: int
    places: Numbers  # ascending
    codes: Numbers  # for each place the number of its context, from 0
    n_codes: int


def contexts(symbols: Symbols, longest: int) -> Iterator[Contexts]:
    """For lengths 1 to `longest`, as long as there are any. Contexts that come once may be left
    out or not.
    """
    n_values = int(symbols.max()) + 1
    places = np.arange(1, len(symbols))
    codes = symbols[:-1].astype(np.int64)
    n_codes = n_values
    for length in range(1, longest + 1):
        yield Contexts(length, places, codes, n_codes)
        reaches = places > length
        places = places[reaches]
        codes = codes[reaches] * n_values + symbols[places - length - 1]
        n_codes *= n_values
        if n_codes > _DENSE_CODES:
            _, code, count = np.unique(codes, return_inverse=True, return_counts=True)
            again = count > 1
            stays = again[code]
            places = places[stays]
            codes = (np.cumsum(again) - 1)[code[stays]]
            n_codes = int(np.count_nonzero(again))
        if n_codes == 0:
            return


class Best(NamedTuple):
    """For each place the symbol that followed its context most often before it.

    Of several, the highest.
    """

    symbol: Symbols
    times: Numbers  # how often; 0: the context has not come before


def best_before(
    codes: Numbers, n_codes: int, followers: Symbols, counted: Flags | None = None
) -> Best:
    """For places in the order of time, with the code of each one's context, and what followed.

    Only what is `counted` counts for later places; all, unless that is given.
    """
    order = _stable_order(codes, n_codes)
    sorted_codes = codes[order]
    values = followers[order]
    counts = np.ones(len(order), dtype=np.bool_) if counted is None else counted[order]
    starts = _starts(sorted_codes)
    n_values = int(followers.max()) + 1
    if n_values <= 2:
        ones = _number_before(counts & (values == 1), starts)
        zeros = _number_before(counts & (values == 0), starts)
        times = np.maximum(ones, zeros)
        symbol = (ones >= zeros).astype(np.uint8)
    else:
        # Each time a symbol follows, it bids with its count so far; the highest bid leads.
        pairs = sorted_codes * n_values + values
        by_pair = _stable_order(pairs, n_codes * n_values)
        nth = np.empty(len(order), dtype=np.int64)
        nth[by_pair] = _number_before(counts[by_pair], _starts(pairs[by_pair])) + 1
        bids = np.where(counts, nth * n_values + values, 0)
        first = np.zeros(len(order), dtype=np.bool_)
        first[starts] = True
        # Higher than any bid for the context before, so that each context begins anew.
        floor = (np.cumsum(first) - 1) * (n_values * (len(order) + 1))
        leading = np.empty(len(order), dtype=np.int64)
        leading[1:] = np.maximum.accumulate(bids + floor)[:-1] - floor[1:]
        leading[starts] = 0
        times = leading // n_values
        symbol = (leading % n_values).astype(np.uint8)

    best = Best(np.empty(len(order), dtype=np.uint8), np.empty(len(order), dtype=np.int64))
    best.times[order] = times
    best.symbol[order] = symbol
    return best


def _stable_order(numbers: Numbers, n_numbers: int) -> Numbers:
    small = numbers.astype(np.uint16) if n_numbers <= _DENSE_CODES else numbers
    return np.argsort(small, kind="stable")


def _starts(in_order: Numbers) -> Numbers:
    """Where each new number begins."""
    return np.flatnonzero(np.concatenate(([True], in_order[1:] != in_order[:-1])))


def _number_before(happens: Flags, starts: Numbers) -> Numbers:
    """For each element how many of those before it in its own group are true."""
    sums: Numbers = np.cumsum(happens, dtype=np.int64) - happens
    return sums - np.repeat(sums[starts], np.diff(starts, append=len(sums)))
