"""What a login, a draw, a feed and a recall do. No I/O: sessions carry the messages.

Permissions are looked up for every message, so that a changed access list holds at once. A
message that its credential does not permit raises Refused and changes nothing.
"""

from __future__ import annotations

import struct
from collections import Counter, deque
from typing import Callable, NamedTuple

from entropy.broker.access import Access, Key
from entropy.broker.draws import FairQueue, WaitingDraw
from entropy.broker.ids import IdRecord, Ids, rate_and_burst
from entropy.broker.uses import FirstUses
from entropy.config import BrokerConfig
from entropy.credentials import AclEntry
from entropy.errors import Refused
from entropy.notify import WARNING, Log
from entropy.reservoir import Output, Reservoir
from entropy.wire.codes import DrawKind, RefusedCode, RetryReason, Role
from entropy.wire.frames import Accepted, Auth, Block, Draw, Feed, Recall, Retry, Welcome

SEED_BYTES = 64  # a longer draw is a topup, whatever it is called
RETRY_EMPTY_MS = 2000
RETRY_BUSY_MS = 1000
RETRY_LOW_MS = 5000
_LONGEST_RETRY_MS = 3_600_000
_ALARMS = 100  # that are remembered; all are counted
_ALARMS_OF_ONE_ID = 5  # of them, in
_ALARM_SECONDS = 600

Reply = Block | Accepted | Retry
_ROLE_PERMISSIONS = {Role.CLIENT: "draw", Role.FEEDER: "feed", Role.PEER: "peer"}


class Alarm(NamedTuple):
    unix: float
    id: str  # whose credential it is about
    text: str


class SessionFacts:
    """A session that has proved itself, as far as the service cares."""

    __slots__ = ("context", "key", "next_sequence", "number", "record", "role")

    def __init__(self, number: int, key: Key, role: Role, record: IdRecord, context: bytes) -> None:
        self.number = number
        self.key = key
        self.role = role
        self.record = record
        self.context = context  # unlike any other session's: it goes into every output
        self.next_sequence = 0


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
        self.access = access
        self.uses = FirstUses("") if uses is None else uses
        self.uses.keep_only(access.acl.entries)
        self.queue = FairQueue()
        self.ids = Ids(config.limits)
        self.refusals: Counter[RefusedCode] = Counter()
        self.retries: Counter[RetryReason] = Counter()
        self.alarms: deque[Alarm] = deque(maxlen=_ALARMS)
        self.n_alarms = 0
        self.uncredited_replies = 0
        self._expired_keys: set[Key] = set()  # that were alarmed about
        self.fell_low: Callable[[], None] = lambda: None  # the reservoir went below its low mark
        self._monotonic_seconds = monotonic_seconds
        self._unix_seconds = unix_seconds
        self._log = log
        self._n_sessions = 0

    # Logins

    def admits(self, key: Key) -> bool:
        """Whether a key whose proof was right is in force; an alarm if its time is over."""
        if self._in_force(key) is not None:
            return True
        if self.access.entry(key) is not None and key not in self._expired_keys:
            self._expired_keys.add(key)
            self._alarm(key[0], "its credential has expired and is still in use")
        return False

    def login(self, auth: Auth, address: str = "") -> SessionFacts:
        """Open a session for a credential whose proof was right. Refused if the role is not its."""
        key = (auth.id, auth.key_id)
        entry = self._permitted(key, _ROLE_PERMISSIONS[auth.role])
        bootstrap = entry.expires_after_use_seconds is not None
        self.uses.note(key, self._unix_seconds(), durably=bootstrap)
        record = self.ids.login(entry, self._monotonic_seconds())
        trouble = record.note_boot(auth.boot_id, auth.counter)
        if trouble is not None:
            self._alarm(auth.id, f"{trouble}: is it a clone, or restored from a snapshot?")
        trouble = record.note_address(entry, address)
        if trouble is not None:
            self._alarm(auth.id, f"{trouble}: was its credential copied?")
        self._n_sessions += 1
        record.sessions += 1
        # What the other side said is in it, so that even a broker that was itself restored from
        # a snapshot does not answer two sessions alike.
        context = struct.pack("!Q16sQ32s", self._n_sessions, auth.boot_id, auth.counter, auth.nonce)
        return SessionFacts(self._n_sessions, key, auth.role, record, context)

    def logout(self, session: SessionFacts) -> None:
        session.record.sessions -= 1
        self.reservoir.forget_session(session.number)

    def welcome(self, session: SessionFacts) -> Welcome:
        entry = self._permitted(session.key, _ROLE_PERMISSIONS[session.role])
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

    def apply_acl(self) -> set[Key]:
        """Read the access list anew. Returns the keys whose sessions must end."""
        gone = self.access.reload()
        self.ids.keep_only(name for name, _ in self.access.acl.entries)
        self.uses.keep_only(self.access.acl.entries)
        self._expired_keys.clear()
        now = self._monotonic_seconds()
        for entry in self.access.acl.entries.values():
            record = self.ids.find(entry.id)
            if record is not None:
                record.change_limits(entry, self.config.limits, now)
        return gone

    def _permitted(self, key: Key, permission: str) -> AclEntry:
        entry = self._in_force(key)
        if entry is None:  # revoked, or expired, while its session was open
            raise Refused(RefusedCode.AUTHENTICATION)
        if permission not in entry.permissions:
            raise Refused(RefusedCode.PERMISSION)
        return entry

    def _in_force(self, key: Key) -> AclEntry | None:
        """The entry of a key, unless its time is over."""
        entry = self.access.entry(key)
        if entry is None:
            return None
        ends = [] if entry.not_after_unix is None else [entry.not_after_unix]
        first_use_unix = self.uses.unix(key)
        if entry.expires_after_use_seconds is not None and first_use_unix is not None:
            ends.append(first_use_unix + entry.expires_after_use_seconds)
        return entry if not ends or self._unix_seconds() < min(ends) else None

    def _alarm(self, name: str, text: str) -> None:
        """Counted always; said and kept so often for one id only, or it would bury the others'."""
        self.n_alarms += 1
        now = self._unix_seconds()
        own = [alarm for alarm in self.alarms if alarm.id == name]
        if len(own) >= _ALARMS_OF_ONE_ID:
            if now - own[0].unix < _ALARM_SECONDS:
                return
            self.alarms.remove(own[0])
        self.alarms.append(Alarm(now, name, f"{name}: {text}"))
        self._log(f"{name}: {text}", WARNING)

    # Draws

    def draw(self, session: SessionFacts, message: Draw) -> Reply | PendingDraw:
        """Answer a draw, or let it wait: then it ends by its answer, by give_up or by cancel."""
        if message.kind is DrawKind.PEER:
            return self._draw_of_peer(session, message)
        self._permitted(session.key, "draw")
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
        self._permitted(session.key, "peer")
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
        self._permitted(session.key, "feed")
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
            credited_bits = added.credited_bits
            self.serve_waiting()
        else:
            credited_bits = 0
        return self._accepted(session, credited_bits)

    def recall(self, session: SessionFacts, message: Recall) -> Accepted:
        """Drop what is still held of a session's blocks. Their numbers may be used again."""
        self._permitted(session.key, "feed")
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

    def watch_low_mark(self) -> None:
        """Say so if the reservoir is below its low mark."""
        if self.reservoir.held_blocks < self.config.reservoir.low_mark_blocks:
            self.fell_low()
