"""Sources that break, and how soon the formulas promise that the health tests catch it.

A fault begins anywhere in a window, and a window is judged when it closes. So a fault that one
whole window is sure to show is caught after 511 + 512 samples at the latest, and one that a window
shows with probability P, after 511 + 512 m with probability 1 - (1 - P)^m. What is promised here
is the number of samples after which a fault has escaped with a probability of 10^-6 at most, by
one of the tests alone: the others can only be sooner.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from entropy.errors import HealthFailure
from entropy.health import BIT_WINDOW_BITS, STARTUP_BYTES, WINDOW_BYTES, Cutoffs, HealthTests

ESCAPES = 1e-6
DEGRADES_SAMPLES = 1_000_000  # from perfect to stuck

Random = np.random.Generator
Bytes = npt.NDArray[np.uint8]


class Fault(NamedTuple):
    name: str
    make: Callable[[Random, int], Bytes]  # so many samples, from the beginning of the fault on
    promised: Callable[[Cutoffs], int | None]  # samples; None: one window may never show it
    left_bits: Callable[[int], float]  # min-entropy of the n-th sample of the fault
    test: str  # what the promise rests on


# --- what the formulas promise --------------------------------------------------------------


def after_windows(shown: Callable[[int], float]) -> int | None:
    """Samples until the fault escaped with probability 10^-6 at most.

    `shown(n)`: the probability that the window which begins with sample n of the fault fails.
    """
    escapes = 1.0
    # The first whole window may begin 511 samples after the fault.
    for n in range(WINDOW_BYTES - 1, 2 * DEGRADES_SAMPLES, WINDOW_BYTES):
        escapes *= 1 - shown(n)
        if escapes <= ESCAPES:
            return n + WINDOW_BYTES
    return None


def after_equal_windows(shown: float) -> int:
    """The same where each window shows the fault with the same probability."""
    n_windows = 1 if shown == 1 else math.ceil(math.log(ESCAPES) / math.log1p(-shown))
    return WINDOW_BYTES - 1 + WINDOW_BYTES * n_windows


def at_least(n_trials: int, p: float, k: int) -> float:
    """P(X >= k) for X binomial."""
    if k > n_trials:
        return 0.0
    if p <= 0 or p >= 1:
        return float(p >= 1 or k <= 0)
    logs = [
        math.lgamma(n_trials + 1)
        - math.lgamma(i + 1)
        - math.lgamma(n_trials - i + 1)
        + i * math.log(p)
        + (n_trials - i) * math.log1p(-p)
        for i in range(max(k, 0), n_trials + 1)
    ]
    return min(1.0, math.fsum(map(math.exp, logs)))


def proportion_shows(values: list[float], window: int, cutoff: int) -> float:
    """That the first of a window comes `cutoff` times in it; `values`: their probabilities."""
    return sum(p * at_least(window - 1, p, cutoff - 1) for p in values)


def bits_show(p: float, cutoffs: Cutoffs) -> float:
    """That independent bits, ones with probability p, fail in one of a window's four parts."""
    part = proportion_shows([p, 1 - p], BIT_WINDOW_BITS, cutoffs.bit_proportion)
    return 1 - (1 - part) ** (8 * WINDOW_BYTES // BIT_WINDOW_BITS)


def run_shows(again: float, cutoff: int) -> float:
    """That a window holds a run of `cutoff`, each sample equal to the last with this chance."""
    states = [1.0] + [0.0] * (cutoff - 2)  # by how often the value was repeated
    for _ in range(WINDOW_BYTES - 1):
        states = [sum(states) * (1 - again), *(again * state for state in states[:-1])]
    return 1 - sum(states)


# --- the faults -----------------------------------------------------------------------------


def packed(ones: npt.NDArray[np.bool_]) -> Bytes:
    return np.packbits(ones)


def stuck() -> Fault:
    def promised(cutoffs: Cutoffs) -> int:
        # The last of so many equal samples may be the first of a window.
        return cutoffs.byte_repetition + WINDOW_BYTES - 1

    return Fault(
        "stuck at one value",
        lambda random, n: np.full(n, random.integers(256), dtype=np.uint8),
        promised,
        lambda _: 0.0,
        "repetition count on bytes",
    )


def biased(p: float = 0.75) -> Fault:
    return Fault(
        f"biased bits, p = {p:g}",
        lambda random, n: packed(random.random(8 * n) < p),
        lambda cutoffs: after_equal_windows(bits_show(p, cutoffs)),
        lambda _: -8 * math.log2(p),
        "adaptive proportion on bits",
    )


def repeating(period: int, cutoffs: Cutoffs) -> Fault:
    """One stretch of perfect noise again and again."""
    often = WINDOW_BYTES // period >= cutoffs.byte_proportion
    whole = period + cutoffs.recurrence_bytes <= WINDOW_BYTES
    return Fault(
        f"repeating, period {period}",
        lambda random, n: np.resize(random.integers(0, 256, period).astype(np.uint8), n),
        lambda _: 2 * WINDOW_BYTES - 1 if often or whole else None,
        lambda _: 0.0,
        "adaptive proportion on bytes" if often else "recurrence",
    )


def share(n: int) -> float:
    """How far a source that degrades slowly has come."""
    return min(1.0, n / DEGRADES_SAMPLES)


def drifting() -> Fault:
    def p(n: int) -> float:
        return 0.5 + share(n) / 2

    def make(random: Random, n: int) -> Bytes:
        ones = 0.5 + np.repeat(np.minimum(1, np.arange(n) / DEGRADES_SAMPLES), 8) / 2
        return packed(random.random(8 * n) < ones)

    return Fault(
        "degrading: bits drift from p = 0.5 to 1",
        make,
        lambda cutoffs: after_windows(lambda n: bits_show(p(n), cutoffs)),
        lambda n: -8 * math.log2(p(n)),
        "adaptive proportion on bits",
    )


def preferring() -> Fault:
    def p(n: int) -> float:
        return share(n) + (1 - share(n)) / 256

    def make(random: Random, n: int) -> Bytes:
        prefers = random.random(n) < np.minimum(1, np.arange(n) / DEGRADES_SAMPLES)
        return np.where(prefers, 0x5A, random.integers(0, 256, n)).astype(np.uint8)

    def shown(n: int, cutoffs: Cutoffs) -> float:
        return proportion_shows([p(n)], WINDOW_BYTES, cutoffs.byte_proportion)

    return Fault(
        "degrading: one value comes ever more often",
        make,
        lambda cutoffs: after_windows(lambda n: shown(n, cutoffs)),
        lambda n: -math.log2(p(n)),
        "adaptive proportion on bytes",
    )


def sticking() -> Fault:
    def p(n: int) -> float:
        return share(n) + (1 - share(n)) / 256

    def make(random: Random, n: int) -> Bytes:
        sticks = random.random(n) < np.minimum(1, np.arange(n) / DEGRADES_SAMPLES)
        places = np.maximum.accumulate(np.where(sticks, 0, np.arange(n)))
        return random.integers(0, 256, n).astype(np.uint8)[places]

    return Fault(
        "degrading: samples repeat the one before ever more often",
        make,
        lambda cutoffs: after_windows(lambda n: run_shows(p(n), cutoffs.byte_repetition)),
        lambda n: -math.log2(p(n)),
        "repetition count on bytes",
    )


# --- what happens ---------------------------------------------------------------------------


def caught_after(fault: Fault, test_bits: float, seed: int, n_most: int) -> int | None:
    """Samples from the beginning of the fault to the end of the window that fails.

    Perfect noise comes before, so that the fault begins anywhere in a window. None: not caught
    within so many.
    """
    random = np.random.default_rng(seed)
    n_before = STARTUP_BYTES + int(random.integers(0, 4 * WINDOW_BYTES))
    before = random.integers(0, 256, n_before).astype(np.uint8)
    whole = np.concatenate((before, fault.make(random, n_most))).tobytes()
    tests = HealthTests(test_bits)
    for start in range(0, len(whole), WINDOW_BYTES):
        try:
            tests.push(whole[start : start + WINDOW_BYTES])
        except HealthFailure:
            return tests.failed_at + WINDOW_BYTES - n_before
    return None
