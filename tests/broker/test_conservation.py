"""Credit is conserved over a fleet, whatever happens in whatever order.

Three brokers, feeders, and clients, with messages that are under way, arrive or are lost; feeders
recall and reconnect, clients wait, give up and hang up, brokers draw from each other, ids are
revoked. After every step: born = held + in flight + received + lost + spent. The kernel's
generator gives nothing but zeros here, and still no block is used twice and no two replies share
64 bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from entropy.broker.logins import SessionFacts
from entropy.broker.service import PendingDraw, Service
from entropy.config import LimitsConfig, ReservoirConfig
from entropy.errors import Refused
from entropy.reservoir import Output, Reservoir, _Block
from entropy.wire.codes import DrawKind, Role
from entropy.wire.frames import Accepted, Auth, Block, Draw, Feed, Recall, Retry
from tests.broker.desk import KEY_ID, Ledger, config

CLIENTS = ("vm1", "vm2", "vm3", "vm4", "vm5")
FEEDERS = ("rng1", "rng2")
BROKERS = ("broker1", "broker2", "broker3")
ROLES = {
    **dict.fromkeys(CLIENTS, (Role.CLIENT, "draw")),
    **dict.fromkeys(FEEDERS, (Role.FEEDER, "feed")),
    **dict.fromkeys(BROKERS, (Role.PEER, "peer")),
}


class WatchedReservoir(Reservoir):
    """Remembers every block that was conditioned, over all reservoirs."""

    used: set[bytes]

    def _output(self, blocks: Sequence[_Block], *rest: Any) -> Output:
        for block in blocks:
            data = bytes(block.data)
            assert any(data), "a block that was overwritten is used"
            assert data not in self.used, "a block is used twice"
            self.used.add(data)
        output = super()._output(blocks, *rest)
        assert not any(any(block.data) for block in blocks), "a used block is still there"
        return output


class FleetMachine(RuleBasedStateMachine):
    """The fleet and everything that is under way between its parts."""

    def __init__(self) -> None:
        super().__init__()
        self.now_seconds = 0.0
        self.ledger = Ledger()
        for name, (_, permission) in ROLES.items():
            self.ledger.admit(name, permission)
        self.n_born_blocks = self.born_bits = self.lost_on_the_way_bits = self.received_bits = 0
        self.services: dict[str, Service] = {}
        self.sessions: dict[tuple[str, str], SessionFacts] = {}
        self.next_sequence: dict[tuple[str, str], int] = {}
        self.feeds: list[tuple[str, str, Feed]] = []  # under way to a broker
        self.replies: list[Block] = []  # under way to a client
        self.transfers: list[tuple[str, Block]] = []  # under way to the broker named
        self.waiting: list[tuple[str, PendingDraw]] = []
        self.pieces: set[bytes] = set()
        self.n_logins = 0
        used: set[bytes] = set()
        for name in BROKERS:
            reservoir = WatchedReservoir(
                broker_id=name,
                epoch=bytes(16),
                capacity_blocks=12,
                export_above_blocks=3,
                kernel_bytes=bytes,
            )
            reservoir.used = used
            self.services[name] = Service(
                config(
                    reservoir=ReservoirConfig(12, 1, 3),
                    limits=LimitsConfig(rate_bytes_per_second=200, credit_bits_per_second=4000),
                ),
                reservoir,
                self.ledger,
                monotonic_seconds=lambda: self.now_seconds,
                unix_seconds=lambda: self.now_seconds,
                log=lambda text, priority: None,
            )

    @initialize()
    def log_all_in(self) -> None:
        for broker in BROKERS:
            for name in ROLES:
                self.log_in(broker, name)

    def log_in(self, broker: str, name: str) -> None:
        role = ROLES[name][0]
        elsewhere = self.services[broker].draining and role is not Role.CLIENT
        if self.ledger.entry((name, KEY_ID)) is None or elsewhere:
            return
        self.n_logins += 1
        auth = Auth(role, name, KEY_ID, bytes(16), self.n_logins, bytes(32), bytes(32))
        self.sessions[broker, name] = self.services[broker].logins.login(auth)
        self.next_sequence[broker, name] = 0

    # Feeders

    @rule(
        broker=st.sampled_from(BROKERS),
        feeder=st.sampled_from(FEEDERS),
        n_blocks=st.integers(0, 8),
        bits_of_each=st.sampled_from((512, 512, 512, 300, 64, 1)),
        more_bits=st.integers(0, 7),
        skip=st.integers(0, 2),
    )
    def feeder_sends(
        self,
        broker: str,
        feeder: str,
        n_blocks: int,
        bits_of_each: int,
        more_bits: int,
        skip: int,
    ) -> None:
        if (broker, feeder) not in self.sessions:
            return
        blocks = []
        for _ in range(n_blocks):
            self.n_born_blocks += 1
            blocks.append(hashlib.sha512(b"%d" % self.n_born_blocks).digest())
        claimed_bits = min(512 * n_blocks, bits_of_each * n_blocks + more_bits)
        self.born_bits += claimed_bits
        sequence = self.next_sequence[broker, feeder] + skip
        self.next_sequence[broker, feeder] = sequence + n_blocks
        self.feeds.append((broker, feeder, Feed(sequence, claimed_bits, tuple(blocks))))

    @precondition(lambda self: self.feeds)
    @rule(arrives=st.booleans())
    def feed_ends_its_way(self, arrives: bool) -> None:
        broker, feeder, message = self.feeds.pop(0)
        if not arrives:
            self.lost_on_the_way_bits += message.credit_bits
            return
        try:
            accepted = self.services[broker].feed(self.sessions[broker, feeder], message)
        except Refused:
            assert self.ledger.entry((feeder, KEY_ID)) is None  # revoked: nothing of it was taken
            self.lost_on_the_way_bits += message.credit_bits
        else:
            assert isinstance(accepted, Accepted)
            assert accepted.credited_bits <= message.credit_bits
        self.collect()

    @rule(
        broker=st.sampled_from(BROKERS),
        feeder=st.sampled_from(FEEDERS),
        sequence=st.integers(0, 30),
    )
    def feeder_recalls(self, broker: str, feeder: str, sequence: int) -> None:
        session = self.sessions.get((broker, feeder))
        if session is not None and self.ledger.entry((feeder, KEY_ID)) is not None:
            self.services[broker].recall(session, Recall(sequence))

    @rule(broker=st.sampled_from(BROKERS), name=st.sampled_from(FEEDERS + CLIENTS))
    def somebody_reconnects(self, broker: str, name: str) -> None:
        session = self.sessions.pop((broker, name), None)
        if session is not None:
            for place, (where, draw) in enumerate(self.waiting):
                if where == broker and draw.session is session:
                    self.services[broker].cancel(draw)
                    del self.waiting[place]
                    break
            self.services[broker].logout(session)
            gone = [feed for feed in self.feeds if feed[:2] == (broker, name)]
            self.lost_on_the_way_bits += sum(message.credit_bits for _, _, message in gone)
            self.feeds = [feed for feed in self.feeds if feed not in gone]
        self.log_in(broker, name)

    # Clients

    @rule(
        broker=st.sampled_from(BROKERS),
        client=st.sampled_from(CLIENTS),
        kind=st.sampled_from((DrawKind.SEED, DrawKind.TOPUP)),
        n_bytes=st.sampled_from((1, 32, 64, 65, 200, 1000)),
        wait_ms=st.sampled_from((0, 1000)),
    )
    def client_draws(
        self, broker: str, client: str, kind: DrawKind, n_bytes: int, wait_ms: int
    ) -> None:
        session = self.sessions.get((broker, client))
        if session is None:
            return
        was_waiting = any(draw.session is session for _, draw in self.waiting)
        try:
            reply = self.services[broker].draw(session, Draw(kind, n_bytes, wait_ms))
        except Refused:
            assert self.ledger.entry((client, KEY_ID)) is None
            return
        if isinstance(reply, PendingDraw):
            assert not was_waiting
            assert wait_ms
            self.waiting.append((broker, reply))
        elif isinstance(reply, Block):
            assert len(reply.data) <= n_bytes
            self.send(reply)
        else:
            assert isinstance(reply, Retry)
            assert reply.after_ms > 0

    @precondition(lambda self: self.waiting)
    @rule(data=st.data(), hangs_up=st.booleans())
    def a_wait_ends(self, data: st.DataObject, hangs_up: bool) -> None:
        broker, draw = self.waiting.pop(data.draw(st.integers(0, len(self.waiting) - 1)))
        if hangs_up:
            self.services[broker].cancel(draw)
            return
        reply = self.services[broker].give_up(draw)
        if isinstance(reply, Block):
            assert reply.credit_bits == 0
            assert draw.seed
            self.send(reply)

    @precondition(lambda self: self.replies)
    @rule(data=st.data(), arrives=st.booleans())
    def reply_ends_its_way(self, data: st.DataObject, arrives: bool) -> None:
        reply = self.replies.pop(data.draw(st.integers(0, len(self.replies) - 1)))
        if arrives:
            self.received_bits += reply.credit_bits
        else:
            self.lost_on_the_way_bits += reply.credit_bits

    # Brokers among themselves

    @rule(
        broker=st.sampled_from(BROKERS),
        other=st.integers(1, len(BROKERS) - 1),
        n_bytes=st.sampled_from((64, 100, 256, 4096)),
    )
    def broker_draws_from_a_peer(self, broker: str, other: int, n_bytes: int) -> None:
        peer = BROKERS[(BROKERS.index(broker) + other) % len(BROKERS)]
        native_before = self.native(peer)
        draw = Draw(DrawKind.PEER, n_bytes, 0)
        reply = self.services[peer].draw(self.sessions[peer, broker], draw)
        assert self.native(peer) >= min(3, native_before), "it gave what it needs itself"
        if isinstance(reply, Block):
            self.check_pieces(reply)
            self.transfers.append((broker, reply))

    @rule(broker=st.sampled_from(BROKERS), other=st.integers(1, len(BROKERS) - 1))
    def broker_stirs_a_peer(self, broker: str, other: int) -> None:
        """The classic way: bytes that everybody could know, again and again, for no credit."""
        peer = BROKERS[(BROKERS.index(broker) + other) % len(BROKERS)]
        before = self.services[peer].reservoir.accounting()
        self.services[peer].feed(self.sessions[peer, broker], Feed(0, 0, (bytes(64),)))
        assert self.services[peer].reservoir.accounting() == before

    @rule(broker=st.sampled_from(BROKERS))
    def a_broker_is_copied(self, broker: str) -> None:
        """What it held is lost; its kernel and its new epoch are what they were."""
        self.services[broker].reservoir.begin_anew(bytes(16), b"")

    @rule(broker=st.sampled_from(BROKERS), on=st.booleans())
    def a_broker_is_drained(self, broker: str, on: bool) -> None:
        service = self.services[broker]
        service.drain(on)
        for where, draw in [*self.waiting]:
            if on and where == broker:
                assert isinstance(draw.reply, Retry)
                self.waiting.remove((where, draw))

    @precondition(lambda self: self.transfers)
    @rule(arrives=st.booleans())
    def transfer_ends_its_way(self, arrives: bool) -> None:
        broker, reply = self.transfers.pop(0)
        if arrives:
            self.services[broker].imported(reply.data, reply.credit_bits, reply.origins)
            self.collect()
        else:
            self.lost_on_the_way_bits += reply.credit_bits

    # The world

    @rule(seconds=st.sampled_from((0.001, 1.0, 700.0)))
    def time_passes(self, seconds: float) -> None:
        self.now_seconds += seconds

    @rule(name=st.sampled_from(FEEDERS + CLIENTS), back=st.booleans())
    def an_id_is_revoked_or_restored(self, name: str, back: bool) -> None:
        if back:
            self.ledger.admit(name, ROLES[name][1])
        else:
            self.ledger.revoke(name)

    # What must hold

    def collect(self) -> None:
        """Send what was granted to draws that waited."""
        for place in reversed(range(len(self.waiting))):
            reply = self.waiting[place][1].reply
            if reply is not None:
                assert isinstance(reply, Block)
                self.send(reply)
                del self.waiting[place]

    def send(self, reply: Block) -> None:
        self.check_pieces(reply)
        assert 0 <= reply.credit_bits <= 448 * -(-len(reply.data) // 64)
        self.replies.append(reply)

    def check_pieces(self, reply: Block) -> None:
        """No 64 bytes were ever sent before; of a last, shorter piece, no 16 bytes."""
        for start in range(0, len(reply.data), 64):
            piece = reply.data[start : start + 64]
            if len(piece) >= 16:
                assert piece[:16] not in self.pieces, "two replies are equal"
                self.pieces.add(piece[:16])

    def native(self, broker: str) -> int:
        reservoir = self.services[broker].reservoir
        return reservoir.held_blocks - reservoir.imported_blocks

    @invariant()
    def each_account_balances(self) -> None:
        for service in self.services.values():
            a = service.reservoir.accounting()
            assert min(a) >= 0
            assert a.fed_bits + a.imported_bits == (
                a.held_bits + a.delivered_bits + a.exported_bits + a.spent_bits + a.lost_bits
            )
            blocks = [*service.reservoir._native.values(), *service.reservoir._imported]
            assert a.held_bits == sum(block.credit_bits for block in blocks)
            assert all(64 < block.credit_bits <= 512 for block in blocks)
            assert all(block.credit_bits <= 448 for block in service.reservoir._imported)

    @invariant()
    def the_fleet_balances(self) -> None:
        accounts = [service.reservoir.accounting() for service in self.services.values()]
        under_way_bits = (
            sum(message.credit_bits for _, _, message in self.feeds)
            + sum(reply.credit_bits for reply in self.replies)
            + sum(reply.credit_bits for _, reply in self.transfers)
        )
        assert self.born_bits == (
            sum(a.held_bits + a.spent_bits + a.lost_bits for a in accounts)
            + under_way_bits
            + self.received_bits
            + self.lost_on_the_way_bits
        )

    @invariant()
    def nobody_waits_beside_a_full_reservoir(self) -> None:
        for broker, service in self.services.items():
            waiting = [draw for where, draw in self.waiting if where == broker]
            assert len(service.queue) == len(waiting)
            assert service.reservoir.held_blocks <= 12
            assert not (waiting and service.reservoir.held_blocks)
            assert len({draw.session.record.id for draw in waiting}) == len(waiting)


TestConservation = FleetMachine.TestCase
TestConservation.settings = settings(max_examples=60, stateful_step_count=60)
