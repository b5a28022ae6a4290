"""Each estimator against a slow and plain one, on small samples of several characters."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from entropy.assess import counting, learners, predictors
from entropy.assess.counting import Symbols
from entropy.assess.scoreboard import prediction_estimate
from entropy.assess.tuples import tuples

from . import plain
from .noise import BITS, OTHERS, draw

N = 5000


def close(value: float | None) -> object:
    return value if value is None else pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize("kind", BITS + OTHERS)
def test_most_common_value(kind: str) -> None:
    symbols = draw(kind, N)
    assert counting.most_common_value(symbols) == close(plain.most_common_value(symbols.tobytes()))


@pytest.mark.parametrize("kind", BITS)
@pytest.mark.parametrize("estimator", ["collision", "markov", "compression"])
def test_of_bits(estimator: str, kind: str) -> None:
    bits = draw(kind, 7000)
    ours: Callable[[Symbols], float] = getattr(counting, estimator)
    theirs: Callable[[bytes], float] = getattr(plain, estimator)
    assert ours(bits) == close(theirs(bits.tobytes()))


@pytest.mark.parametrize("tail", ["", "0", "1", "01", "10", "011", "0110"])
def test_where_the_last_collision_ends(tail: str) -> None:
    bits = np.append(draw("bits", 1000), [int(bit) for bit in tail]).astype(np.uint8)
    assert counting.collision(bits) == close(plain.collision(bits.tobytes()))


def test_bits_that_no_bias_explains() -> None:
    """NIST's tool then says 1: the mean wait is longer than that of perfect bits."""
    alternating = np.resize(np.array([0, 1], dtype=np.uint8), 7000)
    assert counting.collision(alternating) == plain.collision(alternating.tobytes()) == 1
    assert counting.markov(alternating) == close(plain.markov(alternating.tobytes()))


@pytest.mark.parametrize("kind", BITS + OTHERS)
def test_tuples(kind: str) -> None:
    symbols = draw(kind, 1200)
    t_tuple, longest = plain.tuples(symbols.tobytes())
    assert tuples(symbols) == (close(t_tuple), close(longest))


@pytest.mark.parametrize("kind", ["biased bits", "heavy bytes", "three", "period", "walk"])
@pytest.mark.parametrize("predictor", ["multi_mcw", "lag"])
def test_predictors(predictor: str, kind: str) -> None:
    symbols = draw(kind, 4400)
    right, n_guesses, run = getattr(plain, predictor)(symbols.tobytes())
    expected = prediction_estimate(right, n_guesses, run, int(symbols.max()) + 1)
    assert getattr(predictors, predictor)(symbols) == close(expected)


@pytest.mark.parametrize("kind", BITS + OTHERS)
@pytest.mark.parametrize("room", [100_000, 1_500])
@pytest.mark.parametrize("learner", ["multi_mmc", "lz78y"])
def test_learners(learner: str, room: int, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With room in the tables, and with tables that are soon full."""
    monkeypatch.setattr(learners, "_MMC_ENTRIES", room)
    monkeypatch.setattr(learners, "_LZ78Y_CONTEXTS", room)
    symbols = draw(kind, 2400)
    right, n_guesses, run = getattr(plain, learner)(symbols.tobytes(), room)
    expected = prediction_estimate(right, n_guesses, run, int(symbols.max()) + 1)
    assert getattr(learners, learner)(symbols) == close(expected)
