"""Token buckets against a clock that the tests turn."""

from __future__ import annotations

import pytest

from entropy.broker.limits import TokenBucket


@pytest.mark.parametrize(
    ("rate", "burst", "steps"),
    [
        # each step: at second, asks for n, has to wait so many seconds
        (64, 128, [(0, 128, 0), (0, 64, 1), (1, 64, 0), (1, 1, 1 / 64)]),
        (64, 128, [(0, 64, 0), (100, 128, 0), (100, 32, 0.5)]),  # never more than the burst
        (10, 10, [(0, 10, 0), (0.5, 10, 0.5), (1.0, 10, 0)]),
        (10, 10, [(0, 11, float("inf"))]),
        (0, 0, [(0, 1, float("inf")), (1000, 1, float("inf"))]),
        (0, 5, [(0, 5, 0), (1000, 1, float("inf"))]),
    ],
)
def test_steps(rate: int, burst: int, steps: list[tuple[float, int, float]]) -> None:
    bucket = TokenBucket(rate, burst, 0)
    for now, n, wait_seconds in steps:
        assert bucket.wait_seconds(n, now) == pytest.approx(wait_seconds)
        if wait_seconds == 0:
            bucket.take(n, now)


def test_a_caller_that_waits_as_told_gets_exactly_its_rate() -> None:
    bucket = TokenBucket(64, 4096, 0)
    now, taken = 0.0, 0
    while now < 1000:
        wait_seconds = bucket.wait_seconds(48, now)
        if wait_seconds:
            now += wait_seconds
        else:
            bucket.take(48, now)
            taken += 48
    assert taken == pytest.approx(4096 + 1000 * 64, abs=48)


def test_a_clock_that_stands_or_goes_back_gives_nothing() -> None:
    bucket = TokenBucket(64, 64, 10)
    bucket.take(64, 10)
    assert bucket.available(10) == bucket.available(3) == 0


def test_changed_limits_keep_what_was_taken() -> None:
    bucket = TokenBucket(64, 100, 0)
    bucket.take(90, 0)
    bucket.change(64, 100, 0)
    assert bucket.available(0) == 10
    bucket.change(10, 200, 0)
    assert bucket.available(0) == 110
    bucket.change(10, 50, 0)
    assert bucket.available(0) == 0
    assert bucket.wait_seconds(10, 0) == pytest.approx(5)  # 90 of 50 are taken
