"""Draws, feeds and recalls against a clock that the tests turn."""

from __future__ import annotations

import itertools
import os

import pytest

from entropy.broker.alarms import Alarms
from entropy.broker.service import PendingDraw, Reply
from entropy.config import LimitsConfig, ReservoirConfig
from entropy.errors import Refused
from entropy.wire.codes import DrawKind, RefusedCode, RetryReason
from entropy.wire.frames import Block, Draw, Feed, Recall, Retry
from tests.broker.desk import KEY_ID, Desk
from tests.broker.fleet import draw, feed

SEED, TOPUP, PEER = DrawKind.SEED, DrawKind.TOPUP, DrawKind.PEER


def summary(reply: Reply | PendingDraw | None) -> tuple[object, ...]:
    """What a test compares: bytes and bits of a block, reason and time of a retry."""
    if isinstance(reply, Block):
        return (len(reply.data), reply.credit_bits)
    if isinstance(reply, Retry):
        return (reply.why, reply.after_ms)
    return (type(reply),)


def filled(n_blocks: int, **settings: object) -> Desk:
    desk = Desk(**settings)  # type: ignore[arg-type]
    desk.service.feed(desk.login("rng1", "feed"), feed(n_blocks))
    return desk


# Draws


@pytest.mark.parametrize(
    ("held_blocks", "message", "answer"),
    [
        (8, draw(64), (64, 448)),
        (8, draw(32), (32, 256)),
        (8, draw(4096), (512, 8 * 448)),  # short, not held back
        (0, draw(64), (RetryReason.EMPTY, 2000)),
        (0, draw(64, wait_ms=1), (PendingDraw,)),
        (0, draw(64, kind=SEED), (64, 0)),
        (0, draw(20, kind=SEED), (20, 0)),
        (0, draw(65, kind=SEED), (RetryReason.EMPTY, 2000)),  # too long for a seed
        (0, draw(64, kind=SEED, wait_ms=1), (PendingDraw,)),
    ],
)
def test_answers(held_blocks: int, message: Draw, answer: tuple[object, ...]) -> None:
    desk = filled(held_blocks)
    assert summary(desk.service.draw(desk.login("vm1"), message)) == answer


def test_a_waiting_draw_is_answered_when_blocks_come() -> None:
    desk = Desk()
    vm1, rng1 = desk.login("vm1"), desk.login("rng1", "feed")
    waiting = desk.service.draw(vm1, draw(64, wait_ms=1000))
    assert isinstance(waiting, PendingDraw)
    calls: list[int] = []
    waiting.answered = lambda: calls.append(1)
    desk.service.feed(rng1, feed(2))
    assert (summary(waiting.reply), calls) == ((64, 448), [1])
    assert desk.service.give_up(waiting) is waiting.reply  # too late to give up
    assert desk.reservoir.held_blocks == 1


@pytest.mark.parametrize(("kind", "answer"), [(SEED, (64, 0)), (TOPUP, (RetryReason.EMPTY, 2000))])
def test_who_waited_in_vain(kind: DrawKind, answer: tuple[object, ...]) -> None:
    desk = Desk()
    waiting = desk.service.draw(desk.login("vm1"), draw(64, wait_ms=1000, kind=kind))
    assert isinstance(waiting, PendingDraw)
    assert summary(desk.service.give_up(waiting)) == answer
    assert len(desk.service.queue) == 0
    assert desk.service.uncredited_replies == (kind is SEED)


def test_a_wait_is_bounded_whatever_is_asked() -> None:
    desk = Desk(limits=LimitsConfig(max_wait_seconds=7))
    waiting = desk.service.draw(desk.login("vm1"), draw(64, wait_ms=2**32 - 1))
    assert isinstance(waiting, PendingDraw)
    assert waiting.wait_seconds == 7


def test_only_so_many_wait() -> None:
    desk = Desk(limits=LimitsConfig(max_waiting_draws=2))
    answers = [
        summary(desk.service.draw(desk.login(f"vm{i}"), draw(64, wait_ms=1000))) for i in range(4)
    ]
    assert answers == [(PendingDraw,)] * 2 + [(RetryReason.EMPTY, 2000)] * 2


def test_one_draw_at_a_time_per_id() -> None:
    desk = Desk()
    first, second = desk.login("vm1"), desk.login("vm1")
    waiting = desk.service.draw(first, draw(64, wait_ms=1000))
    assert isinstance(waiting, PendingDraw)
    assert summary(desk.service.draw(second, draw(64))) == (RetryReason.BUSY, 1000)
    desk.service.cancel(waiting)
    assert summary(desk.service.draw(second, draw(64))) == (RetryReason.EMPTY, 2000)


def test_those_who_wait_share_what_comes() -> None:
    desk = Desk()
    rng1 = desk.login("rng1", "feed")
    waiting = [desk.service.draw(desk.login(f"vm{i}"), draw(4096, wait_ms=1000)) for i in range(4)]
    desk.service.feed(rng1, feed(8))
    replies = [pending.reply for pending in waiting if isinstance(pending, PendingDraw)]
    assert [summary(reply) for reply in replies] == [(128, 896)] * 4


def test_a_seed_goes_first() -> None:
    desk = Desk()
    rng1 = desk.login("rng1", "feed")
    topup = desk.service.draw(desk.login("vm1"), draw(64, wait_ms=1000))
    seed = desk.service.draw(desk.login("vm2"), draw(64, wait_ms=1000, kind=SEED))
    assert isinstance(topup, PendingDraw)
    assert isinstance(seed, PendingDraw)
    desk.service.feed(rng1, feed(1))
    assert seed.reply is not None
    assert topup.reply is None


def test_one_seed_in_an_interval_then_it_counts_as_a_topup() -> None:
    desk = filled(1, limits=LimitsConfig(seed_interval_seconds=600))
    vm1 = desk.login("vm1")
    assert summary(desk.service.draw(vm1, draw(64, kind=SEED))) == (64, 448)
    assert summary(desk.service.draw(vm1, draw(64, kind=SEED))) == (RetryReason.EMPTY, 2000)
    desk.now_seconds = 599
    assert summary(desk.service.draw(vm1, draw(64, kind=SEED))) == (RetryReason.EMPTY, 2000)
    desk.now_seconds = 600
    assert summary(desk.service.draw(vm1, draw(64, kind=SEED))) == (64, 0)
    # that was no seed worth anything: the next one still counts as one
    assert summary(desk.service.draw(vm1, draw(64, kind=SEED))) == (64, 0)


def test_rate_of_an_id_over_all_its_sessions() -> None:
    limits = LimitsConfig(rate_bytes_per_second=64, burst_bytes=128)
    desk = filled(20, limits=limits)
    sessions = itertools.cycle([desk.login("vm1"), desk.login("vm1")])
    assert summary(desk.service.draw(next(sessions), draw(96))) == (96, 448 + 256)
    assert summary(desk.service.draw(next(sessions), draw(64))) == (RetryReason.RATE, 501)
    desk.now_seconds = 0.501
    assert summary(desk.service.draw(next(sessions), draw(64))) == (64, 448)
    desk.now_seconds = 100
    # more than the burst can never be had at once: it is answered short
    assert summary(desk.service.draw(next(sessions), draw(4096))) == (128, 896)
    other = desk.login("vm2")
    assert summary(desk.service.draw(other, draw(128))) == (128, 896)


def test_a_client_gets_its_rate_and_no_more() -> None:
    limits = LimitsConfig(rate_bytes_per_second=64, burst_bytes=256)
    desk = filled(32, limits=limits)
    rng1, vm1, sequence = desk.login("rng1", "feed"), desk.login("vm1"), 0
    got_bytes = 0
    while desk.now_seconds < 600:
        desk.service.feed(rng1, feed(2, sequence=sequence))
        sequence += 2
        reply = desk.service.draw(vm1, draw(100))
        if isinstance(reply, Retry):
            desk.now_seconds += reply.after_ms / 1000
        else:
            assert isinstance(reply, Block)
            got_bytes += len(reply.data)
    assert got_bytes == pytest.approx(256 + 600 * 64, rel=0.01)


def test_a_limit_of_its_own() -> None:
    desk = filled(20)
    slow = desk.login("vm1", rate_bytes_per_second=1, burst_bytes=32)
    assert summary(desk.service.draw(slow, draw(64))) == (32, 256)
    assert summary(desk.service.draw(slow, draw(32))) == (RetryReason.RATE, 32_001)


def test_two_clients_never_get_equal_bytes_when_kernel_and_blocks_repeat() -> None:
    desk = Desk(kernel_bytes=bytes, marks=ReservoirConfig(64, 1, 2))
    rng1, seen = desk.login("rng1", "feed"), []
    peer = desk.login("broker2", "peer")
    for i in range(8):
        desk.service.feed(rng1, Feed(4 * i, 512 * 4, (b"x" * 64,) * 4))
        session = desk.login(f"vm{i % 3}")
        for who, message in ((peer, draw(64, kind=PEER)), (session, draw(128))):
            reply = desk.service.draw(who, message)
            assert isinstance(reply, Block)
            seen += [reply.data[at : at + 64] for at in range(0, len(reply.data), 64)]
    while desk.reservoir.held_blocks:
        desk.reservoir.take(64, client_id="rest", session=b"")
    for i in range(8):
        reply = desk.service.draw(desk.login(f"new{i % 4}"), draw(64, kind=SEED))
        assert summary(reply) == (64, 0)
        assert isinstance(reply, Block)
        seen.append(reply.data)
    assert len(set(seen)) == len(seen) == 8 * 3 + 8


# Permissions, for every message


@pytest.mark.parametrize("permission", ["draw", "feed", "peer"])
@pytest.mark.parametrize(
    ("needs", "message"),
    [
        ("draw", draw(64)),
        ("draw", draw(64, kind=SEED)),
        ("peer", draw(64, kind=PEER)),
        ("feed", feed(2)),
        ("feed", Feed(0, 0, ())),
        ("feed", Recall(0)),
    ],
)
def test_permission_is_asked_for_every_message(
    permission: str, needs: str, message: Draw | Feed | Recall
) -> None:
    desk = filled(10)
    session = desk.login("x", permission)
    before = (desk.reservoir.accounting(), desk.reservoir.held_blocks, len(desk.service.queue))

    def say() -> object:
        if isinstance(message, Draw):
            return desk.service.draw(session, message)
        if isinstance(message, Feed):
            return desk.service.feed(session, message)
        return desk.service.recall(session, message)

    asks_for_the_fill = message == Feed(0, 0, ())
    if permission == needs or (permission == "peer" and asks_for_the_fill):
        say()
    else:
        with pytest.raises(Refused) as caught:
            say()
        assert caught.value.code is RefusedCode.PERMISSION
        after = (desk.reservoir.accounting(), desk.reservoir.held_blocks, len(desk.service.queue))
        assert after == before
    desk.ledger.revoke("x")
    with pytest.raises(Refused) as caught:
        say()
    assert caught.value.code is RefusedCode.AUTHENTICATION


def test_what_a_peer_pushes_is_stirred_and_earns_nothing() -> None:
    desk = filled(10)
    session = desk.login("broker2", "peer")
    before, key = desk.reservoir.accounting(), bytes(desk.reservoir._key)
    accepted = desk.service.feed(session, Feed(0, 0, (bytes(64), bytes(64))))
    assert (accepted.credited_bits, accepted.fill_blocks) == (0, 10)
    assert desk.reservoir.accounting() == before
    assert bytes(desk.reservoir._key) != key
    assert desk.service.stirred_bytes == 128
    with pytest.raises(Refused):
        desk.service.feed(session, Feed(2, 1, (bytes(64),)))  # one bit is too much


def test_a_role_needs_its_permission() -> None:
    desk = Desk()
    desk.ledger.admit("vm1", "draw")
    with pytest.raises(Refused) as caught:
        desk.login("vm1", "feed")
    assert caught.value.code is RefusedCode.PERMISSION
    assert desk.service.logins.ids.find("vm1") is None


# Feeds


def test_a_feeder_is_credited_up_to_its_cap_per_second() -> None:
    desk = Desk()
    rng1 = desk.login("rng1", "feed", credit_bits_per_second=2000)
    service = desk.service
    assert service.feed(rng1, feed(8)).credited_bits == 2000
    assert service.feed(rng1, feed(8, sequence=8)).credited_bits == 0
    desk.now_seconds = 0.5
    assert service.feed(rng1, feed(8, sequence=16)).credited_bits == 1000
    record = rng1.record
    assert (record.fed_bits, record.lost_bits) == (3 * 4096, 3 * 4096 - 3000)
    # a second credential has its own
    assert service.feed(desk.login("rng2", "feed"), feed(1)).credited_bits == 512


def test_accepted_says_what_comes_next_and_how_full_it_is() -> None:
    desk = Desk(marks=ReservoirConfig(10, 2, 4))
    rng1 = desk.login("rng1", "feed")
    assert desk.service.feed(rng1, feed(4, sequence=7)) == (11, 2048, 4, 10)
    assert desk.service.feed(rng1, Feed(0, 0, ())) == (11, 0, 4, 10)
    assert desk.service.feed(rng1, feed(8, sequence=11)) == (19, 6 * 512, 10, 10)
    assert desk.service.recall(rng1, Recall(15)) == (15, 0, 8, 10)
    assert rng1.record.recalled_bits == 2 * 512
    assert desk.service.feed(rng1, feed(1, sequence=15)) == (16, 512, 9, 10)
    assert "rng1: recalled its blocks from 15 on" in desk.lines[-1]


def test_a_block_cannot_be_fed_twice() -> None:
    desk = Desk()
    rng1 = desk.login("rng1", "feed")
    desk.service.feed(rng1, feed(4))
    desk.service.draw(desk.login("vm1"), draw(256))  # all gone again
    with pytest.raises(Refused) as caught:
        desk.service.feed(rng1, feed(1, sequence=3))
    assert caught.value.code is RefusedCode.PROTOCOL
    assert desk.reservoir.held_blocks == 0


def test_a_recall_reaches_only_its_own_session() -> None:
    desk = Desk()
    old = desk.login("rng1", "feed")
    desk.service.feed(old, feed(2))
    desk.service.logout(old)
    new = desk.login("rng1", "feed")
    desk.service.feed(new, feed(3))
    desk.service.recall(new, Recall(0))
    assert desk.reservoir.held_blocks == 2


# Peers


def test_a_peer_gets_what_is_above_the_high_mark_and_never_waits() -> None:
    desk = filled(6, marks=ReservoirConfig(64, 2, 4))
    peer = desk.login("broker2", "peer")
    message = draw(4096, kind=PEER, wait_ms=60_000)
    assert summary(desk.service.draw(peer, message)) == (128, 896)
    assert summary(desk.service.draw(peer, message)) == (RetryReason.LOW, 5000)
    assert desk.reservoir.accounting().exported_bits == 896


def test_what_a_peer_brought_serves_clients_and_no_peer() -> None:
    desk = Desk(marks=ReservoirConfig(64, 1, 2))
    waiting = desk.service.draw(desk.login("vm1"), draw(32, wait_ms=1000))
    assert isinstance(waiting, PendingDraw)
    desk.service.imported(os.urandom(64 * 20), 20 * 448, ("rng7",))
    assert summary(waiting.reply) == (32, 256)
    peer = desk.login("broker2", "peer")
    assert summary(desk.service.draw(peer, draw(64, kind=PEER))) == (RetryReason.LOW, 5000)


def test_peers_are_told_when_the_reservoir_is_low() -> None:
    desk = filled(4, marks=ReservoirConfig(64, 2, 4))
    calls: list[int] = []
    desk.service.fell_low = lambda: calls.append(desk.reservoir.held_blocks)
    vm1 = desk.login("vm1")
    for _ in range(4):
        desk.service.draw(vm1, draw(64))
    assert calls == [1, 0]


# Ids


def test_alarms_are_raised_counted_and_never_refuse() -> None:
    desk = Desk()
    desk.login("vm1", counter=5)
    desk.login("vm1", counter=5)
    desk.login("vm1", boot_id=b"b" * 16, counter=1)
    desk.login("vm1", counter=6)
    assert desk.service.alarms.n == 2
    texts = [alarm.text for alarm in desk.service.alarms]
    assert "counter went from 5 to 5" in texts[0]
    assert "earlier boot" in texts[1]
    assert all(text.startswith("vm1: ") for text in texts)
    assert desk.lines == texts


def test_alarms_are_bounded() -> None:
    desk = Desk()
    for number in range(200):
        for _ in range(2):
            desk.login(f"vm{number}", counter=5)
    assert (desk.service.alarms.n, len(desk.service.alarms)) == (200, 100)


def test_the_alarms_of_one_id_do_not_bury_those_of_others() -> None:
    desk = Desk()
    for _ in range(2):
        desk.login("vm2", counter=5)
    for _ in range(501):
        desk.login("vm1", counter=5)
    assert desk.service.alarms.n == 501
    assert [alarm.id for alarm in desk.service.alarms] == ["vm2", *["vm1"] * 5]
    assert len(desk.lines) == 6
    desk.now_seconds = 600
    desk.login("vm1", counter=5)
    assert [alarm.id for alarm in desk.service.alarms] == ["vm2", *["vm1"] * 5]
    assert [*desk.service.alarms][-1].unix == 1_000_600
    assert len(desk.lines) == 7


def test_a_new_access_list_changes_limits_and_forgets() -> None:
    desk = filled(20)
    vm1 = desk.login("vm1")
    desk.login("vm2")
    desk.ledger.admit("vm1", "draw", rate_bytes_per_second=1, burst_bytes=64)
    desk.ledger.revoke("vm2")
    desk.ledger.next_gone = {("vm2", KEY_ID)}
    assert desk.apply_acl() == {("vm2", KEY_ID)}
    assert desk.service.logins.ids.find("vm2") is None
    assert summary(desk.service.draw(vm1, draw(4096))) == (64, 448)
    assert summary(desk.service.draw(vm1, draw(64))) == (RetryReason.RATE, 64_001)
    welcome = desk.service.welcome(vm1)
    assert (welcome.rate_bytes_per_second, welcome.burst_bytes) == (1, 64)


def test_welcome_says_the_limits() -> None:
    desk = filled(3)
    welcome = desk.service.welcome(desk.login("vm1", credit_bits_per_second=9))
    assert welcome[:-1] == (frozenset({"draw"}), 600, 32, 64, 4096, 9, 3, 64)


def test_a_clock_that_was_set_back_silences_nobody() -> None:
    now = [2_000_000_000.0]
    said: list[str] = []
    alarms = Alarms(lambda: now[0], lambda text, _priority: said.append(text))
    for _ in range(6):
        alarms.note("vm1", "is odd")
    assert len(said) == 5
    now[0] -= 1_000_000
    alarms.note("vm1", "is odd again")
    assert said[5:] == ["vm1: is odd again"]
