"""What the estimators are built from: suffixes, tuple counts, scores, runs and windows."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from entropy.assess import scoreboard
from entropy.assess.followers import best_before
from entropy.assess.predictors import commonest_of_bits, commonest_of_symbols
from entropy.assess.scoreboard import Scoreboard, longest_run, prediction_estimate
from entropy.assess.suffixes import sort_suffixes
from entropy.assess.tuples import count_tuples

texts = st.one_of(
    st.lists(st.integers(0, 1), min_size=64, max_size=120),
    st.lists(st.integers(0, 255), min_size=64, max_size=120),
    # with repetitions longer than a number holds
    st.tuples(st.lists(st.integers(0, 2), min_size=1, max_size=12), st.integers(64, 120)).map(
        lambda pair: (pair[0] * pair[1])[: pair[1]]
    ),
    st.tuples(st.lists(st.integers(0, 1), min_size=80, max_size=90), st.integers(0, 1)).map(
        lambda pair: [*pair[0], pair[1], *pair[0], *pair[0]]
    ),
).map(bytes)


@given(texts)
def test_suffixes_are_in_order(text: bytes) -> None:
    suffixes = sort_suffixes(np.frombuffer(text, dtype=np.uint8))
    in_order = sorted(range(len(text)), key=lambda i: text[i:])
    assert suffixes.order.tolist() == in_order
    common = [0]
    for before, after in zip(in_order, in_order[1:]):
        pairs = enumerate(zip(text[before:], text[after:]))
        shorter = len(text) - max(before, after)
        common.append(next((n for n, (a, b) in pairs if a != b), shorter))
    assert suffixes.common.tolist() == common


@given(texts)
def test_tuples_are_counted(text: bytes) -> None:
    counts = count_tuples(sort_suffixes(np.frombuffer(text, dtype=np.uint8)).common.tolist())
    for length in range(1, len(counts.commonest) + 2):
        numbers = Counter(text[i : i + length] for i in range(len(text) - length + 1)).values()
        if length > len(counts.commonest):
            assert max(numbers, default=1) == 1
        else:
            assert counts.commonest[length - 1] == max(numbers)
            assert counts.equal_pairs[length - 1] == sum(n * (n - 1) // 2 for n in numbers)


@given(
    st.integers(1, 5).flatmap(
        lambda n: st.lists(st.lists(st.booleans(), min_size=n, max_size=n), min_size=1)
    ),
    st.integers(1, 7),
)
def test_who_is_believed(steps: list[list[bool]], block_steps: int) -> None:
    n_predictors = len(steps[0])
    scores, winner, winners = [0] * n_predictors, 0, []
    for hits in steps:
        winners.append(winner)
        for j, hit in enumerate(hits):
            scores[j] += hit
            if hit and scores[j] >= scores[winner]:
                winner = j
    board = Scoreboard(n_predictors)
    blocks = np.array(steps).T
    believed = [
        who
        for start in range(0, len(steps), block_steps)
        for who in board.believed(blocks[:, start : start + block_steps]).tolist()
    ]
    assert believed == winners


@given(st.lists(st.booleans()))
def test_longest_run(right: list[bool]) -> None:
    text = "".join("x" if hit else " " for hit in right)
    assert longest_run(np.array(right, dtype=np.bool_)) == max(map(len, text.split(" ")))


@given(st.lists(st.integers(0, 4), min_size=10, max_size=80), st.sampled_from([3, 7]))
def test_the_commonest_of_a_window(values: list[int], window: int) -> None:
    for highest, commonest in ((4, commonest_of_symbols), (1, commonest_of_bits)):
        symbols = np.minimum(values, highest).astype(np.uint8)
        text = symbols.tobytes()
        expected = []
        for end in range(window, len(text)):
            seen = text[end - window : end]
            most = max(map(seen.count, seen))
            expected.append(next(x for x in reversed(seen) if seen.count(x) == most))
        assert commonest(symbols, window).tolist() == expected


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.booleans()), min_size=1),
    st.booleans(),
)
def test_what_followed_most_often(events: list[tuple[int, int, bool]], are_bits: bool) -> None:
    codes = np.array([code for code, _, _ in events])
    followers = np.array([value & (1 if are_bits else 3) for _, value, _ in events], dtype=np.uint8)
    counted = np.array([counts for _, _, counts in events])
    best = best_before(codes, 4, followers, counted)
    so_far: dict[int, Counter[int]] = {code: Counter() for code in range(4)}
    for i, (code, value, counts) in enumerate(zip(codes, followers, counted)):
        times = max(so_far[code].values(), default=0)
        assert best.times[i] == times
        if times:
            assert best.symbol[i] == max(v for v, n in so_far[code].items() if n == times)
        so_far[code][int(value)] += bool(counts)


def no_run(p: float, run: int, n_trials: int) -> float:
    """The probability of no `run` of successes in so many trials, state by state."""
    states = [1.0] + [0.0] * (run - 1)  # by how many successes came last
    for _ in range(n_trials):
        states = [sum(states) * (1 - p), *(p * state for state in states[:-1])]
    return sum(states)


@pytest.mark.parametrize(
    ("p", "run", "n_trials"),
    [(0.5, 10, 1000), (0.5, 21, 5000), (0.9, 60, 2000), (0.99, 900, 3000), (0.02, 3, 4000)],
)
def test_runs_by_the_formula_and_by_counting(p: float, run: int, n_trials: int) -> None:
    log = scoreboard._log_no_run(p, run, n_trials)
    assert math.exp(log) == pytest.approx(no_run(p, run, n_trials), abs=1e-6)


def test_a_long_run_counts_more_than_few_hits() -> None:
    """500 of 1000 right: half a bit's worth by their number, far less with 200 in a row."""
    by_number = prediction_estimate(500, 1000, 9, 2)
    by_run = prediction_estimate(500, 1000, 200, 2)
    assert by_number == pytest.approx(-math.log2(0.5 + 2.5758293 * math.sqrt(0.25 / 999)), abs=1e-6)
    p = 2**-by_run
    assert no_run(p, 201, 1000) == pytest.approx(0.99, abs=1e-3)


def test_predictors_that_are_never_or_always_right() -> None:
    assert prediction_estimate(0, 1000, 0, 256) == pytest.approx(-math.log2(1 - 0.01 ** (1 / 1000)))
    assert prediction_estimate(0, 10**6, 0, 256) == 8  # no better than a guess
    assert prediction_estimate(1000, 1000, 1000, 2) == 0
