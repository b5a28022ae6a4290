"""EGD as a protocol, without a socket: commands, turns, allowances, and every state."""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entropy.errors import LocalProtocolError, RemoteProtocolError
from entropy.gateways.buffer import Buffer
from entropy.gateways.config import EgdConfig
from entropy.gateways.egd_commands import Command, Verb, level, process_id, take_command
from entropy.gateways.egd_desk import (
    MOST_INPUT_BYTES,
    MOST_OUTPUT_BYTES,
    Desk,
    Event,
    Reader,
    State,
)

PLENTY = {
    "rate_bytes_per_second": 10**6,
    "burst_bytes": 10**6,
    "total_rate_bytes_per_second": 10**6,
    "total_burst_bytes": 10**6,
}


class Counter:
    """A desk with a buffer of known bytes."""

    def __init__(self, n_bytes: int = 0, **limits: int) -> None:
        values: dict[str, Any] = {**PLENTY, **limits}
        self.buffer = Buffer(1 << 16)
        self.bytes = b""
        self.desk = Desk(EgdConfig(listen=("unix:/x",), **values), self.buffer, 4711, 0.0)
        self.add(n_bytes)

    def add(self, n_bytes: int, now: float = 0.0) -> None:
        data = os.urandom(n_bytes)
        self.bytes += data
        self.buffer.add(data, 8 * n_bytes)
        self.desk.serve(now)

    def says(self, reader: Reader, data: bytes, now: float = 0.0) -> bytes:
        self.desk.receive(reader, data, now)
        return reader.data_to_send()


COMMANDS = [
    (b"\x00", Command(Verb.LEVEL)),
    (b"\x01\x20", Command(Verb.READ_SOME, 32)),
    (b"\x02\xff", Command(Verb.READ_ALL, 255)),
    (b"\x03\x01\x00\x02ab", Command(Verb.WRITE, 2)),
    (b"\x03\x00\x00\x00", Command(Verb.WRITE, 0)),
    (b"\x04", Command(Verb.PID)),
]


@pytest.mark.parametrize(("data", "command"), COMMANDS)
def test_a_command_is_taken_when_it_is_whole(data: bytes, command: Command) -> None:
    for n in range(len(data)):
        part = bytearray(data[:n])
        assert take_command(part) is None
        assert part == data[:n]
    whole = bytearray(data + b"\x00")
    assert take_command(whole) == command
    assert whole == b"\x00"


@given(st.binary(max_size=600))
def test_whatever_comes_is_commands_or_an_error(data: bytes) -> None:
    waiting = bytearray(data)
    before = len(waiting) + 1
    try:
        while len(waiting) < before:
            before = len(waiting)
            take_command(waiting)
    except RemoteProtocolError:
        assert waiting[0] > 4


@given(st.binary(max_size=200), st.lists(st.integers(1, 20), max_size=40), st.integers(0, 500))
def test_how_the_input_is_cut_changes_nothing(data: bytes, cuts: list[int], n_bytes: int) -> None:
    whole, parts = Counter(n_bytes), Counter()
    parts.bytes = whole.bytes
    parts.buffer.add(whole.bytes, 8 * n_bytes)
    one, other = whole.desk.open(0.0), parts.desk.open(0.0)
    answer = whole.says(one, data)
    pieces = b""
    rest = data
    for cut in [*cuts, len(data)]:
        pieces += parts.says(other, rest[:cut])
        rest = rest[cut:]
    assert pieces == answer
    assert one.state == other.state


def test_the_answers() -> None:
    counter = Counter(300)
    reader = counter.desk.open(0.0)
    assert counter.says(reader, b"\x00") == level(2400) == b"\x00\x00\x09\x60"
    assert counter.says(reader, b"\x04") == process_id(4711) == b"\x044711"
    assert counter.says(reader, b"\x01\x00") == b"\x00"
    assert counter.says(reader, b"\x02\x00") == b""
    assert counter.says(reader, b"\x01\xff") == b"\xff" + counter.bytes[:255]
    assert counter.says(reader, b"\x02\x05") == counter.bytes[255:260]
    assert counter.says(reader, b"\x01\xff") == b"\x28" + counter.bytes[260:]
    assert counter.says(reader, b"\x01\xff") == b"\x00"
    assert counter.desk.short_answers == 2


def test_what_is_written_to_it_changes_nothing() -> None:
    counter = Counter(10)
    reader = counter.desk.open(0.0)
    assert counter.says(reader, b"\x03\x00\x40\x08" + b"A" * 8) == b""
    assert counter.says(reader, b"\x02\x0a") == counter.bytes
    assert counter.desk.dropped_bytes == 8
    assert counter.buffer.drawn_bytes == 10


def test_who_waits_gets_the_bytes_as_they_come_and_later_commands_keep_their_order() -> None:
    counter = Counter(3)
    reader = counter.desk.open(0.0)
    assert counter.says(reader, b"\x02\x05\x00\x02\x01") == counter.bytes
    assert reader.state is State.WAITING
    counter.add(1)
    assert reader.data_to_send() == counter.bytes[3:4]
    counter.add(2)
    assert reader.data_to_send() == counter.bytes[4:5] + level(8) + counter.bytes[5:]
    assert reader.state is State.READY


def test_turns() -> None:
    counter = Counter()
    readers = [counter.desk.open(0.0) for _ in range(3)]
    for reader in readers:
        counter.says(reader, b"\x02\xff")
    counter.add(2 * 3 * 56)
    got = [reader.data_to_send() for reader in readers]
    assert [len(data) for data in got] == [112, 112, 112]
    assert sorted(b"".join(got)) == sorted(counter.bytes)


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("ask"), st.integers(0, 3), st.integers(1, 255)),
            st.tuples(st.just("add"), st.just(0), st.integers(0, 300)),
            st.tuples(st.just("stall"), st.integers(0, 3), st.integers(0, 1)),
            st.tuples(st.just("go"), st.integers(0, 3), st.just(0)),
            st.tuples(st.just("time"), st.just(0), st.integers(0, 50)),
        ),
        max_size=60,
    )
)
def test_no_byte_goes_to_two_and_no_rate_is_exceeded(steps: list[tuple[str, int, int]]) -> None:
    counter = Counter(
        rate_bytes_per_second=5,
        burst_bytes=100,
        total_rate_bytes_per_second=9,
        total_burst_bytes=150,
    )
    readers = [counter.desk.open(0.0) for _ in range(4)]
    got = b""
    now = 0.0
    gone: set[Reader] = set()
    for what, i, n in steps:
        reader = readers[i]
        if reader in gone and what in ("ask", "stall"):
            continue
        if what == "ask":
            counter.desk.receive(reader, bytes([2, n]), now)
        elif what == "add":
            counter.add(n, now)
        elif what == "stall":
            reader.may_send = bool(n)
            counter.desk.go_on(reader, now)
        elif what == "go":
            counter.desk.close(reader)
            gone.add(reader)
        else:
            now += n / 10
            counter.desk.serve(now)
        for one in readers:
            data = one.data_to_send()
            assert one.may_send or not data
            got += data
        assert sorted(got) == sorted(counter.bytes[: counter.buffer.handed_out_bytes])
        assert counter.buffer.handed_out_bytes <= 150 + 9 * now + 1e-6
        waiting = [r for r in readers if r.state is State.WAITING and r.may_send]
        if waiting and len(counter.buffer):
            wait_seconds = counter.desk.next_seconds(now)
            assert wait_seconds is not None
            assert wait_seconds > 0, "else it would have been given something"


def test_what_was_not_sent_when_a_reader_goes_is_gone() -> None:
    counter = Counter(20)
    one, other = counter.desk.open(0.0), counter.desk.open(0.0)
    counter.desk.receive(one, b"\x02\x0a", 0.0)
    counter.desk.close(one)
    assert one.data_to_send() == b""
    assert counter.says(other, b"\x02\x0a") == counter.bytes[10:]


def test_one_reader_cannot_have_more_than_its_rate() -> None:
    counter = Counter(1000, rate_bytes_per_second=10, burst_bytes=20)
    reader = counter.desk.open(0.0)
    assert len(counter.says(reader, b"\x02\xff")) == 20
    wait_seconds = counter.desk.next_seconds(0.0)
    assert wait_seconds == 2.0, "a burst later"
    counter.desk.serve(2.0)
    assert len(reader.data_to_send()) == 20
    assert len(counter.says(counter.desk.open(2.0), b"\x01\x64", 2.0)) == 1 + 20
    assert counter.desk.next_seconds(2.0) == 2.0


def test_who_does_not_read_is_not_served_and_holds_up_nobody() -> None:
    counter = Counter()
    slow, other = counter.desk.open(0.0), counter.desk.open(0.0)
    counter.says(slow, b"\x02\xff")
    slow.may_send = False
    counter.says(other, b"\x02\x0a")
    counter.add(50)
    assert slow.data_to_send() == b""
    assert other.data_to_send() == counter.bytes[:10]
    assert counter.says(slow, b"\x00" * 5000) == b"", "its other commands wait too"
    assert slow.full
    slow.may_send = True
    counter.desk.go_on(slow, 0.0)
    assert slow.data_to_send() == counter.bytes[10:]
    assert slow.full, "it still waits for the rest"
    counter.add(255)
    got = 0
    while data := slow.data_to_send():
        assert len(data) < MOST_OUTPUT_BYTES + 256, "no answers pile up"
        got += len(data)
        counter.desk.go_on(slow, 0.0)
    assert got == 255 - 40 + 4 * 5000
    assert not slow.full
    assert MOST_INPUT_BYTES < 5000


def test_what_is_no_command_ends_it() -> None:
    counter = Counter(10)
    reader = counter.desk.open(0.0)
    assert counter.says(reader, b"\x04\x05\x02\x0a") == b"\x044711"
    assert reader.state is State.CLOSED
    assert reader in counter.desk.touched
    assert counter.says(reader, b"\x02\x0a") == b""
    assert len(counter.buffer) == 10


NEXT = {
    State.READY: {
        Event.ANSWERED: State.READY,
        Event.ASKED: State.WAITING,
        Event.GONE: State.CLOSED,
    },
    State.WAITING: {
        Event.GIVEN: State.WAITING,
        Event.SERVED: State.READY,
        Event.GONE: State.CLOSED,
    },
    State.CLOSED: {Event.GONE: State.CLOSED},
}


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("event", Event)
def test_the_table(state: State, event: Event) -> None:
    reader = Counter().desk.open(0.0)
    reader.state = state
    after = NEXT[state].get(event)
    if after is None:
        with pytest.raises(LocalProtocolError):
            reader.step(event)
    else:
        reader.step(event)
        assert reader.state is after
