"""However the bytes are portioned on their way, the same events and bytes come out."""

from __future__ import annotations

from typing import Union

from hypothesis import given
from hypothesis import strategies as st

from entropy.errors import WireError
from entropy.wire.broker import BrokerConnection
from entropy.wire.client import ClientConnection
from entropy.wire.codes import RefusedCode
from entropy.wire.frames import Accepted, Auth, Block, Draw, Feed, Message, Recall, Retry, Welcome
from tests.wire.messages import ACCEPTEDS, REQUESTS, RETRIES, blocks
from tests.wire.pair import KEYS, WELCOME, new_broker, new_client, open_pair

Answer = Union[Block, Accepted, Retry]
FOR_A_DRAW: st.SearchStrategy[Answer] = st.one_of(RETRIES, blocks())
FOR_A_FEED: st.SearchStrategy[Answer] = st.one_of(RETRIES, ACCEPTEDS)


def _deliver(
    end: ClientConnection | BrokerConnection, data: bytes, sizes: list[int]
) -> list[Message]:
    """Hands `data` over in portions of these sizes, the last of which is the rest."""
    events: list[Message] = []
    at = 0
    for n_bytes in [*sizes, len(data)]:
        end.receive_data(data[at : at + n_bytes])
        events += end.events()
        at += n_bytes
    return events


@given(
    st.lists(REQUESTS, max_size=4),
    st.lists(st.integers(0, 90), max_size=6),
    st.lists(st.integers(0, 90), max_size=6),
    st.data(),
)
def test_a_session_in_any_portions(
    requests: list[Draw | Feed | Recall],
    to_broker: list[int],
    to_client: list[int],
    data: st.DataObject,
) -> None:
    client, broker = new_client(), new_broker()
    assert _deliver(client, broker.data_to_send(), to_client) == []
    (auth,) = _deliver(broker, client.data_to_send(), to_broker)
    assert isinstance(auth, Auth)
    broker.authenticate(KEYS.public, KEYS.psk)
    broker.welcome(WELCOME)
    (welcome,) = _deliver(client, broker.data_to_send(), to_client)
    assert isinstance(welcome, Welcome)
    for request in requests:
        client.send(request)
        assert _deliver(broker, client.data_to_send(), to_broker) == [request]
        answer = data.draw(FOR_A_DRAW if isinstance(request, Draw) else FOR_A_FEED)
        broker.send(answer)
        assert _deliver(client, broker.data_to_send(), to_client) == [answer]


@given(st.integers(0, 200), st.integers(1, 255), st.lists(st.integers(1, 60), max_size=8))
def test_so_do_errors(at: int, change: int, sizes: list[int]) -> None:
    """A session's last bytes with one changed: the same events and then the same error."""
    outcomes = []
    for portions in ([], sizes):
        client, broker = open_pair()
        client.send(Draw(1, 64, 0))  # type: ignore[arg-type]
        broker.receive_data(client.data_to_send())
        broker.send(Block(1, 448, ("rng1",), bytes(64)))
        broker.refuse(RefusedCode.SHUTDOWN)
        data = bytearray(broker.data_to_send())
        if at < len(data):
            data[at] ^= change
        outcome: list[object] = []
        try:
            for start, end in zip(_starts(portions), [*_starts(portions)[1:], len(data)]):
                client.receive_data(bytes(data[start:end]))
        except WireError as error:
            outcome.append((type(error), str(error)))
        else:
            try:  # a length that became greater shows when no more comes
                client.receive_eof()
            except WireError as error:
                outcome.append((type(error), str(error)))
        outcomes.append([*client.events(), client.closed, *outcome])
    assert outcomes[0] == outcomes[1]


def _starts(sizes: list[int]) -> list[int]:
    starts = [0]
    for n_bytes in sizes:
        starts.append(starts[-1] + n_bytes)
    return starts
