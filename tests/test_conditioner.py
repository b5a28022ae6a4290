"""The conditioner: what a block costs, what it is made of, and that nothing carries over."""

from __future__ import annotations

import hashlib
import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entropy.conditioner import BLOCK_BYTES, COST_BITS, Conditioner, raw_bytes_per_block
from entropy.errors import ConfigError

CREDITS = st.floats(0.001, 8) | st.sampled_from([0.1, 0.3, 1.0, 4.0, 6.5, 7.0, 8.0])


@pytest.mark.parametrize(
    ("credit_bits_per_byte", "n_raw"), [(8, 72), (7, 83), (4, 144), (1, 576), (0.5, 1152)]
)
def test_raw_bytes_of_a_block(credit_bits_per_byte: float, n_raw: int) -> None:
    assert raw_bytes_per_block(credit_bits_per_byte) == n_raw


@given(CREDITS)
def test_a_block_costs_576_bits_and_not_a_byte_more(credit_bits_per_byte: float) -> None:
    """Compared as exact numbers: no rounding may make a block cheaper."""
    n_raw = raw_bytes_per_block(credit_bits_per_byte)
    assert COST_BITS == 576
    assert n_raw * Fraction(credit_bits_per_byte) >= 576
    assert (n_raw - 1) * Fraction(credit_bits_per_byte) < 576


@pytest.mark.parametrize("credit_bits_per_byte", [0, -1, 8.5, math.nan])
def test_no_credit_no_block(credit_bits_per_byte: float) -> None:
    with pytest.raises(ConfigError, match="fills no block"):
        Conditioner(credit_bits_per_byte)


@given(
    st.floats(0.5, 8),
    st.binary(max_size=4000),
    st.lists(st.integers(0, 700), max_size=20),
)
def test_each_raw_byte_goes_into_one_block(
    credit_bits_per_byte: float, samples: bytes, cuts: list[int]
) -> None:
    """576 bits in for 64 bytes out, in order, however the samples are handed over."""
    conditioner = Conditioner(credit_bits_per_byte)
    blocks, start = [], 0
    for size in [*cuts, len(samples)]:
        blocks += conditioner.push(samples[start : start + size])
        start += size
        assert conditioner.held_bytes < conditioner.raw_bytes_per_block
    n_raw = raw_bytes_per_block(credit_bits_per_byte)
    assert len(blocks) == len(samples) // n_raw
    assert conditioner.held_bytes == len(samples) % n_raw
    for i, block in enumerate(blocks):
        raw = samples[i * n_raw : (i + 1) * n_raw]
        assert block == hashlib.sha512(b"entropy/1 conditioner\0" + raw).digest()
        assert len(block) == BLOCK_BYTES


@given(st.binary(max_size=71))
def test_what_was_destroyed_is_in_no_block(partial: bytes) -> None:
    conditioner = Conditioner(8)
    conditioner.push(partial)
    assert conditioner.destroy() == len(partial)
    assert conditioner.held_bytes == 0
    fresh = bytes(range(72))
    assert conditioner.push(fresh) == Conditioner(8).push(fresh)
