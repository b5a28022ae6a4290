"""How a feeder that failed over comes home.

While it is with another broker it looks from time to time whether one that stands before that one
in its list can be logged in to. The session that a look opens is the one that it goes on with, so
nothing is given up for a broker that only seems to be back.

The looks come at first within half a minute, then at intervals that double, so that a feeder is
home after about as long again as its broker was away, and after some minutes at most. They begin
quickly again when a stay at home has lasted: a broker that falls over as soon as it is fed is left
alone for longer and longer. All feeders of a broker that is gone begin to wait at the same moment;
what they wait is spread so wide that they do not return together.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from entropy.errors import EntropyError

T = TypeVar("T")


def spread_wide(seconds: float) -> float:
    """`seconds`, half as much more or less."""
    return seconds * random.uniform(0.5, 1.5)


class Homeward(Generic[T]):
    """The looks of one feeder.

    first_seconds: from the loss of a broker to the first look, and last_seconds between two when
    they have grown; both are spread by half. log_in: opens a session at an endpoint; EntropyError
    if there is none to be had. say: is told an endpoint, and what is wrong with it.
    """

    def __init__(
        self,
        first_seconds: float,
        last_seconds: float,
        log_in: Callable[[str], Awaitable[T]],
        say: Callable[[str, str], None],
    ) -> None:
        self._first_seconds = first_seconds
        self._last_seconds = last_seconds
        self._log_in = log_in
        self._say = say
        self.wait_seconds = first_seconds  # before the next look, not spread

    async def look(self, endpoints: Sequence[str]) -> T:
        """Look until one of the endpoints can be logged in to: the session there."""
        while True:
            await asyncio.sleep(spread_wide(self.wait_seconds))
            self.wait_seconds = min(2 * self.wait_seconds, self._last_seconds)
            for endpoint in endpoints:
                try:
                    return await self._log_in(endpoint)
                except EntropyError as error:
                    self._say(endpoint, str(error))

    def was_home(self, seconds: float) -> None:
        """A session with the first broker has ended that lasted so long."""
        if seconds >= self.wait_seconds:
            self.wait_seconds = self._first_seconds
