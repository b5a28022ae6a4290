"""The estimators of SP 800-90B over tuples: sections 6.3.5 and 6.3.6.

Both see how often equal tuples of one length come, the first in short tuples that come often, the
second in long ones that come twice. Overlapping tuples count.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from entropy.assess.confidence import min_entropy_bits, upper_bound
from entropy.assess.counting import Symbols
from entropy.assess.suffixes import sort_suffixes

_OFTEN = 35  # a tuple that comes so many times counts in the first, and no longer in the second


class TupleEstimates(NamedTuple):
    """In bits per symbol; None where the data gives no estimate."""

    t_tuple: float | None
    longest_repeated_substring: float | None


def tuples(symbols: Symbols) -> TupleEstimates:
    """6.3.5, from the commonest tuple of each length as long as it comes 35 times, and 6.3.6,
    from how likely two tuples of one length are equal, for all lengths beyond.
    """
    n = len(symbols)
    counts = count_tuples(sort_suffixes(symbols).common.tolist())
    lengths = np.arange(1, len(counts.commonest) + 1)
    n_often = int(np.count_nonzero(counts.commonest >= _OFTEN))  # the counts only fall

    often = lengths[:n_often]
    proportions = counts.commonest[:n_often] / (n - often + 1)
    t_tuple = _per_symbol(proportions, often, n)

    seldom = lengths[n_often:]
    n_tuples = (n - seldom + 1).astype(np.float64)
    collisions = counts.equal_pairs[n_often:] / (n_tuples * (n_tuples - 1) / 2)
    return TupleEstimates(t_tuple, _per_symbol(collisions, seldom, n))


def _per_symbol(
    probabilities: npt.NDArray[np.float64], lengths: npt.NDArray[np.int64], n_symbols: int
) -> float | None:
    if len(lengths) == 0:
        return None
    likeliest = float(np.power(probabilities, 1 / lengths).max())
    return min_entropy_bits(upper_bound(likeliest, n_symbols))


class TupleCounts(NamedTuple):
    """For tuples of 1 symbol, 2, and so on, as long as one of that length comes twice."""

    commonest: npt.NDArray[np.float64]  # how often the commonest comes
    equal_pairs: npt.NDArray[np.float64]  # how many pairs of places have equal tuples


def count_tuples(common: list[int]) -> TupleCounts:
    """From how many symbols each suffix shares with the one before it, in order; [0] is 0.

    Suffixes that share a tuple stand side by side, and longer tuples within shorter ones, as
    brackets within brackets: one pass with a stack of those that are open meets them all.
    """
    longest = max(common)
    commonest = [0] * (longest + 2)
    pairs = [0] * (longest + 2)
    open_lengths = [0]
    open_since = [0]
    length = 0  # of the innermost that is open
    for slot, shared in enumerate([*common[1:], 0], 1):
        since = slot - 1
        while shared < length:
            since = open_since.pop()
            open_lengths.pop()
            n = slot - since
            if n > commonest[length]:
                commonest[length] = n
            n_pairs = n * (n - 1) // 2
            pairs[length] += n_pairs
            # Shorter tuples than the one around it are counted there.
            length_around = open_lengths[-1]
            pairs[shared if shared > length_around else length_around] -= n_pairs
            length = length_around
        if shared > length:
            open_lengths.append(shared)
            open_since.append(since)
            length = shared

    # What is equal in a length is equal in every shorter one.
    most = np.maximum.accumulate(np.array(commonest[:0:-1], dtype=np.float64))[::-1]
    equal = np.cumsum(np.array(pairs[:0:-1], dtype=np.float64))[::-1]
    return TupleCounts(most[:longest], equal[:longest])
