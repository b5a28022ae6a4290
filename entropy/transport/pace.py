"""Handshakes take at most half of the loop's time while others have something to do.

A handshake costs ten times what a draw costs, and anybody may begin one. So their costly steps
wait in one line, and each turn of the loop goes on with it for about as long as everything else
took in the turn before: sessions that are open lose at most half, whoever knocks. While there is
nothing else to do the line is worked off at full speed. Time is CPU time of this thread, so that a
busy machine changes nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Any, Callable, TypeVar

_IDLE_SECONDS = 0.0001  # a turn of the loop in which nothing else was done takes less
_MOST_SECONDS = 0.005  # in one turn, and of what is owed

Result = TypeVar("Result")


class HandshakePace:
    """One line for all listeners of a process. Made in a running loop."""

    def __init__(self, cpu_seconds: Callable[[], float] = time.thread_time) -> None:
        self._loop = asyncio.get_running_loop()
        self._cpu_seconds = cpu_seconds
        self._line: deque[tuple[asyncio.Future[Any], Callable[[], Any]]] = deque()
        self._going = False
        self._left_seconds = cpu_seconds()  # when the line was left to the others
        self._owed_seconds = 0.0  # to the others
        self.spent_seconds = 0.0  # on all steps so far

    async def run(self, step: Callable[[], Result]) -> Result:
        """What the step returns or raises, in its turn. Cancelled before, it is not done."""
        if not self._going:
            begin = self._cpu_seconds()
            budget_seconds = begin - self._left_seconds - self._owed_seconds
            if budget_seconds > 0:  # the common case: no line, and the others had their share
                try:
                    return step()
                finally:
                    self._leave(begin, budget_seconds)
            self._going = True
            self._loop.call_soon(self._go_on)
        outcome: asyncio.Future[tuple[Any, BaseException | None]] = self._loop.create_future()
        self._line.append((outcome, step))
        result, error = await outcome
        if error is not None:
            raise error
        return result  # type: ignore[no-any-return]

    def _leave(self, begin_seconds: float, budget_seconds: float) -> None:
        """Steps were done since begin_seconds: book them. It is the others' turn."""
        now = self._left_seconds = self._cpu_seconds()
        spent_seconds = now - begin_seconds
        self.spent_seconds += spent_seconds
        over_seconds = spent_seconds - min(budget_seconds, _MOST_SECONDS)
        self._owed_seconds = min(max(0.0, over_seconds), _MOST_SECONDS)

    def _go_on(self) -> None:
        begin = now = self._cpu_seconds()
        others_seconds = begin - self._left_seconds
        if others_seconds < _IDLE_SECONDS:
            self._owed_seconds = 0.0
        budget_seconds = min(others_seconds - self._owed_seconds, _MOST_SECONDS)
        least = 1 if others_seconds < _IDLE_SECONDS else 0  # nobody minds
        while self._line and (least > 0 or now - begin < budget_seconds):
            outcome, step = self._line.popleft()
            if outcome.done():
                continue
            least -= 1
            try:
                outcome.set_result((step(), None))
            except Exception as error:
                outcome.set_result((None, error))
            now = self._cpu_seconds()
        self._leave(begin, budget_seconds)
        self._going = bool(self._line)
        if self._going:
            self._loop.call_soon(self._go_on)
