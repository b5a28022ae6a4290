"""Somebody between the ends (past TLS, say) alters, cuts, mirrors, repeats or reorders frames.

Nothing of it is ever taken for a message, and the session is over after it.
"""

from __future__ import annotations

from typing import Union

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entropy.errors import AuthenticationError, RemoteProtocolError, WireError
from entropy.wire.broker import BrokerConnection
from entropy.wire.client import ClientConnection
from entropy.wire.codes import DrawKind
from entropy.wire.frames import HEADER, Block, Draw, Message
from tests.wire.messages import REQUESTS, blocks
from tests.wire.pair import KEYS, WELCOME, greet, new_broker, new_client, open_pair

DRAW = Draw(DrawKind.TOPUP, 32, 0)
End = Union[ClientConnection, BrokerConnection]


def _dies(end: End, data: bytes) -> None:
    """Taking `data` ends the session without an event."""

    def take() -> None:
        end.receive_data(data)
        end.receive_eof()  # what is cut short shows at the end

    with pytest.raises((RemoteProtocolError, AuthenticationError)):
        take()
    assert end.closed
    assert end.events() == []
    with pytest.raises(WireError):
        end.receive_data(data)
    assert end.events() == []


def _exchange(client: ClientConnection, broker: BrokerConnection, serial: int) -> list[bytes]:
    """One draw and its answer: the two frames as they went."""
    client.send(DRAW)
    request = client.data_to_send()
    broker.receive_data(request)
    broker.send(Block(serial, 0, (), b"\x55" * 32))
    answer = broker.data_to_send()
    client.receive_data(answer)
    broker.events()
    client.events()
    return [request, answer]


@given(REQUESTS, st.data())
def test_an_altered_request(request: Draw, data: st.DataObject) -> None:
    client, broker = open_pair()
    client.send(request)
    frame = bytearray(client.data_to_send())
    frame[data.draw(st.integers(0, len(frame) - 1))] ^= data.draw(st.integers(1, 255))
    _dies(broker, bytes(frame))


@given(blocks(), st.data())
def test_an_altered_answer(block: Block, data: st.DataObject) -> None:
    client, broker = open_pair()
    client.send(DRAW)
    broker.receive_data(client.data_to_send())
    broker.send(block)
    frame = bytearray(broker.data_to_send())
    frame[data.draw(st.integers(0, len(frame) - 1))] ^= data.draw(st.integers(1, 255))
    _dies(client, bytes(frame))


@given(st.data())
def test_an_altered_handshake(data: st.DataObject) -> None:
    """Whichever byte of HELLO, AUTH or WELCOME is changed, no session opens."""
    client, broker = new_client(), new_broker()
    which = data.draw(st.integers(0, 2))

    def carry(frame: bytes, number: int) -> bytes:
        changed = bytearray(frame)
        if number == which:
            changed[data.draw(st.integers(0, len(changed) - 1))] ^= data.draw(st.integers(1, 255))
        return bytes(changed)

    def shake_hands() -> None:
        client.receive_data(carry(broker.data_to_send(), 0))
        broker.receive_data(carry(client.data_to_send(), 1))
        broker.authenticate(KEYS.public, KEYS.psk)
        broker.welcome(WELCOME)
        client.receive_data(carry(broker.data_to_send(), 2))
        client.receive_eof()  # a length that became greater shows when no more comes

    with pytest.raises(WireError):
        shake_hands()
    assert client.welcome is None


@given(st.data())
def test_a_truncated_frame(data: st.DataObject) -> None:
    client, broker = open_pair()
    client.send(DRAW)
    frame = client.data_to_send()
    _dies(broker, frame[: data.draw(st.integers(1, len(frame) - 1))])
    # Its length made to fit what is left of it.
    client, broker = open_pair()
    client.send(DRAW)
    frame = client.data_to_send()
    kept = data.draw(st.integers(0, len(frame) - HEADER.size - 1))
    version, kind, _ = HEADER.unpack(frame[: HEADER.size])
    _dies(broker, HEADER.pack(version, kind, kept) + frame[HEADER.size :][:kept])


def test_a_reflected_frame() -> None:
    # Their keys differ, so even with the type made to fit it does not open.
    client, broker = open_pair()
    client.send(DRAW)
    request = client.data_to_send()
    for kind in range(256):
        mirrored = open_pair()[0]
        mirrored.send(DRAW)
        mirrored.data_to_send()
        _dies(mirrored, bytes((request[0], kind)) + request[2:])
    broker.receive_data(request)
    assert broker.events() == [DRAW]


@given(st.integers(0, 5), st.integers(0, 5))
def test_a_replayed_frame(before: int, which: int) -> None:
    client, broker = open_pair()
    said = [_exchange(client, broker, serial) for serial in range(before + 1)]
    request, answer = said[min(which, before)]
    _dies(broker, request)
    client.send(DRAW)
    client.data_to_send()
    _dies(client, answer)


def test_a_frame_of_another_session() -> None:
    # The same ends, credential, ephemeral key and even nonces but one.
    old_client, old_broker = open_pair()
    request, _ = _exchange(old_client, old_broker, 1)
    client, broker = new_client(), new_broker(nonce=b"another nonce of thirty-two byte")
    greet(client, broker)
    broker.authenticate(KEYS.public, KEYS.psk)
    broker.welcome(WELCOME)
    client.receive_data(broker.data_to_send())
    _dies(broker, request)


def test_a_replayed_auth() -> None:
    client, broker = new_client(), new_broker()
    client.receive_data(broker.data_to_send())
    recorded = client.data_to_send()
    later = new_broker(nonce=b"M" * 32)
    later.receive_data(recorded)
    with pytest.raises(AuthenticationError):
        later.authenticate(KEYS.public, KEYS.psk)


def test_frames_that_changed_places() -> None:
    client, broker = open_pair()
    client.send(DRAW)
    client.data_to_send()  # the first is held back
    client.state = type(client.state).OPEN  # and the sender goes on as if it had been answered
    client.send(DRAW)
    _dies(broker, client.data_to_send())


@given(REQUESTS, st.binary(min_size=1, max_size=64))
def test_bytes_put_before_a_frame(request: Draw, junk: bytes) -> None:
    client, broker = open_pair()
    client.send(request)
    _dies(broker, junk + client.data_to_send())


@given(st.binary(min_size=1, max_size=600))
def test_any_bytes_at_any_end(junk: bytes) -> None:
    ends: list[End] = [new_client(), new_broker(), *open_pair()]
    for end in ends:
        end.data_to_send()
        events: list[Message] = []
        try:
            end.receive_data(junk)
        except (RemoteProtocolError, AuthenticationError):
            assert end.closed
        events += end.events()
        assert all(type(event).__name__ in ("Refused", "Auth") for event in events)


def test_two_sessions_never_send_the_same_bytes() -> None:
    frames = set()
    for number in range(3):
        client, broker = new_client(nonce=bytes((number,)) * 32), new_broker()
        greet(client, broker)
        broker.authenticate(KEYS.public, KEYS.psk)
        broker.welcome(WELCOME)
        client.receive_data(broker.data_to_send())
        frames |= set(_exchange(client, broker, 1)) | set(_exchange(client, broker, 1))
    assert len(frames) == 12
