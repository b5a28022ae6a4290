"""The outbox: each block goes out once at most, and every bit is accounted for."""

from __future__ import annotations

import hashlib

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from entropy.intake import FreshBlock
from entropy.outbox import Outbox
from entropy.wire.frames import Recall


def blocks(first: int, n_blocks: int) -> list[FreshBlock]:
    """Block i holds a hash of i, and its input ended at 100 (i + 1)."""
    return [
        FreshBlock(bytearray(hashlib.sha512(b"%d" % i).digest()), 100 * (i + 1))
        for i in range(first, first + n_blocks)
    ]


def test_oldest_first_numbered_and_overwritten() -> None:
    outbox = Outbox()
    made = blocks(0, 3)
    kept = [bytes(block.data) for block in made]
    outbox.add(made)
    outbox.begin_session()
    feed = outbox.take(2)
    assert (feed.sequence, feed.credit_bits, list(feed.blocks)) == (0, 1024, kept[:2])
    assert not any(made[0].data)
    assert not any(made[1].data)
    assert outbox.take(32) == (2, 512, (kept[2],))
    assert outbox.ask() == (3, 0, ())


def test_a_frame_holds_32_at_most() -> None:
    outbox = Outbox()
    outbox.add(blocks(0, 40))
    outbox.begin_session()
    assert len(outbox.take(40).blocks) == 32
    assert outbox.held_blocks == 8


def test_what_is_destroyed_is_overwritten_and_never_sent() -> None:
    outbox = Outbox()
    made = blocks(0, 3)
    outbox.add(made)
    assert outbox.destroy() == 3
    assert not any(any(block.data) for block in made)
    assert outbox.take(32).blocks == ()


def test_a_recall_names_the_first_block_with_late_input() -> None:
    outbox = Outbox()
    outbox.begin_session()
    outbox.add(blocks(0, 10))
    outbox.take(10)
    outbox.forget_before(300)
    assert outbox.recall_after(550) == (5, 0)  # the sixth ends at 600
    recall = outbox.recall
    assert recall is not None
    assert recall.sequence == 5
    outbox.recalled(recall)
    assert outbox.recall is None
    assert outbox.accounting.recalled_bits == 5 * 512


def test_no_recall_where_nothing_late_was_sent() -> None:
    outbox = Outbox()
    outbox.begin_session()
    outbox.add(blocks(0, 10))
    outbox.take(5)
    assert outbox.recall_after(500) == (0, 0)
    assert outbox.recall is None


def test_an_earlier_session_is_out_of_reach() -> None:
    outbox = Outbox()
    outbox.begin_session()
    outbox.add(blocks(0, 10))
    outbox.take(6)
    assert outbox.end_session() == 0
    outbox.begin_session()
    assert outbox.take(4).sequence == 0
    assert outbox.recall_after(300) == (4, 3)  # of the first session the blocks at 400 to 600
    assert outbox.recall == (0,)


def test_of_two_recalls_the_earlier_number_is_named_until_it_is_answered() -> None:
    outbox = Outbox()
    outbox.begin_session()
    outbox.add(blocks(0, 10))
    outbox.take(6)
    assert outbox.recall_after(450) == (2, 0)
    outbox.take(4)
    assert outbox.recall_after(0) == (4, 0)
    assert outbox.recall == (4,)
    outbox.recalled(Recall(6))
    assert outbox.recall == (4,)
    outbox.recalled(Recall(4))
    assert outbox.recall is None


def test_a_session_that_ends_before_its_recall() -> None:
    outbox = Outbox()
    outbox.begin_session()
    outbox.add(blocks(0, 10))
    outbox.take(10)
    outbox.recall_after(700)
    assert outbox.end_session() == 3
    assert outbox.recall is None


class OutboxLife(RuleBasedStateMachine):
    """Any order of births, sessions, frames, failures and answers."""

    def __init__(self) -> None:
        super().__init__()
        self.outbox = Outbox()
        self.n_made = 0
        self.frames: set[bytes] = set()
        self.n_sent = 0
        self.in_session = False
        self.next_sequence = 0
        self.reachable: dict[int, int] = {}  # sequence: position, of what a recall can still name
        self.recall_from: int | None = None
        self.unanswered_bits = 0

    @rule(n_blocks=st.integers(0, 40))
    def born(self, n_blocks: int) -> None:
        self.outbox.add(blocks(self.n_made, n_blocks))
        self.n_made += n_blocks

    @precondition(lambda self: not self.in_session)
    @rule()
    def session_begins(self) -> None:
        self.outbox.begin_session()
        self.in_session = True
        self.next_sequence = 0
        self.unanswered_bits = 0

    @precondition(lambda self: self.in_session)
    @rule()
    def session_ends(self) -> None:
        lost = 0 if self.recall_from is None else self.next_sequence - self.recall_from
        assert self.outbox.end_session() == lost
        self.in_session = False
        self.recall_from = None
        self.reachable = {}

    @precondition(lambda self: self.in_session and self.outbox.recall is None)
    @rule(n_blocks=st.integers(0, 40))
    def frame(self, n_blocks: int) -> None:
        held = self.outbox.held_blocks
        feed = self.outbox.take(n_blocks)
        assert feed.sequence == self.next_sequence
        assert len(feed.blocks) == min(n_blocks, held, 32)
        assert feed.credit_bits == 512 * len(feed.blocks)
        for block in feed.blocks:
            assert block not in self.frames
            self.frames.add(block)
            number = next(i for i in range(self.n_made) if blocks(i, 1)[0].data == block)
            self.reachable[self.next_sequence] = 100 * (number + 1)
            self.next_sequence += 1
        self.n_sent += len(feed.blocks)
        self.unanswered_bits += feed.credit_bits

    @precondition(lambda self: self.unanswered_bits > 0)
    @rule(share=st.sampled_from([0, 0.5, 1]))
    def answer(self, share: float) -> None:
        self.outbox.accepted(int(self.unanswered_bits * share))
        self.unanswered_bits = 0

    @rule(back=st.integers(0, 2000))
    def window_closes_clean(self, back: int) -> None:
        position = 100 * self.n_made - back
        self.outbox.forget_before(position)
        self.reachable = {n: end for n, end in self.reachable.items() if end > position}

    @rule(back=st.integers(0, 2000))
    def window_fails(self, back: int) -> None:
        position = 100 * self.n_made - back
        self.outbox.destroy()
        n_recalled, _ = self.outbox.recall_after(position)
        late = [number for number, end in self.reachable.items() if end > position]
        assert n_recalled == len(late)
        if late:
            self.recall_from = min(late + ([] if self.recall_from is None else [self.recall_from]))
        self.reachable = {}

    @precondition(lambda self: self.outbox.recall is not None)
    @rule()
    def recall_answered(self) -> None:
        recall = self.outbox.recall
        assert recall is not None
        self.outbox.recalled(recall)
        self.recall_from = None

    @invariant()
    def the_recall_is_the_right_one(self) -> None:
        expected = None if self.recall_from is None else (self.recall_from,)
        assert self.outbox.recall == expected

    @invariant()
    def every_bit_is_somewhere(self) -> None:
        account = self.outbox.accounting
        assert account.born_bits == 512 * self.n_made
        assert account.born_bits == account.held_bits + account.sent_bits + account.destroyed_bits
        assert account.sent_bits == 512 * self.n_sent
        assert account.accepted_bits <= account.sent_bits


OutboxLife.TestCase.settings = settings(max_examples=40, stateful_step_count=30)
test_any_order = OutboxLife.TestCase
