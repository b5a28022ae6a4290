"""What is assessed, what is refused, and how the figures come together."""

from __future__ import annotations

import numpy as np
import pytest

from entropy.assess.assessment import Assessment, assess
from entropy.errors import ConfigError

from .noise import draw

N = 10_000


def smallest(assessment: Assessment, figure: str) -> float:
    bits = [getattr(estimate, figure) for estimate in assessment.estimates]
    return min(figure for figure in bits if figure is not None)


def test_the_smallest_figure_counts() -> None:
    assessment = assess(draw("nibbles", N).tobytes(), 4)
    assert assessment.original_bits == smallest(assessment, "literal_bits")
    assert assessment.bitstring_bits == smallest(assessment, "bitstring_bits")
    assert assessment.assessed_bits == min(
        assessment.original_bits, 4 * smallest(assessment, "bitstring_bits")
    )
    defined = [estimate.literal_bits is not None for estimate in assessment.estimates]
    assert defined == [True, False, False, False] + 6 * [True]


def test_two_values_are_bits() -> None:
    """However they are written, and without a bitstring, as in NIST's tool."""
    bits = draw("biased bits", N)
    as_bits = assess(bits.tobytes(), 1)
    as_bytes = assess(np.where(bits == 1, 200, 7).astype(np.uint8).tobytes(), 8)
    assert as_bytes.estimates == as_bits.estimates
    assert as_bytes.assessed_bits == as_bits.assessed_bits
    assert as_bytes.bitstring_bits is None
    assert (as_bytes.n_values, as_bytes.used_bits) == (2, 8)


def test_values_that_never_come_do_not_count() -> None:
    symbols = draw("three", N)
    few = assess(symbols.tobytes(), 8)
    spread = assess((symbols * 100).astype(np.uint8).tobytes(), 8)
    assert [e.literal_bits for e in few.estimates] == [e.literal_bits for e in spread.estimates]


def test_equal_samples_hold_nothing() -> None:
    assessment = assess(bytes(N), 8)
    assert (assessment.assessed_bits, assessment.n_values) == (0, 1)


def test_too_few() -> None:
    with pytest.raises(ConfigError, match="9999 samples are too few"):
        assess(bytes(N - 1), 8)


def test_too_wide() -> None:
    with pytest.raises(ConfigError, match="a sample is 15, which does not fit in --bits 3"):
        assess(draw("nibbles", N).tobytes(), 3)


def test_progress_is_told() -> None:
    told: list[tuple[int, int, str]] = []
    assess(draw("nibbles", N).tobytes(), 4, lambda *step: told.append(step))
    done = [step[0] for step in told]
    assert done == sorted(done)
    assert {step[1] for step in told} == {20}
    assert told[0][2] == "Most Common Value, samples"
    assert told[-1] == (19, 20, "LZ78Y, bits")
