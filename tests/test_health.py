"""The health tests: exact cutoffs, faults caught in time, no byte of a failing window let out."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from fractions import Fraction

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from entropy.errors import ConfigError, HealthFailure
from entropy.health import (
    STARTUP_BYTES,
    WINDOW_BYTES,
    HealthTests,
    critical_binomial,
    cutoffs,
    proportion_cutoff,
    repetition_cutoff,
)


def noise(n_bytes: int, seed: str = "noise") -> bytes:
    """Bytes that look perfect and are the same each time."""
    return hashlib.shake_256(seed.encode()).digest(n_bytes)


def biased_noise(n_bytes: int, ones: Fraction, seed: str = "biased") -> bytes:
    """Independent bits, each one with probability `ones` (in 256ths)."""
    threshold = int(256 * ones)
    digits = noise(8 * n_bytes, seed).translate(b"1" * threshold + b"0" * (256 - threshold))
    return int(digits, 2).to_bytes(n_bytes, "big")


# --- cutoffs ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("exponent", "n_samples", "bits", "repetition", "proportion"),
    [
        # alpha 2^-20
        (20, 1024, 1, 21, 589),
        (20, 512, 8, 4, 13),
        (20, 512, 7, 4, 18),
        (20, 512, 4, 6, 62),
        # alpha 2^-30
        (30, 1024, 1, 31, 609),
        (30, 512, 8, 5, 16),
        (30, 512, 7, 6, 22),
        (30, 512, 4, 9, 71),
        # alpha 2^-40
        (40, 1024, 1, 41, 625),
        (40, 512, 8, 6, 19),
        (40, 512, 7, 7, 26),
        (40, 512, 4, 11, 78),
    ],
)
def test_published_cutoffs(
    exponent: int, n_samples: int, bits: float, repetition: int, proportion: int
) -> None:
    assert repetition_cutoff(Fraction(bits), exponent) == repetition
    assert proportion_cutoff(n_samples, Fraction(bits), exponent) == proportion


@given(
    st.integers(1, 120),
    st.integers(1, 63).map(lambda n: Fraction(n, 64)),
    st.integers(1, 60),
)
def test_critical_binomial_is_the_smallest_that_holds(
    n_trials: int, success: Fraction, exponent: int
) -> None:
    def above(k: int) -> Fraction:
        return Fraction(0) + sum(
            math.comb(n_trials, i) * success**i * (1 - success) ** (n_trials - i)
            for i in range(k + 1, n_trials + 1)
        )

    k = critical_binomial(n_trials, success, exponent)
    alpha = Fraction(1, 2**exponent)
    assert above(k) <= alpha
    assert k == 0 or above(k - 1) > alpha


@given(st.floats(0.1, 8), st.sampled_from([20, 30, 40, 60]))
def test_repetition_cutoff_by_its_definition(bits: float, exponent: int) -> None:
    """C - 1 repeats of the likeliest value have probability alpha at most, C - 2 more than it."""
    c = repetition_cutoff(Fraction(bits), exponent)
    assert (c - 1) * Fraction(bits) >= exponent
    assert (c - 2) * Fraction(bits) < exponent


def test_bits_share_the_min_entropy_of_their_byte() -> None:
    assert cutoffs(8.0).bit_repetition == 41
    assert cutoffs(8.0).bit_proportion == 625
    assert cutoffs(4.0).bit_repetition == 81  # half a bit each


@pytest.mark.parametrize("bits", [0.0, 0.05, -1.0, 8.1, math.nan])
def test_a_figure_that_no_test_can_be_cut_from(bits: float) -> None:
    with pytest.raises(ConfigError, match="test_bits_per_byte is"):
        cutoffs(bits)


@pytest.mark.parametrize("bits", [0.1, 0.5, 1.0, 3.3, 7.0, 8.0])
def test_every_allowed_figure_gives_tests_that_a_stuck_source_fails(bits: float) -> None:
    with pytest.raises(HealthFailure):
        HealthTests(bits).push(bytes(2 * STARTUP_BYTES))


# --- against the standard's own words ----------------------------------------------------------


def book_repetition(samples: Sequence[int], cutoff: int) -> int | None:
    """SP 800-90B 4.4.1 step by step: the index of the sample that fails, or None."""
    a, b = samples[0], 1
    for index in range(1, len(samples)):
        if samples[index] == a:
            b += 1
            if b >= cutoff:
                return index
        else:
            a, b = samples[index], 1
    return None


def book_proportion(samples: Sequence[int], cutoff: int, window: int) -> int | None:
    """SP 800-90B 4.4.2 step by step: the index of the sample that fails, or None."""
    for start in range(0, len(samples) - window + 1, window):
        a, b = samples[start], 1
        for index in range(start + 1, start + window):
            if samples[index] == a:
                b += 1
                if b >= cutoff:
                    return index
    return None


def bits_of(samples: bytes) -> list[int]:
    return [sample >> place & 1 for sample in samples for place in range(7, -1, -1)]


def book_failing_window(samples: bytes, test_bits: float) -> int | None:
    """The number of the first window that any of NIST's four tests fails in, or None."""
    cut = cutoffs(test_bits)
    bits = bits_of(samples)
    failing_bytes = [
        book_repetition(samples, cut.byte_repetition),
        book_proportion(samples, cut.byte_proportion, 512),
    ]
    failing_bits = [
        book_repetition(bits, cut.bit_repetition),
        book_proportion(bits, cut.bit_proportion, 1024),
    ]
    windows = [i // WINDOW_BYTES for i in failing_bytes if i is not None]
    windows += [i // 8 // WINDOW_BYTES for i in failing_bits if i is not None]
    return min(windows, default=None)


def failing_window(samples: bytes, test_bits: float) -> int | None:
    tests = HealthTests(test_bits)
    try:
        tests.push(samples)
    except HealthFailure:
        return tests.failed_at // WINDOW_BYTES
    return None


PATCHES = st.one_of(
    st.tuples(st.just("run"), st.integers(1, 60), st.integers(0, 255)),
    st.tuples(st.just("bit run"), st.integers(1, 130), st.integers(0, 1)),
    st.tuples(st.just("sprinkle"), st.integers(1, 120), st.integers(0, 255)),
)


@given(
    st.integers(0, 10_000),
    st.sampled_from([4.0, 7.0, 7.5, 8.0]),
    st.integers(0, 8 * 4 * WINDOW_BYTES - 1),
    PATCHES,
)
@example(0, 7.0, 8 * (2 * WINDOW_BYTES - 3), ("run", 7, 0))  # across a boundary, at the cutoff
@example(0, 7.0, 8 * (2 * WINDOW_BYTES - 3), ("run", 6, 0))
@example(0, 8.0, 8 * WINDOW_BYTES - 20, ("bit run", 41, 1))
@example(0, 8.0, 8 * WINDOW_BYTES - 20, ("bit run", 40, 1))
def test_the_same_verdict_as_the_standard_step_by_step(
    seed: int, test_bits: float, place_bits: int, patch: tuple[str, int, int]
) -> None:
    samples = bytearray(noise(4 * WINDOW_BYTES, str(seed)))
    kind, count, value = patch
    place = place_bits // 8
    if kind == "run":
        samples[place : place + count] = bytes([value]) * len(samples[place : place + count])
    elif kind == "bit run":
        bits = bits_of(bytes(samples))
        bits[place_bits : place_bits + count] = [value] * len(bits[place_bits:][:count])
        samples = bytearray(int("".join(map(str, bits)), 2).to_bytes(len(samples), "big"))
    else:  # one value again and again over a window, never twice in a row
        start = place - place % WINDOW_BYTES
        samples[start] = value
        for i in range(1, count):
            samples[start + 4 * i] = value
    patched = bytes(samples[: 4 * WINDOW_BYTES])
    assert failing_window(patched, test_bits) == book_failing_window(patched, test_bits)


# --- at each cutoff, and one below it -----------------------------------------------------------


def judged(window: bytes, test_bits: float) -> str:
    """What is said of a window after a clean start; "" when nothing is."""
    tests = HealthTests(test_bits)
    tests.push(noise(STARTUP_BYTES, "start-up") + noise(WINDOW_BYTES, "before"))
    try:
        tests.push(window)
    except HealthFailure as failure:
        return str(failure).split(": ")[1]
    return ""


@pytest.mark.parametrize("test_bits", [4.0, 7.0, 8.0])
@pytest.mark.parametrize("value", [0, 1])
def test_a_run_of_bits_at_the_cutoff(test_bits: float, value: int) -> None:
    c = cutoffs(test_bits).bit_repetition
    for n_equal, said in ((c - 1, ""), (c, "repetition count on bits")):
        bits = bits_of(noise(WINDOW_BYTES))
        bits[1003 : 1003 + n_equal + 2] = [1 - value, *[value] * n_equal, 1 - value]
        window = int("".join(map(str, bits)), 2).to_bytes(WINDOW_BYTES, "big")
        assert judged(window, test_bits) == said


@pytest.mark.parametrize("test_bits", [4.0, 7.0, 8.0])
def test_the_share_of_a_byte_at_the_cutoff(test_bits: float) -> None:
    c = cutoffs(test_bits).byte_proportion
    for count, said in ((c - 1, ""), (c, "adaptive proportion on bytes")):
        window = bytearray(noise(WINDOW_BYTES).replace(b"\x6a", b"\x95"))
        window[: 4 * count : 4] = b"\x6a" * count
        assert judged(bytes(window), test_bits) == said


@pytest.mark.parametrize("part", range(4))
@pytest.mark.parametrize("value", [0, 1])
def test_the_share_of_a_bit_at_the_cutoff(part: int, value: int) -> None:
    c = cutoffs(8.0).bit_proportion
    for count, said in ((c - 1, ""), (c, "adaptive proportion on bits")):
        bits = bits_of(noise(WINDOW_BYTES))
        first = 1024 * part
        bits[first] = value
        places = [p for p in range(first, first + 1024) if bits[p] != value]
        for place in places[:: max(1, len(places) // (count - 1024 + len(places)))]:
            if bits[first : first + 1024].count(value) < count:
                bits[place] = value
        assert bits[first : first + 1024].count(value) == count
        window = int("".join(map(str, bits)), 2).to_bytes(WINDOW_BYTES, "big")
        assert judged(window, 8.0) == said


def test_a_run_does_not_go_on_over_a_restart() -> None:
    """The device was opened anew: what it said before has nothing to do with what it says now."""
    c = cutoffs(7.0).byte_repetition
    tests = HealthTests(7.0)
    tests.push(noise(STARTUP_BYTES - c + 1) + b"\x55" * (c - 1))
    tests.restart()
    assert tests.push(b"\x55" + noise(WINDOW_BYTES)) == b""
    assert tests.position == STARTUP_BYTES + WINDOW_BYTES


# --- faults are caught in time -----------------------------------------------------------------


def bytes_until_caught(
    before: bytes, fault: bytes, test_bits: float, chunk_bytes: int = 97
) -> int | None:
    """How many bytes of the fault were handed in when the test failed."""
    tests = HealthTests(test_bits)
    assert len(tests.push(before)) <= len(before) - STARTUP_BYTES
    for start in range(0, len(fault), chunk_bytes):
        try:
            tests.push(fault[start : start + chunk_bytes])
        except HealthFailure:
            return start + chunk_bytes
    return None


@given(st.integers(0, 3 * WINDOW_BYTES), st.integers(0, 255), st.sampled_from([1.0, 4.0, 7.0, 8.0]))
def test_a_stuck_source_is_caught_when_the_window_of_the_cutoff_closes(
    n_good: int, value: int, test_bits: float
) -> None:
    before = noise(STARTUP_BYTES + n_good)
    caught = bytes_until_caught(before, bytes([value]) * 4096, test_bits, chunk_bytes=1)
    c = cutoffs(test_bits).byte_repetition
    end = len(before) + min(c, -(-cutoffs(test_bits).bit_repetition // 8) + 1)
    window_end = -(-end // WINDOW_BYTES) * WINDOW_BYTES
    assert caught is not None
    assert len(before) + caught <= window_end


@settings(max_examples=50)
@given(st.integers(0, WINDOW_BYTES), st.integers(0, 1000), st.booleans())
def test_bits_at_three_to_one_are_caught_within_five_windows(
    n_good: int, seed: int, high: bool
) -> None:
    """p = 0.75 gives 768 +- 14 of 1024 bits; the cutoff is 670.

    A part whose first bit is the rarer value does not see it (SP 800-90B counts the first), so
    each window of four parts misses it with probability 1/256, and five with 10^-12.
    """
    share = Fraction(3, 4) if high else Fraction(1, 4)
    before = noise(STARTUP_BYTES + n_good)
    fault = biased_noise(6 * WINDOW_BYTES, share, str(seed))
    caught = bytes_until_caught(before, fault, 7.0)
    assert caught is not None
    assert caught <= 6 * WINDOW_BYTES  # the one that it begins in, and five


@given(st.integers(0, WINDOW_BYTES), st.integers(1, 480), st.integers(0, 1000))
def test_a_repeating_buffer_is_caught_when_the_first_window_of_it_closes(
    n_good: int, period: int, seed: int
) -> None:
    before = noise(STARTUP_BYTES + n_good)
    buffer = noise(period, f"buffer {seed}")
    fault = (buffer * (4 * WINDOW_BYTES // period + 1))[: 4 * WINDOW_BYTES]
    caught = bytes_until_caught(before, fault, 7.0, chunk_bytes=1)
    assert caught is not None
    assert caught <= 2 * WINDOW_BYTES


@pytest.mark.parametrize("period_bits", range(2, 65))
def test_repeating_bits_are_caught_too(period_bits: int) -> None:
    bits = bits_of(noise(period_bits // 8 + 1, f"{period_bits}"))[:period_bits]
    n_bits = 8 * 2 * WINDOW_BYTES
    text = "".join(map(str, bits)) * (n_bits // period_bits + 1)
    fault = int(text[:n_bits], 2).to_bytes(2 * WINDOW_BYTES, "big")
    assert bytes_until_caught(noise(STARTUP_BYTES), fault, 7.0) is not None


def test_good_samples_raise_no_alarm() -> None:
    for test_bits in (1.0, 4.0, 7.0, 8.0):
        tests = HealthTests(test_bits)
        samples = noise(4 * 2**20)
        assert tests.push(samples) == samples[STARTUP_BYTES:]


def test_what_the_tests_cannot_see_they_let_pass() -> None:
    """A lower figure is a blunter test: three to one is fine at 0.41 bits for each bit."""
    samples = biased_noise(8 * WINDOW_BYTES, Fraction(3, 4))
    assert len(HealthTests(8 * 0.41).push(samples)) == len(samples) - STARTUP_BYTES


# --- what comes out ----------------------------------------------------------------------------


@given(
    st.binary(min_size=1, max_size=16),
    st.lists(st.integers(1, 1500), min_size=1, max_size=30),
    st.integers(0, 6 * WINDOW_BYTES),
    st.integers(60, 600),
)
def test_no_byte_of_a_failing_window_gets_out(
    seed: bytes, chunk_sizes: list[int], place: int, n_stuck: int
) -> None:
    """However the reads fall, what comes out is whole windows before the failing one."""
    good = noise(STARTUP_BYTES + 8 * WINDOW_BYTES, seed.hex())
    place += STARTUP_BYTES
    samples = (good[:place] + bytes(n_stuck) + good[place:])[: len(good)]
    tests = HealthTests(7.0)
    out, handed_in, failed = b"", 0, False
    sizes = iter(chunk_sizes * (len(samples) // sum(chunk_sizes) + 1))
    while handed_in < len(samples) and not failed:
        chunk = samples[handed_in : handed_in + next(sizes)]
        handed_in += len(chunk)
        try:
            out += tests.push(chunk)
        except HealthFailure:
            failed = True
    assert failed
    assert tests.failed_at <= place + 7
    assert tests.failed_at + WINDOW_BYTES > place
    assert len(out) % WINDOW_BYTES == 0
    assert STARTUP_BYTES + len(out) <= tests.failed_at
    assert out == samples[STARTUP_BYTES : STARTUP_BYTES + len(out)]
    # And after it nothing, until a whole start-up test has passed.
    assert not tests.started
    more = noise(STARTUP_BYTES + WINDOW_BYTES, "after")
    assert tests.push(more[: STARTUP_BYTES + WINDOW_BYTES - 1]) == b""
    assert tests.push(more[-1:]) == more[STARTUP_BYTES:]


def test_the_open_window_stays_inside() -> None:
    tests = HealthTests(7.0)
    samples = noise(STARTUP_BYTES + 2 * WINDOW_BYTES - 1)
    assert tests.push(samples) == samples[STARTUP_BYTES : STARTUP_BYTES + WINDOW_BYTES]
    assert tests.restart() == WINDOW_BYTES - 1
    assert not tests.started


def test_a_failing_start_up_says_so_and_starts_over() -> None:
    tests = HealthTests(7.0)
    with pytest.raises(HealthFailure, match=r"^start-up test failed: repetition count on bytes"):
        tests.push(bytes(600))
    assert tests.failed_in_startup
    samples = noise(STARTUP_BYTES + WINDOW_BYTES)
    assert tests.push(samples) == samples[STARTUP_BYTES:]


@given(st.integers(1, 3000))
def test_when_it_failed_does_not_hang_on_the_sizes_of_reads(chunk_bytes: int) -> None:
    tests = HealthTests(7.0)
    samples = noise(STARTUP_BYTES) + bytes(WINDOW_BYTES)
    chunks = (samples[i : i + chunk_bytes] for i in range(0, len(samples), chunk_bytes))
    with pytest.raises(HealthFailure, match=r"^health test failed"):
        list(map(tests.push, chunks))
    assert not tests.failed_in_startup


def test_positions_count_every_byte_once() -> None:
    tests = HealthTests(7.0)
    tests.push(noise(STARTUP_BYTES + WINDOW_BYTES + 10))
    assert tests.position == STARTUP_BYTES + WINDOW_BYTES
    tests.restart()
    assert tests.position == STARTUP_BYTES + WINDOW_BYTES + 10
    with pytest.raises(HealthFailure):
        tests.push(noise(WINDOW_BYTES) + bytes(WINDOW_BYTES + 100))
    assert tests.failed_at == STARTUP_BYTES + 2 * WINDOW_BYTES + 10
    assert tests.failed_in_startup
    assert tests.position == STARTUP_BYTES + 3 * WINDOW_BYTES + 110


def test_how_far_back_a_fault_may_have_begun() -> None:
    assert HealthTests(7.0).lookback_bytes == WINDOW_BYTES
    assert HealthTests(0.1).lookback_bytes == WINDOW_BYTES
    assert HealthTests(0.1, 60).lookback_bytes >= 601  # 60 bits at a tenth of a bit each


# --- what chance cannot explain ----------------------------------------------------------------


@pytest.mark.parametrize("test_bits", [4.0, 7.0, 8.0])
def test_a_failure_is_permanent_from_the_cutoffs_of_2_60_on(test_bits: float) -> None:
    intermittent = cutoffs(test_bits).byte_repetition
    permanent = cutoffs(test_bits, 60).byte_repetition
    assert intermittent < permanent
    for n_equal in range(intermittent, permanent + 2):
        tests = HealthTests(test_bits)
        samples = bytearray(noise(STARTUP_BYTES + WINDOW_BYTES))
        samples[-300 : -300 + n_equal] = b"\x55" * n_equal  # no run of bits
        with pytest.raises(HealthFailure, match=f"{intermittent} times in a row"):
            tests.push(bytes(samples))
        assert tests.failed_permanently == (n_equal >= permanent)


def test_a_later_glitch_is_judged_by_itself() -> None:
    tests = HealthTests(7.0)
    with pytest.raises(HealthFailure):
        tests.push(bytes(WINDOW_BYTES))
    assert tests.failed_permanently
    glitch = noise(100, "a") + 8 * b"\x55" + noise(WINDOW_BYTES - 108, "b")
    with pytest.raises(HealthFailure):
        tests.push(noise(STARTUP_BYTES) + glitch)
    assert not tests.failed_permanently


@pytest.mark.parametrize(
    "fault",
    [
        bytes(2 * WINDOW_BYTES),
        biased_noise(8 * WINDOW_BYTES, Fraction(3, 4)),
        noise(64) * (2 * WINDOW_BYTES // 64),
    ],
)
def test_what_a_broken_device_does_is_permanent(fault: bytes) -> None:
    tests = HealthTests(7.0)
    with pytest.raises(HealthFailure):
        tests.push(noise(STARTUP_BYTES) + fault)
    assert tests.failed_permanently
