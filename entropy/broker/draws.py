"""Whose draw is next: seeds first, fair over ids by bytes. No I/O and no clock.

Fairness is start-time fair queueing (Goyal, Vin, Cheng 1996) with bytes for time: an id that was
served n bytes from tag t on starts its next draw at t + n or, if it was away meanwhile, at the
tag that the queue has come to. The smallest tag goes first. So an id that takes much is overtaken
by those that take little, and nobody saves up a claim by staying away.

Every operation costs at most the logarithm of how many draws wait.
"""

from __future__ import annotations

import heapq
from typing import Protocol

SEEDS_IN_A_ROW = 7  # then a topup, if one waits: one grant in eight


class Owner(Protocol):
    """An id, as far as this queue cares."""

    finish_tag: int  # where its next draw may start


class WaitingDraw:
    """One draw of one id, from when it was asked until it is answered or given up."""

    __slots__ = ("_tag", "gone", "n_bytes", "owner", "seed")

    def __init__(self, owner: Owner, n_bytes: int, *, seed: bool) -> None:
        self.owner = owner
        self.n_bytes = n_bytes
        self.seed = seed
        self.gone = False
        self._tag = 0


class FairQueue:
    """The draws that wait."""

    def __init__(self) -> None:
        self._tag = 0  # of the last draw that was served
        self._n_pushed = 0  # orders equal tags by arrival
        self._seeds: list[tuple[int, int, WaitingDraw]] = []
        self._topups: list[tuple[int, int, WaitingDraw]] = []
        self._n_waiting = [0, 0]  # topups, seeds
        self._seeds_in_a_row = 0

    def __len__(self) -> int:
        return self._n_waiting[0] + self._n_waiting[1]

    def push(self, draw: WaitingDraw) -> None:
        draw._tag = max(self._tag, draw.owner.finish_tag)
        self._n_pushed += 1
        heapq.heappush(self._heap(draw.seed), (draw._tag, self._n_pushed, draw))
        self._n_waiting[draw.seed] += 1

    def pop(self) -> WaitingDraw:
        """The next draw. IndexError if none waits."""
        n_topups, n_seeds = self._n_waiting
        seed = n_seeds > 0 and (n_topups == 0 or self._seeds_in_a_row < SEEDS_IN_A_ROW)
        heap = self._heap(seed)
        draw = heapq.heappop(heap)[2]
        while draw.gone:
            draw = heapq.heappop(heap)[2]
        self._leave(draw)
        self._seeds_in_a_row = min(self._seeds_in_a_row + 1, SEEDS_IN_A_ROW) if seed else 0
        self._tag = max(self._tag, draw._tag)
        return draw

    def served(self, draw: WaitingDraw, n_bytes: int) -> None:
        """A draw that was popped got n_bytes."""
        draw.owner.finish_tag = draw._tag + n_bytes

    def discard(self, draw: WaitingDraw) -> None:
        """Forget a draw, wherever it stands; no matter if it has left already."""
        if draw.gone:
            return
        self._leave(draw)
        heap = self._heap(draw.seed)
        if len(heap) > 2 * self._n_waiting[draw.seed] + 16:  # mostly gone ones: sweep
            heap[:] = [entry for entry in heap if not entry[2].gone]
            heapq.heapify(heap)

    def _heap(self, seed: bool) -> list[tuple[int, int, WaitingDraw]]:
        return self._seeds if seed else self._topups

    def _leave(self, draw: WaitingDraw) -> None:
        draw.gone = True
        self._n_waiting[draw.seed] -= 1
