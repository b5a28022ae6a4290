"""All ten estimators over a set of samples, and the figure that follows (SP 800-90B section 3.1.3).

The samples are assessed as they are ("literal") and, unless they are bits already, once more as
the string of their bits, the highest first. The smallest figure of all counts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from entropy.assess.counting import (
    Symbols,
    collision,
    compression,
    markov,
    most_common_value,
)
from entropy.assess.learners import lz78y, multi_mmc
from entropy.assess.predictors import lag, multi_mcw
from entropy.assess.tuples import tuples
from entropy.errors import ConfigError

LEAST_SAMPLES = 10_000  # below this some of the estimators have nothing to work on
FULL_SAMPLES = 1_000_000  # what SP 800-90B section 3.1.1 asks for

# Name and section; in the order of the standard.
_ESTIMATORS = (
    ("Most Common Value", "6.3.1"),
    ("Collision", "6.3.2"),
    ("Markov", "6.3.3"),
    ("Compression", "6.3.4"),
    ("t-Tuple", "6.3.5"),
    ("LRS", "6.3.6"),
    ("MultiMCW", "6.3.7"),
    ("Lag", "6.3.8"),
    ("MultiMMC", "6.3.9"),
    ("LZ78Y", "6.3.10"),
)

Progress = Callable[[int, int, str], None]  # steps done, steps in all, what comes now


class Estimate(NamedTuple):
    """Of one estimator; None where it is not defined, or the data gives none."""

    name: str
    section: str  # of SP 800-90B
    literal_bits: float | None  # min-entropy of a sample
    bitstring_bits: float | None  # min-entropy of one bit of its bitstring


class Assessment(NamedTuple):
    n_samples: int
    sample_bits: int  # the width of a sample
    n_values: int  # how many different ones there are
    used_bits: int  # the width that the largest sample needs
    estimates: tuple[Estimate, ...]
    original_bits: float  # H_original, per sample
    bitstring_bits: float | None  # H_bitstring, per bit; None for samples of two values
    assessed_bits: float  # min(H_original, sample_bits x H_bitstring), per sample


def assess(samples: bytes, sample_bits: int, progress: Progress | None = None) -> Assessment:
    """Assess samples of 1 to 8 bits, one in each byte.

    Raises ConfigError for fewer than 10,000 samples, and for one that is wider than said.
    """
    if len(samples) < LEAST_SAMPLES:
        raise ConfigError(
            f"{len(samples)} samples are too few to assess: {LEAST_SAMPLES:,} at least,"
            f" {FULL_SAMPLES:,} for figures to rely on"
        )
    given: Symbols = np.frombuffer(samples, dtype=np.uint8)
    used_bits = max(1, int(given.max()).bit_length())
    if used_bits > sample_bits:
        raise ConfigError(
            f"a sample is {int(given.max())}, which does not fit in --bits {sample_bits}:"
            f" these samples need {used_bits} bits"
        )
    values, ranks = np.unique(given, return_inverse=True)
    n_values = len(values)
    facts = (len(samples), sample_bits, n_values, used_bits)
    if n_values == 1:
        nothing = tuple(Estimate(name, section, 0.0, None) for name, section in _ESTIMATORS)
        return Assessment(*facts, nothing, 0.0, None, 0.0)

    # The values are numbered from 0, as if those that never came did not exist.
    symbols: Symbols = ranks.astype(np.uint8)
    steps = _Steps(progress, 1 if n_values == 2 else 2)
    literal = _estimates(symbols, "samples", steps)
    bitstring: list[float | None] = [None] * len(_ESTIMATORS)
    original_bits = min(sample_bits, *(bits for bits in literal if bits is not None))
    bitstring_bits, assessed_bits = None, original_bits
    if n_values > 2:
        bits = np.unpackbits(given[:, np.newaxis], axis=1)[:, 8 - sample_bits :].reshape(-1)
        bitstring = _estimates(bits, "bits", steps)
        bitstring_bits = min(1.0, *(bits for bits in bitstring if bits is not None))
        assessed_bits = min(original_bits, sample_bits * bitstring_bits)
    estimates = tuple(
        Estimate(name, section, of_samples, of_bits)
        for (name, section), of_samples, of_bits in zip(_ESTIMATORS, literal, bitstring)
    )
    return Assessment(*facts, estimates, original_bits, bitstring_bits, assessed_bits)


class _Steps:
    """Counts the estimators that are done."""

    def __init__(self, progress: Progress | None, n_rounds: int) -> None:
        self._progress = progress
        self._n_steps = n_rounds * len(_ESTIMATORS)
        self._n_done = 0

    def begin(self, name: str, n_steps: int = 1) -> None:
        if self._progress is not None:
            self._progress(self._n_done, self._n_steps, name)
        self._n_done += n_steps


def _estimates(symbols: Symbols, what: str, steps: _Steps) -> list[float | None]:
    """The ten of one sequence, in the order of the standard."""
    found: list[float | None] = []
    are_bits = int(symbols.max()) == 1

    def run(name: str, estimator: Callable[[Symbols], float]) -> None:
        steps.begin(f"{name}, {what}")
        found.append(estimator(symbols))

    run("Most Common Value", most_common_value)
    for name, for_bits in (
        ("Collision", collision),
        ("Markov", markov),
        ("Compression", compression),
    ):
        if are_bits:
            run(name, for_bits)
        else:
            steps.begin(f"{name}, {what}")
            found.append(None)
    steps.begin(f"t-Tuple and LRS, {what}", 2)
    found.extend(tuples(symbols))
    for name, predictor in (
        ("MultiMCW", multi_mcw),
        ("Lag", lag),
        ("MultiMMC", multi_mmc),
        ("LZ78Y", lz78y),
    ):
        run(name, predictor)
    return found
