"""The words: what is said of which figures, and that no more is said."""

from __future__ import annotations

import numpy as np
import pytest

from entropy.assess.assessment import Assessment
from entropy.assess.verdict import Outcome, Verdict, at_most, judge
from entropy.assess.windows import Windows, look
from entropy.sources.base import Figures

from .noise import draw

CLEAN = look(draw("bytes", 10_240).tobytes(), 7)


def assessed(bits: float, n_samples: int = 10**6, used_bits: int = 8) -> Assessment:
    return Assessment(n_samples, 8, 256, used_bits, (), bits, bits / 8, bits)


def verdict(
    uri: str,
    bits: float,
    credit: float,
    test: float = 7,
    *,
    windows: Windows = CLEAN,
    n_samples: int = 10**6,
    used_bits: int = 8,
) -> Verdict:
    figures = Figures(credit, test, "the maker says so")
    return judge(uri, figures, assessed(bits, n_samples, used_bits), windows)


@pytest.mark.parametrize(
    ("uri", "bits", "credit", "outcome"),
    [
        ("alea:", 7.42, 4, Outcome.NOT_CONTRADICTED),
        ("alea:", 4.0, 4, Outcome.NOT_CONTRADICTED),
        ("alea:", 3.99, 4, Outcome.CONTRADICTED),
        ("alea:", 7.42, 8, Outcome.CONTRADICTED),
        ("file:x", 7.42, 0, Outcome.NOT_CREDITED),
        ("file:x", 0.0, 0, Outcome.NOT_CREDITED),
        ("kernel:", 7.42, 0, Outcome.SAYS_NOTHING),
        ("hwrng:", 7.42, 1, Outcome.SAYS_NOTHING),
        ("jitter:", 7.42, 1, Outcome.SAYS_NOTHING),
        ("jitter:", 0.5, 1, Outcome.CONTRADICTED),
        ("chaoskey:", 7.42, 1, Outcome.SAYS_NOTHING),
        ("chaoskey:serial=x,endpoint=raw", 7.42, 1, Outcome.NOT_CONTRADICTED),
        ("serial:/dev/ttyACM0?model=onerng", 7.42, 1, Outcome.SAYS_NOTHING),
        ("serial:/dev/ttyACM0?model=truerngpro&mode=raw", 7.42, 1, Outcome.NOT_CONTRADICTED),
    ],
)
def test_outcomes(uri: str, bits: float, credit: float, outcome: Outcome) -> None:
    assert verdict(uri, bits, credit, 8).outcome is outcome


@pytest.mark.parametrize("uri", ["alea:", "hwrng:", "file:x"])
@pytest.mark.parametrize("credit", [0, 4])
def test_no_verdict_promises(uri: str, credit: float) -> None:
    """No word that a hurried reader could take for a certificate."""
    told = verdict(uri, 7.42, credit)
    text = " ".join((told.outcome.value, *told.sentences, *told.remarks)).lower()
    for word in ("pass", "valid", "certif", "secure", "proven", "safe", "good", "complian"):
        assert word not in text.replace("contradict", ""), word


def test_figures_are_rounded_down() -> None:
    assert at_most(7.4199) == "7.41"
    assert "no more than 7.41 bits" in verdict("alea:", 7.4199, 4).sentences[0]


def test_the_reason_is_given_back() -> None:
    assert "the maker says so" in " ".join(verdict("alea:", 7.4, 4).sentences)


def test_a_credit_that_nothing_could_support() -> None:
    assert "faultless noise" in " ".join(verdict("alea:", 7.42, 7.9, 8).sentences)
    assert "faultless noise" not in " ".join(verdict("alea:", 4, 5).sentences)


def remarks(told: Verdict) -> str:
    return " ".join(told.remarks)


def test_failed_windows() -> None:
    stuck = look(np.zeros(10_240, dtype=np.uint8).tobytes(), 7)
    told = remarks(verdict("alea:", 0, 4, windows=stuck))
    assert "20 of 20 windows failed" in told
    assert "repetition count" in told
    assert "None of 20 windows failed" in remarks(verdict("alea:", 7.4, 4))


def test_blunt_tests() -> None:
    assert "sharper" in remarks(verdict("alea:", 7.4, 1, 4))
    assert "sharper" not in remarks(verdict("alea:", 7.4, 1, 7))


def test_few_or_narrow_samples() -> None:
    assert "fewer than the 1,000,000" in remarks(verdict("alea:", 7, 4, n_samples=50_000))
    assert "--bits 4" in remarks(verdict("alea:", 3, 1, used_bits=4))
    assert len(verdict("alea:", 7.4, 4).remarks) == 1
