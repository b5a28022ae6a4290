"""What a gateway holds: each byte leaves once, erased, and is worth 8 bits."""

from __future__ import annotations

import os

from hypothesis import given
from hypothesis import strategies as st

from entropy.gateways.allowance import Allowance
from entropy.gateways.buffer import Buffer

REPLIES = st.tuples(st.just("add"), st.integers(0, 64), st.integers(0, 512))
TAKES = st.tuples(st.just("take"), st.integers(0, 300), st.just(0))
DESTROYS = st.tuples(st.just("destroy"), st.just(0), st.just(0))


@given(st.lists(st.one_of(REPLIES, TAKES, DESTROYS), max_size=40))
def test_every_byte_is_accounted_for_and_given_once(steps: list[tuple[str, int, int]]) -> None:
    buffer = Buffer(112)
    kept: list[bytes] = []
    worth_bits = 0
    out = b""
    for what, n, credit_bits in steps:
        if what == "add":
            credit_bits = min(credit_bits, 8 * n)
            data = os.urandom(n)
            n_kept = buffer.add(data, credit_bits)
            assert n_kept == credit_bits // 8, "no byte is worth less than 8 bits"
            worth_bits += credit_bits
            kept.append(data[:n_kept])
        elif what == "take":
            taken = buffer.take(n)
            assert len(taken) <= n
            out += taken
        else:
            out += b"".join(kept)[len(out) :]  # as if it had gone
            buffer.destroy()
        assert out == b"".join(kept)[: len(out)], "in order, none twice, none left out"
        assert buffer.drawn_bytes == (
            len(buffer) + buffer.handed_out_bytes + buffer.surplus_bytes + buffer.destroyed_bytes
        )
        assert 8 * (buffer.handed_out_bytes + len(buffer)) <= buffer.drawn_bits == worth_bits


def test_what_is_taken_is_erased_first() -> None:
    buffer = Buffer(112)
    buffer.add(b"x" * 56, 448)
    view = memoryview(buffer._held)  # keeps the bytearray from being resized
    try:
        buffer.take(10)
    except BufferError:
        assert bytes(view[:11]) == bytes(10) + b"x"
    finally:
        view.release()


def test_room() -> None:
    buffer = Buffer(112)
    assert buffer.has_room
    buffer.add(bytes(56), 448)
    assert buffer.has_room
    buffer.add(bytes(56), 448)
    assert not buffer.has_room
    assert buffer.destroy() == 112
    assert len(buffer) == 0


@given(
    st.integers(1, 1000),
    st.integers(1, 5000),
    st.lists(st.tuples(st.floats(0, 100), st.integers(0, 2000)), max_size=30),
)
def test_an_allowance_is_never_exceeded(
    rate: int, burst: int, steps: list[tuple[float, int]]
) -> None:
    allowance = Allowance(rate, burst, 0.0)
    now = 0.0
    taken = 0
    for seconds, wanted in steps:
        now += seconds
        n_bytes = min(wanted, allowance.available_bytes(now))
        allowance.take(n_bytes)
        taken += n_bytes
        assert taken <= burst + rate * now + 1e-6
        wait_seconds = allowance.wait_seconds(wanted)
        assert allowance.available_bytes(now + wait_seconds + 1e-6) >= min(wanted, burst)
        now += wait_seconds + 1e-6
