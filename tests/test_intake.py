"""Samples to numbered blocks: only clean windows count, and a failure names what to recall."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entropy.conditioner import raw_bytes_per_block
from entropy.errors import ConfigError, HealthFailure
from entropy.health import STARTUP_BYTES, WINDOW_BYTES
from entropy.intake import FreshBlock, Intake
from entropy.sources.base import Figures

FIGURES = Figures(4, 7, "for this test")
N_RAW = raw_bytes_per_block(4)


def noise(n_bytes: int, seed: str = "noise") -> bytes:
    return hashlib.shake_256(seed.encode()).digest(n_bytes)


def block_of(raw: bytes) -> bytes:
    return hashlib.sha512(b"entropy/1 conditioner\0" + raw).digest()


def test_blocks_are_made_of_tested_samples_only() -> None:
    samples = noise(STARTUP_BYTES + 3 * WINDOW_BYTES + 77)
    intake = Intake(FIGURES)
    blocks = intake.push(samples)
    tested = samples[STARTUP_BYTES : STARTUP_BYTES + 3 * WINDOW_BYTES]
    assert [block.data for block in blocks] == [
        block_of(tested[i : i + N_RAW]) for i in range(0, len(tested) - N_RAW + 1, N_RAW)
    ]
    assert len(blocks) == len(tested) // N_RAW


def test_nothing_before_the_start_up_test_has_passed() -> None:
    intake = Intake(FIGURES)
    assert intake.push(noise(STARTUP_BYTES)) == []
    assert intake.started
    assert intake.push(noise(WINDOW_BYTES - 1, "more")) == []


def feed_in_chunks(intake: Intake, samples: bytes, sizes: list[int]) -> list[FreshBlock]:
    """Push until the samples end or a window fails."""
    blocks: list[FreshBlock] = []
    start = 0
    for size in sizes * (len(samples) // sum(sizes) + 1):
        blocks += intake.push(samples[start : start + size])
        start += size
    return blocks


@given(
    st.lists(st.integers(1, 1500), min_size=1, max_size=20),
    st.floats(0.5, 7).map(lambda x: round(x, 2)),
    st.integers(0, 12 * WINDOW_BYTES),
    st.integers(0, 255),
)
def test_no_sample_of_a_failing_window_reaches_a_block(
    sizes: list[int], credit: float, place: int, stuck_value: int
) -> None:
    """And those near it are named for recall, whatever the sizes of the reads."""
    good = noise(STARTUP_BYTES + 12 * WINDOW_BYTES)
    place += STARTUP_BYTES
    samples = good[:place] + bytes([stuck_value]) * 2000
    n_raw = raw_bytes_per_block(credit)
    intake = Intake(Figures(credit, 7, "for this test"))
    blocks: list[FreshBlock] = []
    start, failed = 0, False
    for size in sizes * (len(samples) // sum(sizes) + 1):
        try:
            blocks += intake.push(samples[start : start + size])
        except HealthFailure:
            failed = True
            break
        start += size
    assert failed
    failing_window = (place + 7 - 1) // WINDOW_BYTES * WINDOW_BYTES  # 7 equal bytes are too many
    assert intake.recall_position <= failing_window - WINDOW_BYTES
    # Every block that got out is of good samples before the failing window, in order.
    for i, block in enumerate(blocks):
        begin = STARTUP_BYTES + i * n_raw
        assert block.end_position == begin + n_raw <= failing_window
        assert block.data == block_of(good[begin : begin + n_raw])

    # Afterwards the start-up test, and a block that has no byte from before in it.
    assert not intake.started
    more = noise(STARTUP_BYTES + 3 * WINDOW_BYTES, "more")
    later = feed_in_chunks(intake, more, sizes)
    tested = more[STARTUP_BYTES:]
    assert [block.data for block in later] == [
        block_of(tested[i : i + n_raw]) for i in range(0, len(tested) - n_raw + 1, n_raw)
    ]


def test_which_blocks_are_recalled() -> None:
    """Those with input from the window before the failing one, and no older ones."""
    intake = Intake(FIGURES)
    blocks = intake.push(noise(STARTUP_BYTES + 4 * WINDOW_BYTES))
    with pytest.raises(HealthFailure):
        intake.push(bytes(WINDOW_BYTES))
    failing_window = STARTUP_BYTES + 4 * WINDOW_BYTES
    assert intake.recall_position == failing_window - WINDOW_BYTES
    recalled = [block for block in blocks if block.end_position > intake.recall_position]
    assert recalled == blocks[-4:]  # 512 bytes hold three blocks of 144, and the end of a fourth


def test_what_is_safe_is_never_asked_back() -> None:
    intake = Intake(FIGURES)
    intake.push(noise(STARTUP_BYTES + 4 * WINDOW_BYTES + 100))
    safe = intake.safe_position
    with pytest.raises(HealthFailure):
        intake.push(bytes(WINDOW_BYTES))
    assert safe <= intake.recall_position


def test_a_reopened_source_starts_over() -> None:
    intake = Intake(FIGURES)
    first = intake.push(noise(STARTUP_BYTES + WINDOW_BYTES + 300))
    intake.restart()
    assert not intake.started
    samples = noise(STARTUP_BYTES + WINDOW_BYTES, "again")
    blocks = intake.push(samples)
    assert blocks[0].data == block_of(samples[STARTUP_BYTES : STARTUP_BYTES + N_RAW])
    assert blocks[0].end_position > first[-1].end_position + STARTUP_BYTES


def test_a_source_without_credit_makes_no_blocks() -> None:
    with pytest.raises(ConfigError):
        Intake(Figures(0, 7, "worth nothing"))


def test_what_is_shown_of_a_block_does_not_hold_it() -> None:
    assert repr(FreshBlock(bytearray(b"secret" + bytes(58)), 7)) == (
        "FreshBlock(64 bytes, input up to 7)"
    )
