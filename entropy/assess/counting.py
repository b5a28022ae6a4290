"""The estimators of SP 800-90B that count: sections 6.3.1 to 6.3.4.

Each takes symbols, an array of uint8 with values from 0, and returns an estimate of min-entropy in
bits per symbol. All but the first are defined for bits alone. What the standard leaves open is
done as NIST's own tool does it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from entropy.assess.confidence import Z_ALPHA, min_entropy_bits, upper_bound

Symbols = npt.NDArray[np.uint8]

_WORD_BITS = 6  # 6.3.4: the compression estimate reads words of so many bits
_N_WORDS = 1 << _WORD_BITS  # different ones
_FIRST_WORDS = 1000  # and only fills its dictionary from so many
_WORD_SPREAD = 0.5907  # the factor of its standard deviation, for words of six bits


def most_common_value(symbols: Symbols) -> float:
    """6.3.1: from how often the commonest symbol comes."""
    commonest = int(np.bincount(symbols).max()) / len(symbols)
    return min_entropy_bits(upper_bound(commonest, len(symbols)))


def collision(bits: Symbols) -> float:
    """6.3.2: from how long it takes until a value comes again. 1 when no bias explains it."""
    # Two bits will do when they are equal, and of three bits two always are.
    waits = np.where(bits[:-1] == bits[1:], 2, 3).astype(np.uint8).tobytes()
    position = n_waits = 0
    last = len(waits) - 1
    while position < last:
        position += waits[position]
        n_waits += 1
    if position == last and waits[last] == 2:
        position += 2
        n_waits += 1

    n_threes = position - 2 * n_waits
    mean = position / n_waits
    squares = 4 * (n_waits - n_threes) + 9 * n_threes
    deviation = math.sqrt(max(0.0, squares - position * mean) / (n_waits - 1))
    mean_bound = max(2.0, mean - Z_ALPHA * deviation / math.sqrt(n_waits))
    # For bits the standard's equation comes down to mean = 2 + 2p - 2pp, p the likelier value's.
    if mean_bound >= 2.5:
        return 1.0
    return min_entropy_bits(0.5 + math.sqrt(1.25 - mean_bound / 2))


def markov(bits: Symbols) -> float:
    """6.3.3: the likeliest of all sequences of 128 bits, if each bit depends on the one before."""
    ones = int(np.count_nonzero(bits))
    now, after = bits[:-1], bits[1:]
    from_ones = int(np.count_nonzero(now))
    from_zeros = len(now) - from_ones
    to_one = int(np.count_nonzero(now & after))
    zero_to_one = int(np.count_nonzero(after)) - to_one

    log_first = (_log2(len(bits) - ones, len(bits)), _log2(ones, len(bits)))
    log_next = (
        (_log2(from_zeros - zero_to_one, from_zeros), _log2(zero_to_one, from_zeros)),
        (_log2(from_ones - to_one, from_ones), _log2(to_one, from_ones)),
    )
    likeliest = max(
        # first bit, then so many steps of each kind: 00, 01, 10, 11
        log_first[first] + sum(n * log_next[a][b] for (a, b), n in steps.items())
        for first, steps in (
            (0, {(0, 0): 127}),
            (0, {(0, 1): 64, (1, 0): 63}),
            (0, {(0, 1): 1, (1, 1): 126}),
            (1, {(1, 0): 1, (0, 0): 126}),
            (1, {(1, 0): 64, (0, 1): 63}),
            (1, {(1, 1): 127}),
        )
    )
    return min(-likeliest / 128, 1.0)


def _log2(part: int, whole: int) -> float:
    return math.log2(part / whole) if part else -math.inf


def compression(bits: Symbols) -> float:
    """6.3.4: from how far back each word of six bits came before (Maurer's statistic).

    1 when no bias explains it. Needs more than 6000 bits.
    """
    n_words = len(bits) // _WORD_BITS
    rows = bits[: n_words * _WORD_BITS].reshape(n_words, _WORD_BITS)
    words = np.packbits(rows, axis=1)[:, 0] >> (8 - _WORD_BITS)

    # Words count from 1; a word that never came before, came at 0.
    order = np.argsort(words, kind="stable")
    before = np.zeros(n_words, dtype=np.int64)
    same = words[order[1:]] == words[order[:-1]]
    before[order[1:][same]] = order[:-1][same] + 1
    distances = np.arange(1, n_words + 1) - before
    logs = np.log2(distances[_FIRST_WORDS:])

    n_tests = len(logs)
    mean = float(logs.mean())
    variance = float(np.square(logs).sum()) / (n_tests - 1) - mean * mean
    deviation = _WORD_SPREAD * math.sqrt(max(0.0, variance))
    mean_bound = mean - Z_ALPHA * deviation / math.sqrt(n_tests)

    expected = _expected_log_distance(n_words)
    fair = 1 / _N_WORDS
    if expected(fair) <= mean_bound:
        return 1.0
    low, high = fair, 1.0  # the expected distance falls when one word becomes likelier
    for _ in range(50):
        middle = (low + high) / 2
        if expected(middle) > mean_bound:
            low = middle
        else:
            high = middle
    return min_entropy_bits((low + high) / 2) / _WORD_BITS


def _expected_log_distance(n_words: int) -> Callable[[float], float]:
    """What the mean of the logarithms would be if one word had probability p and all others the
    same: 6.3.4 step 7, with its double sum turned inside out.
    """
    n_others = _N_WORDS - 1
    n_tests = n_words - _FIRST_WORDS
    distances = np.arange(1, n_words + 1, dtype=np.float64)
    logs = np.log2(distances)
    # In how many tests a word may have come that far back, and yet not at the very beginning.
    n_possible = np.minimum(n_tests, n_words - distances)

    def part(p: float) -> float:
        # (1 - p)^distance is nothing from some distance on.
        enough = min(n_words, int(750 / p) + 2)
        not_yet = np.exp((distances[:enough] - 1) * math.log1p(-p))
        terms = logs[:enough] * not_yet
        came_back = p * p * float((terms * n_possible[:enough]).sum())
        first_time = p * float(terms[_FIRST_WORDS:].sum())
        return float(came_back + first_time) / n_tests

    def expected(p: float) -> float:
        return part(p) + n_others * part((1 - p) / n_others)

    return expected
