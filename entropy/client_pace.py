"""When the client draws next, and what: no clock and no network in here.

A seed until one was worth something, then top-ups. What fails is tried again after a time that
doubles, jittered, so that a fleet that lost its brokers together does not come back together.
Whatever brokers answer, there is never less than FIRST_BACKOFF_SECONDS / 2 between two rounds
that brought nothing, nor less than 0.8 s between any.
"""

from __future__ import annotations

import time
from typing import NamedTuple

from entropy import kernel
from entropy.wire.codes import DrawKind

FIRST_BACKOFF_SECONDS = 2.0
LONGEST_BACKOFF_SECONDS = 300.0
SPREAD = 0.2  # a fleet that was started together must not draw together
LONGEST_INTERVAL_SECONDS = 86_400
CLONE_PAUSE_SECONDS = 10.0  # a sign that comes more often than this is a faulty sign


class Fed(NamedTuple):
    """What one round over the brokers brought."""

    credit_bits: int  # what the broker said that the bytes are worth
    interval_seconds: int  # until the next top-up, as the broker or the configuration has it
    rate_bytes_per_second: int = 64  # what this client may take on average


class Nothing(NamedTuple):
    """No broker gave anything; ask again after this time or more."""

    after_seconds: float


class Pace:
    """What to draw next, and how long to wait before it."""

    def __init__(self) -> None:
        self.kind = DrawKind.SEED
        self.failures = 0  # in a row
        self._cloned_seconds = -CLONE_PAUSE_SECONDS

    def after(self, outcome: Fed | Nothing) -> float:
        """A round is over: the seconds until the next."""
        worthy = isinstance(outcome, Fed) and outcome.credit_bits > 0
        if isinstance(outcome, Fed) and (worthy or self.kind is DrawKind.TOPUP):
            self.kind, self.failures = DrawKind.TOPUP, 0
            return spread(max(1, min(outcome.interval_seconds, LONGEST_INTERVAL_SECONDS)))
        # A seed worth nothing makes twins diverge, but a worthy one is still due.
        self.failures += 1
        wait_seconds = backoff_seconds(self.failures)
        if isinstance(outcome, Nothing):
            # Not sooner than we were told, but no broker silences us for longer than this.
            told_seconds = min(outcome.after_seconds, LONGEST_BACKOFF_SECONDS)
            wait_seconds = max(wait_seconds, told_seconds * (1 + SPREAD * _fraction()))
        return wait_seconds

    def cloned(self, now_seconds: float) -> float:
        """This machine is another since now_seconds: a seed is due, at once but for faulty signs.

        Returns the seconds until then.
        """
        self.kind, self.failures = DrawKind.SEED, 0
        wait_seconds = max(0.0, self._cloned_seconds + CLONE_PAUSE_SECONDS - now_seconds)
        self._cloned_seconds = now_seconds + wait_seconds
        return wait_seconds


def spread(seconds: float) -> float:
    """`seconds`, give or take 20 %."""
    return seconds * (1 - SPREAD + 2 * SPREAD * _fraction())


def backoff_seconds(failures: int) -> float:
    """How long to wait after so many failures in a row (1 or more): doubling, jittered, bounded."""
    longest = min(FIRST_BACKOFF_SECONDS * 2.0 ** min(failures - 1, 30), LONGEST_BACKOFF_SECONDS)
    return longest * (0.5 + 0.5 * _fraction())


def _fraction() -> float:
    """A number from 0 to 1. Not secret; `random` would cost memory, and block on a young kernel."""
    noise = kernel.random_bytes(4) or time.monotonic_ns().to_bytes(8, "big")[4:]
    return int.from_bytes(noise, "big") / 2**32
