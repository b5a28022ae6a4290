"""What a draw, a feed and a recall do. No I/O: sessions carry the messages.

Permissions are looked up for every message, so that a changed access list holds at once. A
message that its credential does not permit raises Refused and changes nothing.
"""

from __future__ import annotations

from collections import Counter
from typing import Callable

from entropy.broker.access import Access
from entropy.broker.alarms import Alarms
from entropy.broker.draws import FairQueue, WaitingDraw
from entropy.broker.ids import rate_and_burst
from entropy.broker.logins import PERMISSIONS, Logins, SessionFacts
from entropy.broker.uses import FirstUses
from entropy.config import BrokerConfig
from entropy.errors import Refused
from entropy.notify import WARNING, Log
from entropy.reservoir import Output, Reservoir
from entropy.wire.codes import DrawKind, RefusedCode, RetryReason, Role
from entropy.wire.frames import Accepted, Block, Draw, Feed, Recall, Retry, Welcome

SEED_BYTES = 64  # a longer draw is a topup, whatever it is called
RETRY_EMPTY_MS = 2000
RETRY_BUSY_MS = 1000
RETRY_LOW_MS = 5000
RETRY_DRAINING_MS = 1000
_LONGEST_RETRY_MS = 3_600_000

Reply = Block | Accepted | Retry


class PendingDraw(WaitingDraw):
    """A draw with its answer, once there is one."""

    __slots__ = ("answered", "kind", "reply", "session", "wait_seconds")

    def __init__(
        self, session: SessionFacts, message: Draw, n_bytes: int, *, seed: bool, wait_seconds: float
    ) -> None:
        super().__init__(session.record, n_bytes, seed=seed)
        self.session = session
        self.kind = message.kind
        self.wait_seconds = wait_seconds
        self.reply: Reply | None = None
        self.answered: Callable[[], object] | None = None  # called when reply is there

    def answer(self, reply: Reply) -> None:
        self.session.record.drawing = None
        self.reply = reply
        if self.answered is not None:
            self.answered()


class Service:
    """One broker's reservoir, queue and memory of ids.

    monotonic_seconds and unix_seconds are clocks; uses remembers when keys were first used, in
    memory unless given.
    """

    def __init__(
        self,
        config: BrokerConfig,
        reservoir: Reservoir,
        access: Access,
        *,
        monotonic_seconds: Callable[[], float],
        unix_seconds: Callable[[], float],
        log: Log,
        uses: FirstUses | None = None,
    ) -> None:
        self.config = config
        self.reservoir = reservoir
        self.queue = FairQueue()
        self.alarms = Alarms(unix_seconds, log)
        self.logins = Logins(
            access,
            FirstUses("") if uses is None else uses,
            config.limits,
            self.alarms,
            monotonic_seconds=monotonic_seconds,
            unix_seconds=unix_seconds,
        )
        self.refusals: Counter[RefusedCode] = Counter()
        self.retries: Counter[RetryReason] = Counter()
        self.draining_retries = 0  # not among them: nothing is amiss
        self.uncredited_replies = 0
        self.stirred_bytes = 0  # that peers pushed
        self.fell_low: Callable[[], None] = lambda: None  # the reservoir went below its low mark
        self._monotonic_seconds = monotonic_seconds
        self._unix_seconds = unix_seconds
        self._log = log

    # Sessions

    @property
    def draining(self) -> bool:
        """Whether nothing is given any more, because this broker is to be taken away."""
        return self.logins.clients_only

    def drain(self, on: bool) -> None:
        """Begin or end it. Draws that wait are told at once to go elsewhere."""
        self.logins.clients_only = on
        while on and len(self.queue):
            draw = self.queue.pop()
            assert isinstance(draw, PendingDraw)
            draw.answer(self._retry_elsewhere())

    def logout(self, session: SessionFacts) -> None:
        self.logins.logout(session)
        self.reservoir.forget_session(session.number)

    def welcome(self, session: SessionFacts) -> Welcome:
        entry = self.logins.permitted(session.key, PERMISSIONS[session.role])
        limits = self.config.limits
        rate, burst = rate_and_burst(entry, limits)
        credit = entry.credit_bits_per_second
        return Welcome(
            permissions=entry.permissions,
            topup_interval_seconds=limits.topup_interval_seconds,
            topup_bytes=limits.topup_bytes,
            rate_bytes_per_second=rate,
            burst_bytes=burst,
            credit_bits_per_second=limits.credit_bits_per_second if credit is None else credit,
            fill_blocks=self.reservoir.held_blocks,
            capacity_blocks=self.reservoir.capacity_blocks,
        )

    # Draws

    def draw(self, session: SessionFacts, message: Draw) -> Reply | PendingDraw:
        """Answer a draw, or let it wait: then it ends by its answer, by give_up or by cancel."""
        if message.kind is DrawKind.PEER:
            return self._draw_of_peer(session, message)
        self.logins.permitted(session.key, "draw")
        if self.draining:
            return self._retry_elsewhere()
        record, limits = session.record, self.config.limits
        if record.drawing is not None:
            return self._retry(RETRY_BUSY_MS, RetryReason.BUSY)
        now = self._monotonic_seconds()
        n_bytes = min(message.n_bytes, record.bytes_bucket.burst)
        rate_seconds = record.bytes_bucket.wait_seconds(n_bytes, now)
        if rate_seconds > 0:
            after_ms = min(rate_seconds * 1000, _LONGEST_RETRY_MS)
            return self._retry(int(after_ms) + 1, RetryReason.RATE)
        seed = (
            message.kind is DrawKind.SEED
            and n_bytes <= SEED_BYTES
            and now >= record.next_seed_seconds
        )
        wait_seconds = min(message.wait_ms / 1000, float(limits.max_wait_seconds))
        draw = PendingDraw(session, message, n_bytes, seed=seed, wait_seconds=wait_seconds)
        record.drawing = draw
        self.queue.push(draw)
        self.serve_waiting()
        if draw.reply is not None:
            return draw.reply
        if wait_seconds == 0 or len(self.queue) > limits.max_waiting_draws:
            return self.give_up(draw)
        return draw

    def give_up(self, draw: PendingDraw) -> Reply:
        """A draw has waited in vain: a seed gets bytes worth 0 bits, anything else RETRY."""
        if draw.reply is not None:
            return draw.reply
        self.queue.discard(draw)
        reply: Reply
        if draw.seed:
            record = draw.session.record
            output = self.reservoir.uncredited(
                draw.n_bytes, client_id=record.id, session=draw.session.context
            )
            self.uncredited_replies += 1
            reply = self._delivered(draw, output)
        else:
            reply = self._retry(RETRY_EMPTY_MS, RetryReason.EMPTY)
        draw.answer(reply)
        return reply

    def cancel(self, draw: PendingDraw) -> None:
        """The session of a waiting draw is gone."""
        if draw.reply is None:
            self.queue.discard(draw)
            draw.session.record.drawing = None

    def serve_waiting(self) -> None:
        """Give what is held to those who wait, while both last.

        No reply takes more than its share of what is there, or the first would leave nothing.
        """
        while len(self.queue) and (held_blocks := self.reservoir.held_blocks):
            share_blocks = max(1, held_blocks // len(self.queue))
            draw = self.queue.pop()
            assert isinstance(draw, PendingDraw)
            session = draw.session
            output = self.reservoir.take(
                draw.n_bytes,
                client_id=session.record.id,
                session=session.context,
                at_most_blocks=share_blocks,
            )
            assert output is not None  # something is held
            self.queue.served(draw, len(output.data))
            if draw.seed:
                now = self._monotonic_seconds()
                session.record.next_seed_seconds = now + self.config.limits.seed_interval_seconds
            draw.answer(self._delivered(draw, output))
        self.watch_low_mark()

    def _delivered(self, draw: PendingDraw, output: Output) -> Block:
        record = draw.session.record
        record.bytes_bucket.take(len(output.data), self._monotonic_seconds())
        record.draws += 1
        record.delivered_bytes += len(output.data)
        record.delivered_bits += output.credit_bits
        record.last_draw_unix = self._unix_seconds()
        record.last_credit_bits = output.credit_bits
        record.last_kind = "seed" if draw.seed else "topup"
        return Block(output.serial, output.credit_bits, output.origins, output.data)

    def _draw_of_peer(self, session: SessionFacts, message: Draw) -> Reply:
        """Surplus only, and nothing that waits: our own clients come first."""
        self.logins.permitted(session.key, "peer")
        record = session.record
        output = self.reservoir.take_for_peer(
            message.n_bytes, peer_id=record.id, session=session.context
        )
        if output is None:
            return self._retry(RETRY_LOW_MS, RetryReason.LOW)
        record.draws += 1
        record.delivered_bytes += len(output.data)
        record.delivered_bits += output.credit_bits
        record.last_draw_unix = self._unix_seconds()
        record.last_credit_bits = output.credit_bits
        record.last_kind = "peer"
        return Block(output.serial, output.credit_bits, output.origins, output.data)

    # Feeds

    def feed(self, session: SessionFacts, message: Feed) -> Accepted:
        """Take blocks in and give them to those who wait."""
        if session.role is Role.PEER:
            return self._stirred(session, message)
        self.logins.permitted(session.key, "feed")
        record, now = session.record, self._monotonic_seconds()
        if message.blocks:
            if message.sequence < session.next_sequence:  # a block must never count twice
                raise Refused(RefusedCode.PROTOCOL)
            added = self.reservoir.add(
                message.blocks,
                claimed_bits=message.credit_bits,
                allowed_bits=record.credit_bucket.available(now),
                origin=record.id,
                session=session.number,
                sequence=message.sequence,
            )
            session.next_sequence = message.sequence + len(message.blocks)
            record.credit_bucket.take(added.credited_bits, now)
            record.fed_bits += message.credit_bits
            record.lost_bits += added.lost_bits
            record.last_feed_unix = self._unix_seconds()
            record.last_feed_seconds = now
            credited_bits = added.credited_bits
            self.serve_waiting()
        else:
            credited_bits = 0
        return self._accepted(session, credited_bits)

    def _stirred(self, session: SessionFacts, message: Feed) -> Accepted:
        """Another broker's kernel gives bytes: they are mixed in, and worth nothing to anybody."""
        self.logins.permitted(session.key, "peer")
        if message.credit_bits:
            raise Refused(RefusedCode.PERMISSION)
        for block in message.blocks:
            self.reservoir.stir(block)
        self.stirred_bytes += sum(map(len, message.blocks))
        return self._accepted(session, 0)

    def recall(self, session: SessionFacts, message: Recall) -> Accepted:
        """Drop what is still held of a session's blocks. Their numbers may be used again."""
        self.logins.permitted(session.key, "feed")
        recalled = self.reservoir.recall(session.number, message.sequence)
        session.next_sequence = min(session.next_sequence, message.sequence)
        session.record.recalled_bits += recalled.n_bits
        self._log(
            f"{session.record.id}: recalled its blocks from {message.sequence} on:"
            f" {recalled.n_blocks} were still held and are destroyed",
            WARNING,
        )
        self.watch_low_mark()
        return self._accepted(session, 0)

    def imported(self, data: bytes, credit_bits: int, origins: tuple[str, ...]) -> None:
        """A peer's reply came in."""
        self.reservoir.add_imported(data, claimed_bits=credit_bits, origins=origins)
        self.serve_waiting()

    def _accepted(self, session: SessionFacts, credited_bits: int) -> Accepted:
        return Accepted(
            session.next_sequence,
            credited_bits,
            self.reservoir.held_blocks,
            self.reservoir.capacity_blocks,
        )

    def _retry(self, after_ms: int, why: RetryReason) -> Retry:
        self.retries[why] += 1
        return Retry(after_ms, why)

    def _retry_elsewhere(self) -> Retry:
        self.draining_retries += 1
        return Retry(RETRY_DRAINING_MS, RetryReason.EMPTY)

    def watch_low_mark(self) -> None:
        """Say so if the reservoir is below its low mark."""
        if self.reservoir.held_blocks < self.config.reservoir.low_mark_blocks:
            self.fell_low()
