"""A gateway's way to the brokers: what it does next. No input, output or clock.

    AWAY   no session; the next thing is to connect, or to rest first
    OPEN   a session; the next thing is to draw

A broker that has nothing for us, or cannot be reached, gives way to the next of the list at once.
When the list is at its end there is a rest, longer after each round that brought nothing, and
never shorter than a broker asked for. After a rest the list is tried from its top.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto

FIRST_REST_SECONDS = 1.0
LONGEST_REST_SECONDS = 60.0


class State(Enum):
    AWAY = auto()
    OPEN = auto()


class Event(Enum):
    CONNECTED = auto()
    DELIVERED = auto()  # bytes that are worth something
    NOT_NOW = auto()  # RETRY, or bytes that are worth nothing
    BROKEN = auto()  # no connection, a session that broke, REFUSED
    IDLE = auto()  # nothing more is wanted for a while
    DROPPED = auto()  # this machine was cloned, or its credential changed: the keys must go


_NEXT = {
    (State.AWAY, Event.CONNECTED): State.OPEN,
    (State.AWAY, Event.BROKEN): State.AWAY,
    (State.AWAY, Event.IDLE): State.AWAY,
    (State.AWAY, Event.DROPPED): State.AWAY,
    (State.OPEN, Event.DELIVERED): State.OPEN,
    (State.OPEN, Event.NOT_NOW): State.AWAY,
    (State.OPEN, Event.BROKEN): State.AWAY,
    (State.OPEN, Event.IDLE): State.AWAY,
    (State.OPEN, Event.DROPPED): State.AWAY,
}


class Supply:
    """spread: makes a time a little longer or shorter, so that gateways do not come in step."""

    def __init__(self, n_brokers: int, spread: Callable[[float], float]) -> None:
        self.state = State.AWAY
        self.position = 0  # in the list
        self.failures = 0  # rounds in a row that brought nothing
        self._n_brokers = n_brokers
        self._spread = spread
        self._asked_seconds: float | None = None  # the shortest rest that a broker asked for

    def happened(self, event: Event, after_seconds: float = 0.0) -> float:
        """Book it. Returns how long to rest now, in seconds.

        after_seconds: what a broker asked for with NOT_NOW. KeyError for what cannot happen.
        """
        self.state = _NEXT[self.state, event]
        if event is Event.DELIVERED:
            self.failures, self._asked_seconds = 0, None
        elif event in (Event.IDLE, Event.DROPPED):
            self.position, self._asked_seconds = 0, None
        elif event in (Event.NOT_NOW, Event.BROKEN):
            if event is Event.NOT_NOW:
                asked = self._asked_seconds
                self._asked_seconds = after_seconds if asked is None else min(asked, after_seconds)
            return self._next_broker()
        return 0.0

    def _next_broker(self) -> float:
        self.position += 1
        if self.position < self._n_brokers:
            return 0.0
        self.position = 0
        self.failures += 1
        asked_seconds, self._asked_seconds = self._asked_seconds, None
        if asked_seconds is not None:  # it is there: what it says is better than a guess
            rest_seconds = max(asked_seconds, FIRST_REST_SECONDS)
        else:
            rest_seconds = FIRST_REST_SECONDS * 2.0 ** min(self.failures - 1, 30)
        return self._spread(min(rest_seconds, LONGEST_REST_SECONDS))
