"""Both ends as state machines: what may come, what may be sent, and how a session ends."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from entropy.errors import (
    AuthenticationError,
    LocalProtocolError,
    RemoteProtocolError,
    WireError,
)
from entropy.wire.broker import BrokerConnection
from entropy.wire.client import ClientConnection
from entropy.wire.codes import DrawKind, FrameType, RefusedCode, RetryReason, Role
from entropy.wire.connection import State
from entropy.wire.frames import (
    HEADER,
    PLAIN_LIMIT_BYTES,
    SEALED_LIMIT_BYTES,
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
    header,
)
from entropy.wire.keys import derive
from tests.wire.pair import (
    EPHEMERAL,
    KEYS,
    OTHER_KEYS,
    WELCOME,
    greet,
    new_broker,
    new_client,
    open_pair,
)

DRAW = Draw(DrawKind.SEED, 64, 1000)
FEED = Feed(0, 512, (bytes(64),))
BLOCK = Block(1, 448, ("rng1",), b"\xaa" * 64)
ACCEPTED = Accepted(1, 512, 1, 2)
RETRY = Retry(1000, RetryReason.EMPTY)
REFUSED = Refused(RefusedCode.PERMISSION)
ANY: dict[FrameType, Message] = {
    FrameType.HELLO: Hello("broker1", bytes(16), EPHEMERAL.public, bytes(32)),
    FrameType.AUTH: Auth(Role.CLIENT, "vm1", bytes(8), bytes(16), 0, bytes(32), bytes(32)),
    FrameType.WELCOME: WELCOME._replace(proof=bytes(32)),
    FrameType.DRAW: DRAW,
    FrameType.FEED: FEED,
    FrameType.RECALL: Recall(0),
    FrameType.BLOCK: BLOCK,
    FrameType.ACCEPTED: ACCEPTED,
    FrameType.RETRY: RETRY,
    FrameType.REFUSED: REFUSED,
}


def broker_in(state: State) -> tuple[ClientConnection, BrokerConnection]:
    """A session whose broker is in this state."""
    client, broker = new_client(), new_broker()
    if state is State.AWAIT_AUTH:
        return client, broker
    greet(client, broker)
    if state is State.AUTHENTICATING:
        return client, broker
    broker.authenticate(KEYS.public, KEYS.psk)
    if state is State.PROVEN:
        return client, broker
    client, broker = open_pair()
    if state in (State.DRAWING, State.FEEDING):
        client.send(DRAW if state is State.DRAWING else FEED)
        broker.receive_data(client.data_to_send())
        broker.events()
    elif state is State.CLOSED:
        broker.refuse(RefusedCode.SHUTDOWN)
    elif state is State.FAILED:
        with pytest.raises(RemoteProtocolError):
            broker.receive_data(b"\xff" * 4)
    assert broker.state is state
    return client, broker


def client_in(state: State) -> tuple[ClientConnection, BrokerConnection]:
    """A session whose client is in this state."""
    client, broker = new_client(), new_broker()
    if state is State.AWAIT_HELLO:
        return client, broker
    if state is State.AWAIT_WELCOME:
        greet(client, broker)
        return client, broker
    client, broker = open_pair()
    if state in (State.DRAWING, State.FEEDING):
        client.send(DRAW if state is State.DRAWING else FEED)
        broker.receive_data(client.data_to_send())
    elif state is State.CLOSED:
        broker.refuse(RefusedCode.SHUTDOWN)
        client.receive_data(broker.data_to_send())
        client.events()
    elif state is State.FAILED:
        with pytest.raises(RemoteProtocolError):
            client.receive_data(b"\xff" * 4)
    assert client.state is state
    return client, broker


BROKER_STATES = [state for state in BrokerConnection.MAY_COME if state is not State.NEW]
CLIENT_STATES = [state for state in ClientConnection.MAY_COME if state is not State.GREETED]


@pytest.mark.parametrize("sent", FrameType)
@pytest.mark.parametrize("state", BROKER_STATES)
def test_what_a_broker_may_send(state: State, sent: FrameType) -> None:
    _, broker = broker_in(state)
    calls: dict[FrameType, Callable[[], None]] = {
        FrameType.WELCOME: lambda: broker.welcome(WELCOME),
        FrameType.REFUSED: lambda: broker.refuse(RefusedCode.SHUTDOWN),
    }
    call = calls.get(sent, lambda: broker.send(ANY[sent]))  # type: ignore[arg-type]
    broker.data_to_send()
    if sent in BrokerConnection.MAY_SEND[state]:
        call()
        assert broker.state is BrokerConnection.MAY_SEND[state][sent]
        assert broker.data_to_send()
        assert not broker.data_to_send()
    else:
        with pytest.raises(LocalProtocolError):
            call()
        assert broker.state is state
        assert not broker.data_to_send()


@pytest.mark.parametrize("sent", FrameType)
@pytest.mark.parametrize("state", CLIENT_STATES)
def test_what_a_client_may_send(state: State, sent: FrameType) -> None:
    client, _ = client_in(state)
    client.data_to_send()
    if sent in ClientConnection.MAY_SEND[state]:
        client.send(ANY[sent])  # type: ignore[arg-type]
        assert client.state is ClientConnection.MAY_SEND[state][sent]
        assert client.data_to_send()
        assert not client.data_to_send()
    else:
        with pytest.raises(LocalProtocolError):
            client.send(ANY[sent])  # type: ignore[arg-type]
        assert client.state is state
        assert not client.data_to_send()


def _send_anything(end: ClientConnection | BrokerConnection, message: Message) -> bytes:
    """The frame as an end would write it that has no table."""
    before = end.MAY_SEND
    type(end).MAY_SEND = {state: dict.fromkeys(FrameType, State.OPEN) for state in State}
    try:
        end._send(message)
    finally:
        type(end).MAY_SEND = before
    return end.data_to_send()


@pytest.mark.parametrize("came", FrameType)
@pytest.mark.parametrize("state", BROKER_STATES)
def test_what_may_come_to_a_broker(state: State, came: FrameType) -> None:
    client, broker = broker_in(state)
    client.data_to_send()
    frame = _send_anything(client, ANY[came])
    if came in BrokerConnection.MAY_COME[state]:
        broker.receive_data(frame)
        assert broker.state is BrokerConnection.MAY_COME[state][came]
        assert broker.events() == [ANY[came]]
    else:
        _is_refused_for_good(broker, frame)


@pytest.mark.parametrize("came", FrameType)
@pytest.mark.parametrize("state", CLIENT_STATES)
def test_what_may_come_to_a_client(state: State, came: FrameType) -> None:
    client, broker = client_in(state)
    broker.data_to_send()
    frame = _send_anything(broker, ANY[came])
    if came not in ClientConnection.MAY_COME[state]:
        _is_refused_for_good(client, frame)
    elif came is FrameType.HELLO:
        client.receive_data(frame)
        assert client.state is State.AWAIT_WELCOME
        assert client.events() == []
    elif came is FrameType.WELCOME:  # its proof is of nothing
        with pytest.raises(AuthenticationError):
            client.receive_data(frame)
        assert client.state is State.FAILED
    else:
        client.receive_data(frame)
        assert client.state is ClientConnection.MAY_COME[state][came]
        assert client.events() == [ANY[came]]


def _is_refused_for_good(end: ClientConnection | BrokerConnection, data: bytes) -> None:
    was_closed = end.state is State.CLOSED
    with pytest.raises((RemoteProtocolError, AuthenticationError)):
        end.receive_data(data)
    assert end.state is (State.CLOSED if was_closed else State.FAILED)
    assert end.closed
    assert end.events() == []
    with pytest.raises(WireError):
        end.receive_data(data)
    with pytest.raises(WireError):
        end.send(DRAW)  # type: ignore[arg-type]
    end.receive_eof()


def test_tables_have_a_row_for_each_state_they_lead_to() -> None:
    for end in (ClientConnection, BrokerConnection):
        for table in (end.MAY_COME, end.MAY_SEND):
            reached = {state for row in table.values() for state in row.values()}
            assert reached <= end.MAY_COME.keys()
            assert end.MAY_COME.keys() == end.MAY_SEND.keys()


def test_a_whole_session() -> None:
    client, broker = new_client(), new_broker()
    auth = greet(client, broker)
    assert (auth.role, auth.id, auth.key_id) == (Role.CLIENT, "vm1", b"k" * 8)
    assert (auth.boot_id, auth.counter, auth.nonce) == (b"b" * 16, 7, b"n" * 32)
    broker.authenticate(KEYS.public, KEYS.psk)
    broker.welcome(WELCOME)
    client.receive_data(broker.data_to_send())
    assert (client.broker_id, client.epoch) == ("broker1", b"E" * 16)
    (welcome,) = client.events()
    assert client.welcome == welcome
    assert isinstance(welcome, Welcome)
    assert welcome._replace(proof=b"") == WELCOME
    exchanges: list[tuple[Draw | Feed | Recall, Block | Accepted | Retry]] = [
        (DRAW, BLOCK),
        (DRAW, RETRY),
        (FEED, ACCEPTED),
        (FEED, RETRY),
        (Recall(3), ACCEPTED),
    ]
    for request, answer in exchanges:
        client.send(request)
        broker.receive_data(client.data_to_send())
        assert broker.events() == [request]
        broker.send(answer)
        client.receive_data(broker.data_to_send())
        assert client.events() == [answer]
    broker.send(Refused(RefusedCode.SHUTDOWN))
    client.receive_data(broker.data_to_send())
    assert client.events() == [Refused(RefusedCode.SHUTDOWN)]
    assert client.closed
    assert broker.closed


def test_an_answer_and_a_goodbye_may_come_together() -> None:
    client, broker = broker_in(State.DRAWING)
    broker.send(BLOCK)
    broker.refuse(RefusedCode.SHUTDOWN)
    client.receive_data(broker.data_to_send())
    assert client.events() == [BLOCK, Refused(RefusedCode.SHUTDOWN)]


@pytest.mark.parametrize("state", BROKER_STATES)
def test_a_refusal_is_sealed_once_there_are_keys(state: State) -> None:
    client, broker = broker_in(state)
    if state is State.CLOSED:
        return
    hello = broker.data_to_send()
    broker.refuse(RefusedCode.LIMIT)
    refusal = broker.data_to_send()
    plain = header(FrameType.REFUSED, 1) + bytes((RefusedCode.LIMIT,))
    before_keys = state in (State.AWAIT_AUTH, State.AUTHENTICATING, State.PROVEN)
    assert (refusal == plain) == before_keys
    client.receive_data(hello + refusal)
    assert client.events() == [Refused(RefusedCode.LIMIT)]


def test_a_plain_refusal_is_not_believed_once_there_are_keys() -> None:
    client, _ = open_pair()
    _is_refused_for_good(client, header(FrameType.REFUSED, 1) + b"\x04")


# Proofs


def test_an_unknown_id_takes_the_same_path() -> None:
    _, broker = broker_in(State.AUTHENTICATING)
    nobody = derive(b"made at start, of random bytes..")
    with pytest.raises(AuthenticationError) as unknown:
        broker.authenticate(nobody.public, nobody.psk)
    _, other = broker_in(State.AUTHENTICATING)
    with pytest.raises(AuthenticationError) as wrong:
        other.authenticate(OTHER_KEYS.public, OTHER_KEYS.psk)
    assert str(unknown.value) == str(wrong.value)
    refusals = []
    for end in (broker, other):
        with pytest.raises(LocalProtocolError):
            end.welcome(WELCOME)
        with pytest.raises(LocalProtocolError):
            end.authenticate(KEYS.public, KEYS.psk)  # one try
        end.refuse(RefusedCode.AUTHENTICATION)
        refusals.append(end.data_to_send())
    assert refusals[0] == refusals[1]


@pytest.mark.parametrize(
    ("public_key", "psk"),
    [(KEYS.public, OTHER_KEYS.psk), (OTHER_KEYS.public, KEYS.psk), (bytes(32), KEYS.psk)],
)
def test_half_a_credential_is_none(public_key: bytes, psk: bytes) -> None:
    _, broker = broker_in(State.AUTHENTICATING)
    with pytest.raises(AuthenticationError):
        broker.authenticate(public_key, psk)


def test_a_low_order_ephemeral_is_refused_by_the_client() -> None:
    client = new_client()
    hello = bytearray(new_broker().data_to_send())
    at = bytes(hello).index(EPHEMERAL.public)
    hello[at : at + 32] = bytes(32)
    with pytest.raises(AuthenticationError):
        client.receive_data(bytes(hello))
    assert client.data_to_send() == b""


def test_who_holds_the_access_list_cannot_be_the_client() -> None:
    # X and p, but another x: the proof does not fit.
    thief = KEYS._replace(private=OTHER_KEYS.private)
    client, broker = new_client(keys=thief), new_broker()
    greet(client, broker)
    with pytest.raises(AuthenticationError):
        broker.authenticate(KEYS.public, KEYS.psk)


def test_who_holds_the_access_list_cannot_read_a_recording() -> None:
    # HELLO with E is recorded, and X and p are known; but neither e nor x.
    client, broker = new_client(), new_broker()
    hello = broker.data_to_send()
    client.receive_data(hello)
    thief = new_broker(ephemeral=type(EPHEMERAL).new(b"t" * 32))
    thief._hello_frame = hello
    thief.receive_data(client.data_to_send())
    with pytest.raises(AuthenticationError):
        thief.authenticate(KEYS.public, KEYS.psk)
    assert thief._agreement is None


def test_a_broker_that_does_not_know_the_credential_is_refused() -> None:
    client, broker = new_client(), new_broker()
    greet(client, broker)
    broker.refuse(RefusedCode.AUTHENTICATION)  # all that is left to an honest one
    welcome = WELCOME._replace(proof=b"?" * 32)
    _, liar = broker_in(State.AUTHENTICATING)
    with pytest.raises(AuthenticationError):
        client.receive_data(_send_anything(liar, welcome))
    assert client.welcome is None
    assert client.events() == []


def test_a_welcome_of_another_session_is_refused() -> None:
    _, broker = broker_in(State.PROVEN)
    broker.welcome(WELCOME)
    recorded = broker.data_to_send()
    client, broker = new_client(nonce=b"f" * 32), new_broker()
    greet(client, broker)
    with pytest.raises(AuthenticationError):
        client.receive_data(recorded)


@pytest.mark.parametrize("at", range(4, 31))
def test_no_figure_in_welcome_can_be_changed(at: int) -> None:
    client, broker = broker_in(State.PROVEN)
    broker.welcome(WELCOME)
    welcome = bytearray(broker.data_to_send())
    welcome[at] ^= 1
    with pytest.raises((AuthenticationError, RemoteProtocolError)):
        client.receive_data(bytes(welcome))
    assert client.welcome is None


def test_the_certificate_is_part_of_what_is_proved() -> None:
    client, broker = new_client(certificate_sha256=b"m" * 32), new_broker()
    greet(client, broker)
    with pytest.raises(AuthenticationError):
        broker.authenticate(KEYS.public, KEYS.psk)


@pytest.mark.parametrize(
    "changed",
    [
        {"certificate_names": []},
        {"certificate_names": ["broker2.lab.entropy.internal"]},
        {"certificate_names": ["broker1.lab2.entropy.internal"]},
        {"certificate_names": ["*.lab.entropy.internal"]},
        {"certificate_names": ["broker1.lab.entropy.internal.evil.example"]},
        {"site_id": "lab2"},
        {"broker_id": "broker2"},
    ],
)
def test_a_broker_must_be_who_its_certificate_says(changed: dict[str, object]) -> None:
    client = new_client(**changed)
    with pytest.raises(AuthenticationError):
        client.receive_data(new_broker().data_to_send())
    assert client.data_to_send() == b""


def test_a_certificate_may_carry_several_names() -> None:
    names = ["broker2.lab.entropy.internal", "broker1.lab.entropy.internal"]
    client = new_client(certificate_names=names, broker_id="broker1")
    client.receive_data(new_broker().data_to_send())
    assert client.data_to_send()


def test_a_wrong_field_of_ours_is_said_before_anything_is_sent() -> None:
    with pytest.raises(LocalProtocolError):
        new_client(id="not an id")
    with pytest.raises(LocalProtocolError):
        new_broker(nonce=b"short")


# Bounds and ends


def test_another_version_is_named() -> None:
    with pytest.raises(RemoteProtocolError, match="version 2"):
        new_client().receive_data(HEADER.pack(2, FrameType.HELLO, 10))


def test_the_bound_is_checked_on_the_header_alone() -> None:
    for end in (new_client(), new_broker()):
        (kind,) = [kind for kind in end.MAY_COME[end.state] if kind is not FrameType.REFUSED]
        with pytest.raises(RemoteProtocolError, match="most"):
            end.receive_data(header(kind, PLAIN_LIMIT_BYTES + 1))
        assert not end._buffer
    client, broker = client_in(State.DRAWING)
    broker.data_to_send()
    with pytest.raises(RemoteProtocolError, match="most"):
        client.receive_data(header(FrameType.BLOCK, SEALED_LIMIT_BYTES + 1))


def test_a_sealed_frame_that_cannot_hold_its_tag() -> None:
    for n_bytes in (0, 1, 15, 16):
        _, broker = open_pair()
        _is_refused_for_good(broker, header(FrameType.DRAW, n_bytes) + bytes(n_bytes))


@pytest.mark.parametrize("state", [State.AUTHENTICATING, State.PROVEN, State.DRAWING])
def test_a_client_may_not_run_ahead(state: State) -> None:
    _, broker = broker_in(state)
    _is_refused_for_good(broker, b"\x01")


@pytest.mark.parametrize("state", BROKER_STATES)
def test_a_client_may_leave_between_frames(state: State) -> None:
    _, broker = broker_in(state)
    broker.receive_eof()
    assert broker.closed


@pytest.mark.parametrize("state", CLIENT_STATES)
def test_a_broker_that_owes_something_may_not_leave(state: State) -> None:
    client, _ = client_in(state)
    if state in (State.OPEN, State.CLOSED, State.FAILED):
        client.receive_eof()
    else:
        with pytest.raises(RemoteProtocolError):
            client.receive_eof()
    assert client.closed


def test_an_end_within_a_frame_is_an_error() -> None:
    _, broker = open_pair()
    broker.receive_data(header(FrameType.DRAW, 23) + b"x")
    with pytest.raises(RemoteProtocolError):
        broker.receive_eof()
    client, _ = open_pair()
    client.receive_data(header(FrameType.REFUSED, 17))
    with pytest.raises(RemoteProtocolError):
        client.receive_eof()


def test_what_the_handshake_needed_is_dropped_after_it() -> None:
    client, broker = open_pair()
    assert (client._keys, client._auth, client._agreement) == (None, None, None)
    assert (broker._ephemeral, broker._agreement, broker._auth_frame) == (None, None, b"")


def test_no_message_shows_a_secret() -> None:
    client, broker = new_client(), new_broker()
    assert not hasattr(client, "__dict__")
    assert not hasattr(broker, "__dict__")
    assert repr(KEYS.private) not in repr(KEYS)
