"""The two figures of a source: what may be stated, and what holds when nothing is."""

from __future__ import annotations

import math

import pytest

from entropy.errors import ConfigError
from entropy.sources.base import Figures, StatedFigures

OWN = Figures(1, 4, "its own")


@pytest.mark.parametrize(
    ("credit", "test", "message"),
    [
        (-0.5, 7, "credit_bits_per_byte is -0.5"),
        (8.5, 8, "credit_bits_per_byte is 8.5"),
        (math.nan, 8, "credit_bits_per_byte is nan"),
        (0, 0, "test_bits_per_byte is 0"),
        (0, 9, "test_bits_per_byte is 9"),
        (4, 3, r"test_bits_per_byte \(3\) is below credit_bits_per_byte \(4\)"),
    ],
)
def test_figures_out_of_bounds(credit: float, test: float, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Figures(credit, test, "for this test")


def test_what_is_not_stated_is_the_sources_own() -> None:
    assert StatedFigures().over(OWN) == OWN
    assert StatedFigures(reason="a reason alone changes nothing").over(OWN) == OWN
    assert StatedFigures(2, reason="measured").over(OWN) == Figures(2, 4, "measured")
    assert StatedFigures(None, 6).over(OWN) == Figures(1, 6, "stated by the operator")
    assert StatedFigures(0).over(OWN) == Figures(0, 4, "stated by the operator")


def test_a_stated_credit_lifts_the_test_figure_that_is_not_stated() -> None:
    assert StatedFigures(6, reason="measured").over(OWN) == Figures(6, 6, "measured")
    with pytest.raises(ConfigError, match="is below"):
        StatedFigures(6, 5, "measured").over(OWN)


def test_a_credit_needs_a_reason() -> None:
    with pytest.raises(ConfigError, match="without a reason"):
        StatedFigures(4)
    assert StatedFigures(0).credit_bits_per_byte == 0
