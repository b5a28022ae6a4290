"""Faults are caught within what the formulas promise, and perfect noise fails as often as it must.

A short look at what `make health-table` and `make false-alarms` do at length.
"""

from __future__ import annotations

import pytest

from entropy.health import cutoffs

from . import false_alarms
from .faults import Fault, at_least, caught_after, run_shows
from .table import PAGE, PERIODS, TEST_BITS, cutoff_table, faults, interruption_table

CASES = [
    (test_bits, name, same) for test_bits in TEST_BITS for name, same in faults(cutoffs(test_bits))
]


@pytest.mark.parametrize(
    ("test_bits", "name", "same"), CASES, ids=[f"{bits:g}-{name}" for bits, name, _ in CASES]
)
def test_caught_as_promised(test_bits: float, name: str, same: list[Fault]) -> None:
    n_trials = 1 if len(same) > 1 or name.startswith("degrading") else 20
    for fault in same:
        promised = fault.promised(cutoffs(test_bits))
        assert promised is not None
        if promised > 10**6:
            assert (test_bits, name) == (4.0, "biased bits, p = 0.75")
            continue
        for seed in range(n_trials):
            caught = caught_after(fault, test_bits, seed, promised + 1024)
            assert caught is not None
            assert 0 < caught <= promised, fault.name


def test_all_periods_are_there() -> None:
    for test_bits in TEST_BITS:
        named = [fault.name for _, same in faults(cutoffs(test_bits)) for fault in same]
        assert [f"repeating, period {n}" for n in PERIODS] == [
            name for name in named if name.startswith("repeating")
        ]


def test_false_alarms() -> None:
    """10^7 samples; `make false-alarms` takes 10^8 and more."""
    together = false_alarms.measure(10**7)[-1]
    assert together.expected == pytest.approx(38.8, abs=0.1)
    assert abs(together.sigmas) <= false_alarms.SIGMAS


def test_the_formulas_of_these_tests() -> None:
    assert at_least(4, 0.5, 3) == pytest.approx(5 / 16)
    assert at_least(4, 0.5, 0) == pytest.approx(1)
    assert at_least(4, 0.5, 5) == 0
    assert run_shows(1.0, 7) == 1
    # Some two of 512 neighbours are equal.
    assert run_shows(1 / 256, 2) == pytest.approx(1 - (255 / 256) ** 511)
    # A run of two: some sample is equal to the one before.
    assert false_alarms.run_in_window(2, 2, 3) == pytest.approx(7 / 8)
    assert false_alarms.run_in_window(2, 60, 8) == pytest.approx(8 * 2**-60, rel=0.01)


@pytest.mark.parametrize("table", [cutoff_table, interruption_table])
def test_the_page_is_up_to_date(table: object) -> None:
    assert callable(table)
    assert table() in PAGE.read_text()
