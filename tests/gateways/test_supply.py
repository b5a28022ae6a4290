"""Which broker is asked next, and after which rest: every state with every event."""

from __future__ import annotations

import pytest

from entropy.gateways.supply import (
    FIRST_REST_SECONDS,
    LONGEST_REST_SECONDS,
    Event,
    State,
    Supply,
)

TABLE = {
    State.AWAY: {
        Event.CONNECTED: State.OPEN,
        Event.BROKEN: State.AWAY,
        Event.IDLE: State.AWAY,
        Event.DROPPED: State.AWAY,
    },
    State.OPEN: {
        Event.DELIVERED: State.OPEN,
        Event.NOT_NOW: State.AWAY,
        Event.BROKEN: State.AWAY,
        Event.IDLE: State.AWAY,
        Event.DROPPED: State.AWAY,
    },
}


def supply(n_brokers: int = 2) -> Supply:
    return Supply(n_brokers, lambda seconds: seconds)


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("event", Event)
def test_the_table(state: State, event: Event) -> None:
    it = supply()
    it.state = state
    after = TABLE[state].get(event)
    if after is None:
        with pytest.raises(KeyError):
            it.happened(event)
    else:
        it.happened(event)
        assert it.state is after


def test_the_next_broker_is_asked_at_once_and_rests_grow_between_rounds() -> None:
    it = supply()
    rests = [it.happened(Event.BROKEN) for _ in range(24)]
    assert rests[::2] == [0.0] * 12
    assert rests[1::2][:4] == [FIRST_REST_SECONDS * n for n in (1, 2, 4, 8)]
    assert rests[-1] == LONGEST_REST_SECONDS


def test_a_delivery_ends_the_growth() -> None:
    it = supply(1)
    for _ in range(5):
        it.happened(Event.BROKEN)
    it.happened(Event.CONNECTED)
    it.happened(Event.DELIVERED)
    assert it.happened(Event.BROKEN) == FIRST_REST_SECONDS


def test_the_shortest_time_that_a_broker_asked_for_counts() -> None:
    it = supply(2)
    for asked, rest in ((20.0, 0.0), (7.0, 7.0)):
        it.happened(Event.CONNECTED)
        assert it.happened(Event.NOT_NOW, asked) == rest
    # One that is away says nothing about the other.
    it.happened(Event.CONNECTED)
    it.happened(Event.NOT_NOW, 0.1)
    assert it.happened(Event.BROKEN) == FIRST_REST_SECONDS
    it.happened(Event.CONNECTED)
    it.happened(Event.NOT_NOW, 1e9)
    assert it.happened(Event.BROKEN) == LONGEST_REST_SECONDS


@pytest.mark.parametrize("event", [Event.IDLE, Event.DROPPED])
def test_afterwards_the_list_starts_at_its_top(event: Event) -> None:
    it = supply(3)
    it.happened(Event.BROKEN)
    assert it.position == 1
    it.happened(Event.CONNECTED)
    assert it.happened(event) == 0.0
    assert it.position == 0
