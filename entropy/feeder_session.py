"""A feeder's way to its brokers: one session at a time, to the first of the list that answers.

When a session ends the list is tried again from its top, after a wait; when no broker answers the
waits grow, with jitter, so that a fleet does not return in step. From another broker than the first
a feeder goes home when the first can be logged in to again (`feeder_home`). It is logged in to both
for a moment then, but blocks go only to the one: it stops pushing there before it leaves, and what
it has pushed is past recall by then, unless that takes too long.

When the machine was copied the session is dropped, or the login that is under way: no word of
before leaves any more.
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
from entropy.feeder_home import Homeward
from entropy.login import CredentialWatch, log_in
from entropy.outbox import Outbox
from entropy.transport.aio import AsyncClientConnection
from entropy.wire.codes import Role
from entropy.wire.frames import FEED_LIMIT_BLOCKS, Accepted, Feed, Recall, Refused, Retry


class Pace(NamedTuple):
    """How long a feeder waits for what, in seconds. Waits are spread by 20 %, *_home_* by 50."""

    gather_seconds: float = 0.2  # for samples to come together, then for blocks: fewer steps
    reply_seconds: float = 10  # for a connection, and for each answer
    full_seconds: float = 3  # between two questions whether a full reservoir has room again
    least_retry_seconds: float = 0.1  # after RETRY, also from a broker that says 0
    idle_seconds: float = 15  # between two words when there is nothing to push
    first_retry_seconds: float = 1  # after a session; doubles when no broker answers
    last_retry_seconds: float = 60
    first_home_seconds: float = 20  # with another broker, before looking for the first; doubles
    last_home_seconds: float = 200
    leave_seconds: float = 3  # for the last blocks to be past recall, before going home
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


class _Opened(NamedTuple):
    """A session, and the credential's file as it was then."""

    connection: AsyncClientConnection
    credential: CredentialWatch


class BrokerSession:
    """Pushes an outbox to the brokers of a list, one session after the other.

    changed: called when the fill is known anew, a session began or ended, or blocks have gone.
    check: called before anything is said to a broker; it may call `drop`.
    """

    def __init__(
        self,
        config: FeederConfig,
        outbox: Outbox,
        pace: Pace,
        changed: Callable[[], None],
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self._config = config
        self._outbox = outbox
        self._pace = pace
        self._changed = changed
        self._check = check
        self._homeward = Homeward(
            pace.first_home_seconds, pace.last_home_seconds, self._open, self._say_once
        )
        self._opened: _Opened | None = None  # the session
        self._round: asyncio.Task[bool] | None = None
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

    def drop(self) -> None:
        """End the session or the login at once, without a word: another machine may have it too."""
        if self._opened is not None:
            self._opened.connection.abort()
            self._end()
        if self._round is not None:
            self._round.cancel()

    async def run(self) -> NoReturn:
        """Goes on until it is cancelled."""
        wait_seconds = self._pace.first_retry_seconds
        while True:
            async with asyncio.TaskGroup() as rounds:  # a task of its own, that `drop` can cancel
                self._round = rounds.create_task(self._one_round())
            if self._round.cancelled() or self._round.result():
                wait_seconds = self._pace.first_retry_seconds
            # Also after a session: sessions that break at once must not become a storm of them.
            await asyncio.sleep(spread(wait_seconds))
            wait_seconds = min(2 * wait_seconds, self._pace.last_retry_seconds)

    async def _one_round(self) -> bool:
        """Try the list from its top, until one session has come to something. False: none did."""
        for endpoint in self._config.brokers:
            try:
                opened = await self._open(endpoint)
            except EntropyError as error:
                self._say_once(endpoint, str(error))
                continue
            came_to_something, at_home = await self._with(opened)
            while at_home is not None:
                came_to_something = True
                _, at_home = await self._with(at_home)
            if came_to_something:
                return True
        return False

    async def _open(self, endpoint: str) -> _Opened:
        self._check()
        credential = CredentialWatch(self._config.credential, lambda: own_credential(self._config))
        credential.begin()
        return _Opened(await connect(self._config, endpoint, self._pace.reply_seconds), credential)

    async def _with(self, opened: _Opened) -> tuple[bool, _Opened | None]:
        """One session, to its end.

        Returns whether the broker answered in it at all, and the session nearer home that it was
        left for.
        """
        connection = opened.connection
        began_seconds = asyncio.get_running_loop().time()
        self._answered = False
        self._opened = opened
        self._outbox.begin_session()
        self.broker_id = connection.broker_id
        self._note_fill(connection.welcome.fill_blocks, connection.welcome.capacity_blocks)
        notify.log(f"connected to {self.broker_id} at {connection.endpoint}")
        looking = self._look_home(connection.endpoint)
        try:
            await self._converse(opened, looking)
        except EntropyError as error:
            self._say_once(connection.endpoint, f"{self.broker_id}: {error}")
        except asyncio.CancelledError:
            looking.add_done_callback(_hang_up)
            raise
        finally:
            at_home = looking.done()
            looking.cancel()
            connection.close()
            if self._opened is opened:
                self._end()
            if connection.endpoint == self._config.brokers[0]:
                self._homeward.was_home(asyncio.get_running_loop().time() - began_seconds)
        return self._answered, looking.result() if at_home else None

    def _end(self) -> None:
        """The session is over."""
        n_blocks = self._outbox.end_session()
        if n_blocks:
            notify.log(
                f"the session with {self.broker_id} ended before it could be told to drop"
                f" {n_blocks} blocks from near a failure",
                notify.ERROR,
            )
        self._opened = self.broker_id = None
        self._changed()

    def _look_home(self, endpoint: str) -> asyncio.Future[_Opened]:
        """Settled as soon as there is a session with a broker before this one in the list."""
        brokers, loop = self._config.brokers, asyncio.get_running_loop()
        nearer = brokers[: brokers.index(endpoint)]
        if not nearer:
            return loop.create_future()
        looking = loop.create_task(self._homeward.look(nearer))
        looking.add_done_callback(lambda _: self.wake())
        return looking

    async def _converse(self, opened: _Opened, looking: asyncio.Future[_Opened]) -> None:
        """Push, recall and ask, until the session breaks or is dropped, or it is time for a broker
        nearer home, or for another key."""
        connection, credential = opened
        now = asyncio.get_running_loop().time
        credit = CreditPace(connection.welcome.credit_bits_per_second, now())
        ask_at = now()
        push_at: float | None = None  # when the blocks that are held have waited for more
        quiet_until = now()  # the broker wants to hear of nothing but a recall
        recall_at = now()  # nor of that, where it was the recall that it put off
        leave_at = float("inf")
        while True:
            self._check()
            if self._opened is not opened:
                raise asyncio.CancelledError  # dropped, just now
            self._work.clear()
            recall = self._outbox.recall
            leaving = looking.done()
            if leaving:
                leave_at = min(leave_at, now() + self._pace.leave_seconds)
            if recall is None:  # only in this session can it recall
                if leaving and (now() >= leave_at or not self._outbox.may_recall):
                    notify.log(f"leaving {self.broker_id}: a broker nearer home is back")
                    return
                if credential.has_new_key():
                    notify.log(f"{self._config.credential} was replaced: logging in anew")
                    return
            request: Feed | Recall | None = recall if now() >= recall_at else None
            if recall is None and now() >= quiet_until and not leaving:
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
                wake_at = leave_at if leaving else max(wake_at, quiet_until)
                wake_at = wake_at if recall is None else recall_at
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


def _hang_up(looking: asyncio.Future[_Opened]) -> None:
    """Nobody goes on with what a look came to."""
    if not looking.cancelled() and looking.exception() is None:
        looking.result().connection.abort()


def _not_taken(request: Feed | Recall, reply: Retry) -> str:
    what = f"{len(request.blocks)} blocks were not taken" if isinstance(request, Feed) else "recall"
    return f"{what}: {errors.RetryLater(reply.after_ms / 1000, reply.why)}"
