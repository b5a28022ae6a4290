"""What an operator should look into: signs of clones and of copied credentials."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Callable, NamedTuple

from entropy.notify import WARNING, Log

_REMEMBERED = 100  # all are counted
_OF_ONE_ID = 5  # of them, in
_SECONDS = 600


class Alarm(NamedTuple):
    unix: float
    id: str  # whose credential it is about, or the broker's own id
    text: str


class Alarms:
    """The last ones; `n` counts all that there were."""

    def __init__(self, unix_seconds: Callable[[], float], log: Log) -> None:
        self._unix_seconds = unix_seconds
        self._log = log
        self._kept: deque[Alarm] = deque(maxlen=_REMEMBERED)
        self.n = 0

    def __iter__(self) -> Iterator[Alarm]:
        return iter(self._kept)

    def __len__(self) -> int:
        return len(self._kept)

    def note(self, name: str, text: str) -> None:
        """Counted always; said and kept so often for one id only, or it would bury the others'."""
        self.n += 1
        now = self._unix_seconds()
        own = [alarm for alarm in self._kept if alarm.id == name]
        if len(own) >= _OF_ONE_ID:
            # A clock that was set back must not silence the id until it has caught up.
            if 0 <= now - own[0].unix < _SECONDS:
                return
            self._kept.remove(own[0])
        self._kept.append(Alarm(now, name, f"{name}: {text}"))
        self._log(f"{name}: {text}", WARNING)
