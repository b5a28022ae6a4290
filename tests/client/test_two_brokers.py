"""Seeds that are made of two brokers' replies, so that no broker decides alone."""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entropy import client
from entropy.client_feed import Client, combine
from entropy.client_pace import Fed, Nothing
from entropy.client_state import ClientState
from entropy.config import load_client
from entropy.errors import ConfigError
from entropy.wire.codes import DrawKind, RetryReason
from entropy.wire.frames import Block, Retry

if TYPE_CHECKING:
    from tests.client.conftest import FakeKernel, Fleet

SEED, TOPUP = DrawKind.SEED, DrawKind.TOPUP


def test_one_hash_over_both_and_the_lower_credit(fleet: Fleet, fake_kernel: FakeKernel) -> None:
    one, two = fleet.broker(), fleet.broker()
    first, second = bytes(64), bytes(range(64))
    one.answer = lambda _: Block(1, 448, ("rng1",), first)
    two.answer = lambda _: Block(9, 200, ("rng2",), second)
    # The order of the list is not the order of the hash.
    config = fleet.config(two.endpoint, one.endpoint, two_brokers=True)
    assert Client(config).feed(SEED, 10) == Fed(200, 600)
    whole = b"".join(
        len(part).to_bytes(4, "big") + part for part in (b"broker1", first, b"broker2", second)
    )
    expected = hmac.new(b"entropy/1 two brokers", whole, hashlib.sha512).digest()
    assert fake_kernel.added == [(expected, 200)]
    state = ClientState(str(fleet.folder / "state")).read()
    assert state["last_broker"] == "broker1+broker2"


def test_the_same_broker_twice_is_one(
    fleet: Fleet, fake_kernel: FakeKernel, capsys: pytest.CaptureFixture[str]
) -> None:
    """As behind a virtual address: another endpoint, the same broker."""
    broker = fleet.broker()
    other_name = broker.endpoint.replace("127.0.0.1", "localhost")
    config = fleet.config(broker.endpoint, other_name, two_brokers=True)
    assert Client(config).feed(SEED, 10) == Nothing(300)
    assert broker.draws == [], "what cannot be used is not drawn"
    assert fake_kernel.added == fake_kernel.mixed == []
    assert "these can be had: broker1" in capsys.readouterr().err


def test_a_third_broker_stands_in(
    fleet: Fleet, fake_kernel: FakeKernel, dead_endpoint: str
) -> None:
    one, two = fleet.broker(), fleet.broker()
    config = fleet.config(dead_endpoint, one.endpoint, two.endpoint, two_brokers=True)
    assert isinstance(Client(config).feed(SEED, 10), Fed)
    assert [len(broker.draws) for broker in (one, two)] == [1, 1]


def test_it_waits_rather_than_take_one(
    fleet: Fleet, fake_kernel: FakeKernel, dead_endpoint: str
) -> None:
    one = fleet.broker()
    config = fleet.config(one.endpoint, dead_endpoint, two_brokers=True)
    assert Client(config).feed(SEED, 10) == Nothing(0)
    assert client.run(config, once=True) == 1
    assert one.draws == []
    assert fake_kernel.added == []


def test_one_of_them_has_nothing(fleet: Fleet, fake_kernel: FakeKernel) -> None:
    fleet.broker()
    fleet.broker().answer = lambda _: Retry(7000, RetryReason.EMPTY)
    assert Client(fleet.config(two_brokers=True)).feed(SEED, 10) == Nothing(7)
    assert fake_kernel.added == []


def test_a_topup_takes_one(fleet: Fleet, fake_kernel: FakeKernel) -> None:
    one, two = fleet.broker(), fleet.broker()
    assert isinstance(Client(fleet.config(two_brokers=True)).feed(TOPUP, 10), Fed)
    assert [len(broker.draws) for broker in (one, two)] == [1, 0]


def test_two_brokers_need_two_endpoints(fleet: Fleet) -> None:
    fleet.broker()
    with pytest.raises(ConfigError, match="names one endpoint only"):
        load_client(fleet.config_file(two_brokers=True))


BLOCK = st.builds(
    Block, st.just(1), st.integers(0, 512), st.just(("rng",)), st.binary(min_size=1, max_size=64)
)


@given(BLOCK, BLOCK, BLOCK)
def test_combining(one: Block, two: Block, other: Block) -> None:
    made = combine({"a": one, "b": two})
    assert made == combine({"b": two, "a": one})
    assert len(made.data) == min(len(one.data), len(two.data))
    assert made.credit_bits <= min(one.credit_bits, two.credit_bits, 8 * len(made.data))
    if len(made.data) >= 16 and other.data != two.data and len(other.data) >= len(made.data):
        assert combine({"a": one, "b": other}).data[:16] != made.data[:16]
