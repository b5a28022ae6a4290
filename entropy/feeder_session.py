"""A feeder's way to its brokers: one session at a time, to the first of the list that answers.

When a session ends, or another broker than the first has been fed for a while, the list is tried
again from its top; between sessions a feeder has none, so it never feeds two brokers at once.
Before the list is tried again there is a wait; when no broker answers the waits grow, with jitter,
so that a fleet does not return in step.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from typing import NamedTuple, NoReturn

from entropy import errors, notify
from entropy.conditioner import BLOCK_BITS
from entropy.config import FeederConfig
from entropy.credentials import Credential, load_credential
from entropy.errors import ConfigError, CredentialError, EntropyError, RemoteProtocolError
from entropy.login import CredentialWatch, log_in
from entropy.outbox import Outbox
from entropy.transport.aio import AsyncClientConnection
from entropy.wire.codes import Role
from entropy.wire.frames import FEED_LIMIT_BLOCKS, Accepted, Feed, Recall, Refused, Retry


class Pace(NamedTuple):
    """How long a feeder waits for what, in seconds. Waits are spread by +-20 %."""

    gather_seconds: float = 0.2  # for samples to come together, then for blocks: fewer steps
    reply_seconds: float = 10  # for a connection, and for each answer
    full_seconds: float = 3  # between two questions whether a full reservoir has room again
    least_retry_seconds: float = 0.1  # after RETRY, also from a broker that says 0
    idle_seconds: float = 15  # between two words when there is nothing to push
    first_retry_seconds: float = 1  # after a session; doubles when no broker answers
    last_retry_seconds: float = 60
    return_seconds: float = 300  # with another broker than the first, before trying that again
    look_seconds: float = 2  # between two looks whether the credential was replaced
    source_retry_seconds: float = 2  # between two looks for a source that is gone or fails
    silence_seconds: float = 60  # a read that takes longer is worth a word


def spread(seconds: float) -> float:
    """`seconds`, 20 % more or less."""
    return seconds * random.uniform(0.8, 1.2)


def own_credential(config: FeederConfig) -> Credential:
    """The feeder's credential. Raises CredentialError; ConfigError if it is another site's."""
    credential = load_credential(config.credential)
    if credential.site_id != config.site_id:
        raise ConfigError(
            f"{config.credential}: is for the site {credential.site_id!r},"
            f" but feeder.site_id says {config.site_id!r}"
        )
    if "feed" not in credential.permissions:
        raise CredentialError(
            f"{config.credential}: {credential.id!r} may not feed; its permissions are:"
            f" {', '.join(sorted(credential.permissions)) or 'none'}"
        )
    return credential


async def connect(
    config: FeederConfig, endpoint: str, timeout_seconds: float
) -> AsyncClientConnection:
    """Open a session as this feeder. Every file is read anew: rotation needs no restart."""
    return await log_in(
        endpoint, own_credential(config), config.ca, Role.FEEDER, timeout_seconds=timeout_seconds
    )


class CreditPace:
    """How many blocks may be pushed now under the broker's cap in bits per second.

    The broker credits one second's worth at once at most, and never less than a block; this side
    stays a little below, since two clocks do not run alike. It starts with nothing: the broker
    may remember the session before.
    """

    def __init__(self, credit_bits_per_second: int, now_seconds: float) -> None:
        self._rate = 0.98 * credit_bits_per_second
        self._burst_bits = max(self._rate, float(BLOCK_BITS))
        self._bits = 0.0
        self._at_seconds = now_seconds

    def blocks(self, now_seconds: float) -> int:
        self._bits += max(0.0, now_seconds - self._at_seconds) * self._rate
        self._bits = min(self._bits, self._burst_bits)
        self._at_seconds = now_seconds
        return int(self._bits) // BLOCK_BITS

    def pushed(self, n_blocks: int) -> None:
        self._bits -= BLOCK_BITS * n_blocks

    def next_seconds(self) -> float:
        """How long until one block may go."""
        if not self._rate:
            return float("inf")
        return max(0.0, (BLOCK_BITS - self._bits) / self._rate)


class BrokerSession:
    """Pushes an outbox to the brokers of a list, one session after the other.

    changed: called when the fill is known anew, a session began or ended, or blocks have gone.
    """

    def __init__(
        self, config: FeederConfig, outbox: Outbox, pace: Pace, changed: Callable[[], None]
    ) -> None:
        self._config = config
        self._outbox = outbox
        self._pace = pace
        self._changed = changed
        self._credential = CredentialWatch(config.credential, lambda: own_credential(config))
        self._work = asyncio.Event()
        self._last_said: dict[str, str] = {}  # by endpoint, to say each trouble once
        self._answered = False
        self.broker_id: str | None = None  # None while there is no session
        self.fill_blocks = 0
        self.capacity_blocks = 0

    @property
    def full(self) -> bool:
        """Whether there is a session, and its broker has no room."""
        return self.broker_id is not None and self.fill_blocks >= self.capacity_blocks

    def wake(self) -> None:
        """There is something in the outbox, or to be recalled."""
        self._work.set()

    async def run(self) -> NoReturn:
        """Goes on until it is cancelled."""
        wait_seconds = self._pace.first_retry_seconds
        while True:
            if await self._one_round():
                wait_seconds = self._pace.first_retry_seconds
            # Also after a session: sessions that break at once must not become a storm of them.
            await asyncio.sleep(spread(wait_seconds))
            wait_seconds = min(2 * wait_seconds, self._pace.last_retry_seconds)

    async def _one_round(self) -> bool:
        """Try the list from its top, until one session has come to something. False: none did."""
        for endpoint in self._config.brokers:
            self._credential.begin()
            try:
                connection = await connect(self._config, endpoint, self._pace.reply_seconds)
            except EntropyError as error:
                self._say_once(endpoint, str(error))
                continue
            if await self._with(connection):
                return True
        return False

    async def _with(self, connection: AsyncClientConnection) -> bool:
        """One session, to its end. True if the broker answered in it at all."""
        self._answered = False
        self._outbox.begin_session()
        self.broker_id = connection.broker_id
        self._note_fill(connection.welcome.fill_blocks, connection.welcome.capacity_blocks)
        notify.log(f"connected to {self.broker_id} at {connection.endpoint}")
        try:
            await self._converse(connection)
        except EntropyError as error:
            self._say_once(connection.endpoint, f"{self.broker_id}: {error}")
        finally:
            connection.close()
            n_blocks = self._outbox.end_session()
            if n_blocks:
                notify.log(
                    f"the session with {self.broker_id} ended before it could be told to drop"
                    f" {n_blocks} blocks from near a failure",
                    notify.ERROR,
                )
            self.broker_id = None
            self._changed()
        return self._answered

    async def _converse(self, connection: AsyncClientConnection) -> None:
        """Push, recall and ask, until the session breaks, or it is time for the first broker, or
        for another key."""
        now = asyncio.get_running_loop().time
        credit = CreditPace(connection.welcome.credit_bits_per_second, now())
        is_first = connection.endpoint == self._config.brokers[0]
        end = float("inf") if is_first else now() + spread(self._pace.return_seconds)
        ask_at = now()
        push_at: float | None = None  # when the blocks that are held have waited for more
        quiet_until = now()  # the broker wants to hear of nothing but a recall
        recall_at = now()  # nor of that, where it was the recall that it put off
        while self._outbox.recall is not None or now() < end:  # only in this session can it recall
            if self._credential.has_new_key() and self._outbox.recall is None:
                notify.log(f"{self._config.credential} was replaced: logging in anew")
                return
            self._work.clear()
            recall = self._outbox.recall
            request: Feed | Recall | None = recall if now() >= recall_at else None
            if recall is None and now() >= quiet_until:
                held_blocks = self._outbox.held_blocks
                if push_at is None and held_blocks:
                    push_at = now() + self._pace.gather_seconds
                gathered = held_blocks >= FEED_LIMIT_BLOCKS or (push_at or 0.0) <= now()
                room_blocks = self.capacity_blocks - self.fill_blocks
                n_blocks = min(held_blocks, credit.blocks(now()), room_blocks)
                if n_blocks > 0 and gathered:
                    request = self._outbox.take(min(n_blocks, FEED_LIMIT_BLOCKS))
                    credit.pushed(len(request.blocks))
                    push_at = None
                elif now() >= ask_at:
                    request = self._outbox.ask()
            if request is None:
                wake_at = ask_at
                if push_at is not None and not self.full:
                    wake_at = min(wake_at, max(push_at, now() + credit.next_seconds()))
                wake_at = min(max(wake_at, quiet_until), end) if recall is None else recall_at
                await self._wait_for_work(min(wake_at - now(), self._pace.look_seconds))
            else:
                quiet_seconds = await self._request(connection, request)
                quiet_until = max(quiet_until, now() + quiet_seconds)
                if isinstance(request, Recall):
                    recall_at = now() + quiet_seconds
                silence_seconds = self._pace.full_seconds if self.full else self._pace.idle_seconds
                ask_at = now() + spread(silence_seconds)

    async def _wait_for_work(self, seconds: float) -> None:
        """Until `wake` is called, or so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, seconds)):
                await self._work.wait()

    async def _request(self, connection: AsyncClientConnection, request: Feed | Recall) -> float:
        """Ask and book the answer. Returns how long the broker wants to be left alone."""
        reply = await connection.request(request)
        if isinstance(reply, Refused):
            raise errors.Refused(reply.code)
        self._answered = True
        if isinstance(reply, Retry):
            self._say_once(connection.endpoint, f"{self.broker_id}: {_not_taken(request, reply)}")
            return max(reply.after_ms / 1000, self._pace.least_retry_seconds)
        if not isinstance(reply, Accepted):
            raise RemoteProtocolError(f"{self.broker_id} answered with a block that nobody drew")
        self._last_said.pop(connection.endpoint, None)
        if isinstance(request, Recall):
            self._outbox.recalled(request)
            notify.log(
                f"{self.broker_id} was told to drop what it held from block"
                f" {request.sequence} of this session on"
            )
        else:
            self._outbox.accepted(reply.credited_bits)
        self._note_fill(reply.fill_blocks, reply.capacity_blocks)
        return 0.0

    def _note_fill(self, fill_blocks: int, capacity_blocks: int) -> None:
        self.fill_blocks, self.capacity_blocks = fill_blocks, capacity_blocks
        self._changed()

    def _say_once(self, endpoint: str, text: str) -> None:
        if self._last_said.get(endpoint) != text:
            self._last_said[endpoint] = text
            notify.log(text, notify.WARNING)


def _not_taken(request: Feed | Recall, reply: Retry) -> str:
    what = f"{len(request.blocks)} blocks were not taken" if isinstance(request, Feed) else "recall"
    return f"{what}: {errors.RetryLater(reply.after_ms / 1000, reply.why)}"
