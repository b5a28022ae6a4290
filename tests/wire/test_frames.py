"""Messages to bytes and back, and every bound of theirs from both sides."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entropy.errors import LocalProtocolError, RemoteProtocolError
from entropy.wire import frames
from entropy.wire.codes import DrawKind, FrameType, RefusedCode, RetryReason, Role, is_id
from entropy.wire.frames import (
    PLAIN_LIMIT_BYTES,
    SEALED_LIMIT_BYTES,
    TAG_BYTES,
    Accepted,
    Auth,
    Block,
    Draw,
    Feed,
    Hello,
    Message,
    Recall,
    Refused,
    Retry,
    Welcome,
    decode,
    encode,
    type_of,
)
from tests.wire.messages import MESSAGES

# One message of each type with its payload, written out by hand.
TABLE: list[tuple[Message, str]] = [
    (
        Hello("b1", b"\x01" * 16, b"\x02" * 32, b"\x03" * 32),
        "02 6231" + "01" * 16 + "02" * 32 + "03" * 32,
    ),
    (
        Auth(Role.FEEDER, "rng1", b"\x04" * 8, b"\x05" * 16, 258, b"\x06" * 32, proof=b"\x07" * 32),
        "02 04 726e6731" + "04" * 8 + "05" * 16 + "0000000000000102" + "06" * 32 + "07" * 32,
    ),
    (
        Welcome(frozenset({"draw", "peer"}), 600, 32, 64, 4096, 7, 8, 9, b"\x08" * 32),
        "05 00000258 0020 00000040 00001000 00000007 00000008 00000009" + "08" * 32,
    ),
    (Draw(DrawKind.TOPUP, 4096, 30000), "02 1000 00007530"),
    (
        Block(5, 8, ("rng1", "rng2"), b"\xff"),
        "0000000000000005 00000008 02 04 726e6731 04 726e6732 ff",
    ),
    (Feed(3, 512, (b"\x09" * 64,)), "0000000000000003 00000200 01" + "09" * 64),
    (Feed(3, 0, ()), "0000000000000003 00000000 00"),
    (Recall(4), "0000000000000004"),
    (Accepted(6, 512, 10, 20), "0000000000000006 00000200 0000000a 00000014"),
    (Retry(1500, RetryReason.FULL), "000005dc 04"),
    (Refused(RefusedCode.SHUTDOWN), "04"),
]


@pytest.mark.parametrize(("message", "payload"), TABLE)
def test_layout(message: Message, payload: str) -> None:
    assert encode(message) == bytes.fromhex(payload)
    assert decode(type_of(message), bytes.fromhex(payload)) == message


def test_the_table_has_every_type() -> None:
    assert {type_of(message) for message, _ in TABLE} == set(FrameType)


@given(MESSAGES)
def test_every_message_comes_back(message: Message) -> None:
    assert decode(type_of(message), encode(message)) == message


@given(MESSAGES)
def test_every_message_fits(message: Message) -> None:
    if isinstance(message, (Hello, Auth, Welcome, Refused)):
        assert len(encode(message)) <= PLAIN_LIMIT_BYTES
    assert len(encode(message)) + TAG_BYTES <= SEALED_LIMIT_BYTES


@given(st.integers(0, 255), st.binary(max_size=300))
def test_any_bytes_are_a_message_or_refused(frame_type: int, payload: bytes) -> None:
    _is_the_one_way_or_refused(frame_type, payload)


@given(MESSAGES, st.data())
def test_so_are_messages_with_a_byte_changed(message: Message, data: st.DataObject) -> None:
    payload = bytearray(encode(message))
    payload[data.draw(st.integers(0, min(len(payload), 60) - 1))] ^= data.draw(st.integers(1, 255))
    _is_the_one_way_or_refused(type_of(message), bytes(payload))


def _is_the_one_way_or_refused(frame_type: int, payload: bytes) -> None:
    """There is one way to write each message."""
    try:
        message = decode(frame_type, payload)
    except RemoteProtocolError:
        return
    assert encode(message) == payload


@given(MESSAGES, st.data())
def test_short_and_long_payloads_are_refused(message: Message, data: st.DataObject) -> None:
    payload = encode(message)
    if isinstance(message, Block):  # its bytes go to the payload's end: cut before them
        payload = payload[: len(payload) - len(message.data)]
        longer = b""
    else:
        longer = data.draw(st.binary(min_size=1, max_size=8))
    shorter = payload[: data.draw(st.integers(0, len(payload) - 1))]
    for wrong in {shorter, payload + longer} - {encode(message)}:
        with pytest.raises(RemoteProtocolError):
            decode(type_of(message), wrong)


K, B, N = bytes(8), bytes(16), bytes(32)
OUT_OF_BOUNDS: list[Message] = [
    Hello("", B, N, N),
    Hello("b" * 64, B, N, N),
    Hello("b.1", B, N, N),
    Hello("B1", B, N, N),
    Auth(Role.CLIENT, "", K, B, 0, N, N),
    Auth(Role.CLIENT, "vm 1", K, B, 0, N, N),
    Auth(Role.CLIENT, "vm1\n", K, B, 0, N, N),
    Auth(Role.CLIENT, "-vm1", K, B, 0, N, N),
    Draw(DrawKind.SEED, 0, 0),
    Draw(DrawKind.SEED, 4097, 0),
    Block(1, 0, (), b""),
    Block(1, 0, (), bytes(4097)),
    Block(1, 65, (), bytes(8)),
    Block(1, 0, ("rng1",) * 17, bytes(8)),
    Block(1, 0, ("Rng1",), bytes(8)),
    Feed(0, 513, (bytes(64),)),
    Feed(0, 1, ()),
    Feed(0, 0, (bytes(64),) * 33),
]


@pytest.mark.parametrize("message", OUT_OF_BOUNDS)
def test_what_is_out_of_bounds_is_neither_sent_nor_taken(message: Message) -> None:
    with pytest.raises(LocalProtocolError):
        encode(message)
    form = frames._FORMS[type(message)]
    with pytest.raises(RemoteProtocolError):
        decode(form.type, form.encode(message))  # as a peer that does not check would write it


@pytest.mark.parametrize(
    "message",
    [
        Hello("b1", bytes(15), N, N),
        Hello("b1", B, bytes(33), N),
        Auth(Role.CLIENT, "vm1", bytes(7), B, 0, N, N),
        Auth(Role.CLIENT, "vm1", K, B, 1 << 64, N, N),
        Auth(Role.CLIENT, "vm1", K, B, -1, N, N),
        Auth(Role.CLIENT, "vm1", K, B, 0, N),
        Auth(4, "vm1", K, B, 0, N, N),  # type: ignore[arg-type]
        Welcome(frozenset({"root"}), 0, 0, 0, 0, 0, 0, 0, N),
        Welcome(frozenset(), 0, 1 << 16, 0, 0, 0, 0, 0, N),
        Draw(4, 1, 0),  # type: ignore[arg-type]
        Draw(DrawKind.SEED, 1, 1 << 32),
        Block(-1, 0, (), b"x"),
        Block(0, -1, (), b"x"),
        Feed(0, 0, (bytes(63),)),
        Recall(1 << 64),
        Retry(0, 6),  # type: ignore[arg-type]
        Refused(0),  # type: ignore[arg-type]
        "hello",
    ],
)
def test_what_cannot_be_written_is_a_local_error(message: Message) -> None:
    with pytest.raises(LocalProtocolError):
        encode(message)


@pytest.mark.parametrize(
    ("frame_type", "payload"),
    [
        (0, ""),
        (11, ""),
        (255, ""),
        (3, "08" + "00" * 58),  # a permission that there is not
        (4, "00 0001 00000000"),
        (4, "04 0001 00000000"),
        (9, "00000000 00"),
        (10, "00"),
        (10, "06"),
        (5, "0000000000000000 00000000 ff"),
        (6, "0000000000000000 00000000 ff"),
        (5, "0000000000000000 00000000 01 02 ffff ff"),  # an origin that is not UTF-8
    ],
)
def test_what_no_peer_may_write(frame_type: int, payload: str) -> None:
    with pytest.raises(RemoteProtocolError):
        decode(frame_type, bytes.fromhex(payload))


@pytest.mark.parametrize("name", ["a", "a" * 63, "vm1.client", "a_b-c.d", "0"])
def test_ids(name: str) -> None:
    assert is_id(name)


@pytest.mark.parametrize("name", ["", "a" * 64, ".a", "a.", "A", "a b", "a\n", "é", "a/b", "a\0"])
def test_what_is_no_id(name: str) -> None:
    assert not is_id(name)


def test_what_is_shown_of_a_message_holds_no_secret() -> None:
    """A message may stand in an exception or in asyncio's words on a task."""
    block, feed = Block(1, 448, ("rng1",), b"secret" * 10), Feed(3, 1024, (b"s" * 64, b"t" * 64))
    assert repr(block) == "Block(1, 60 bytes worth 448 bits)"
    assert repr(feed) == str(feed) == "Feed(3, 2 blocks, 1024 bits)"
