"""When the client draws next: whatever brokers answer, never in a tight loop."""

from __future__ import annotations

from typing import Union

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entropy.client_pace import (
    CLONE_PAUSE_SECONDS,
    LONGEST_BACKOFF_SECONDS,
    LONGEST_INTERVAL_SECONDS,
    Fed,
    Nothing,
    Pace,
    backoff_seconds,
    spread,
)
from entropy.wire.codes import DrawKind

Outcome = Union[Fed, Nothing]
SEED, TOPUP = DrawKind.SEED, DrawKind.TOPUP

# What a broker may say is bounded by nothing but the widths of its fields.
FED = st.builds(Fed, st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
WORTHY = st.builds(Fed, st.integers(1, 448), st.integers(0, 2**32 - 1))
NOTHING = st.builds(Nothing, st.floats(0, 2**32 / 1000))
OUTCOMES = st.lists(st.one_of(FED, NOTHING), max_size=40)


@given(OUTCOMES)
def test_every_wait_is_bounded_on_both_sides(outcomes: list[Outcome]) -> None:
    pace = Pace()
    for outcome in outcomes:
        wait_seconds = pace.after(outcome)
        if isinstance(outcome, Nothing):
            assert 1 <= wait_seconds <= 1.2 * LONGEST_BACKOFF_SECONDS
        else:
            assert 0.8 <= wait_seconds <= 1.2 * LONGEST_INTERVAL_SECONDS


@given(st.lists(NOTHING, min_size=10, max_size=300))
def test_failures_become_rare(outcomes: list[Nothing]) -> None:
    """So many failures in a row take no less than this, whatever the brokers said."""
    pace = Pace()
    total_seconds = sum(pace.after(outcome) for outcome in outcomes)
    doubled = [min(2.0**n, LONGEST_BACKOFF_SECONDS / 2) for n in range(len(outcomes))]
    assert total_seconds >= sum(doubled)


@given(st.lists(NOTHING, max_size=20), st.floats(0, LONGEST_BACKOFF_SECONDS))
def test_a_broker_is_left_alone_for_as_long_as_it_said(
    failures: list[Nothing], after_seconds: float
) -> None:
    pace = Pace()
    for failure in failures:
        pace.after(failure)
    assert pace.after(Nothing(after_seconds)) >= after_seconds


@given(OUTCOMES)
def test_a_seed_is_due_until_one_was_worth_something(outcomes: list[Outcome]) -> None:
    pace, seeded = Pace(), False
    for outcome in outcomes:
        assert pace.kind is (TOPUP if seeded else SEED)
        pace.after(outcome)
        seeded = seeded or (isinstance(outcome, Fed) and outcome.credit_bits > 0)


@given(OUTCOMES, WORTHY)
def test_success_ends_the_back_off(outcomes: list[Outcome], worthy: Fed) -> None:
    pace = Pace()
    for outcome in outcomes:
        pace.after(outcome)
    pace.after(worthy)
    assert pace.failures == 0
    assert pace.after(Nothing(0)) <= 2


@given(st.lists(st.floats(0, 100), min_size=1, max_size=50))
def test_a_faulty_sign_of_clones_is_no_tight_loop(gaps_seconds: list[float]) -> None:
    """Each sign is answered by a seed, the first at once; never two within the pause."""
    pace, now, drawn = Pace(), 1000.0, []
    for gap_seconds in gaps_seconds:
        now += gap_seconds
        now += pace.cloned(now)  # it waits so long, then draws
        drawn.append(now)
        assert pace.kind is SEED
        pace.after(Fed(448, 600))
    assert drawn[0] == 1000.0 + gaps_seconds[0]
    pauses = [later - sooner for sooner, later in zip(drawn, drawn[1:])]
    assert all(pause >= CLONE_PAUSE_SECONDS - 1e-6 for pause in pauses)


def test_back_off_doubles_and_stays_within_bounds() -> None:
    for failures in (1, 2, 5, 100, 10**6):
        longest = min(2.0 * 2.0 ** min(failures - 1, 30), 300)
        for _ in range(20):
            assert longest / 2 <= backoff_seconds(failures) <= longest
    assert len({backoff_seconds(50) for _ in range(10)}) > 1


def test_intervals_are_spread() -> None:
    drawn = [spread(600) for _ in range(200)]
    assert all(480 <= seconds <= 720 for seconds in drawn)
    assert max(drawn) - min(drawn) > 60


def test_jitter_without_a_ready_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("entropy.kernel.random_bytes", lambda _: b"")
    assert all(480 <= spread(600) <= 720 for _ in range(20))
