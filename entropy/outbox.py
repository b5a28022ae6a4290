"""A feeder's finished blocks between their making and the broker, and where each one's bits went.

    born = held + sent + destroyed          sent >= accepted

A block is numbered and destroyed here in the same step that puts it into a frame: it is sent at
most once, and never again, whatever becomes of the frame. Of a block that was sent only its number
and the position of its input stay, as long as a failing window could still ask it back (see
`intake`). Numbers belong to a session: a block that went out in an earlier one cannot be recalled.

No input or output here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from entropy.conditioner import BLOCK_BITS
from entropy.intake import FreshBlock
from entropy.wire.frames import FEED_LIMIT_BLOCKS, Feed, Recall


class Accounting(NamedTuple):
    """Bits since the feeder started."""

    born_bits: int  # of blocks that the conditioner finished
    held_bits: int  # not sent yet
    sent_bits: int
    accepted_bits: int  # of those sent, what brokers said that they credited
    destroyed_bits: int  # never sent: their source failed, the feeder ended, or was copied
    recalled_bits: int  # of those sent, what a broker was told to drop


class _Sent(NamedTuple):
    sequence: int | None  # None: its session is over
    end_position: int


class Outbox:
    """Holds blocks until they are sent, oldest first."""

    def __init__(self) -> None:
        self._held: deque[FreshBlock] = deque()
        self._sent: deque[_Sent] = deque()  # oldest first, by end_position too
        self._next_sequence = 0
        self._recall_from: int | None = None
        self._born_bits = 0
        self._sent_bits = 0
        self._accepted_bits = 0
        self._destroyed_bits = 0
        self._recalled_bits = 0

    @property
    def held_blocks(self) -> int:
        return len(self._held)

    @property
    def accounting(self) -> Accounting:
        return Accounting(
            self._born_bits,
            BLOCK_BITS * len(self._held),
            self._sent_bits,
            self._accepted_bits,
            self._destroyed_bits,
            self._recalled_bits,
        )

    def add(self, blocks: Sequence[FreshBlock]) -> None:
        """Blocks are born."""
        self._held.extend(blocks)
        self._born_bits += BLOCK_BITS * len(blocks)

    def destroy(self) -> int:
        """Overwrite and forget all that was not sent. Returns how many blocks."""
        n_blocks = len(self._held)
        for block in self._held:
            block.data[:] = bytes(len(block.data))
        self._held.clear()
        self._destroyed_bits += BLOCK_BITS * n_blocks
        return n_blocks

    # A session

    def begin_session(self) -> None:
        """A new session: its numbers start at 0."""
        self._next_sequence = 0

    def end_session(self) -> int:
        """The session is over. Returns how many blocks should have been recalled and were not."""
        n_blocks = 0 if self._recall_from is None else self._next_sequence - self._recall_from
        self._recall_from = None
        self._sent = deque(sent._replace(sequence=None) for sent in self._sent)
        return n_blocks

    def take(self, n_blocks: int) -> Feed:
        """A frame of the `n_blocks` oldest blocks (at most 32). They are here no more."""
        n_blocks = min(n_blocks, len(self._held), FEED_LIMIT_BLOCKS)
        sequence = self._next_sequence
        blocks = []
        for i in range(n_blocks):
            block = self._held.popleft()
            blocks.append(bytes(block.data))
            block.data[:] = bytes(len(block.data))
            self._sent.append(_Sent(sequence + i, block.end_position))
        self._next_sequence += n_blocks
        self._sent_bits += BLOCK_BITS * n_blocks
        return Feed(sequence, BLOCK_BITS * n_blocks, tuple(blocks))

    def ask(self) -> Feed:
        """A frame without blocks: it asks for the fill."""
        return Feed(self._next_sequence, 0, ())

    def accepted(self, credited_bits: int) -> None:
        """The broker has credited so much of what was sent."""
        self._accepted_bits += credited_bits

    # Recalls

    def forget_before(self, position: int) -> None:
        """Blocks whose input ended at `position` or before will never be recalled."""
        while self._sent and self._sent[0].end_position <= position:
            self._sent.popleft()

    @property
    def may_recall(self) -> bool:
        """Whether a window that fails now could ask blocks of this session back."""
        return bool(self._sent) and self._sent[-1].sequence is not None

    def recall_after(self, position: int) -> tuple[int, int]:
        """Mark for recall what was sent with input from after `position`.

        Returns how many blocks of this session are to be recalled, and how many went out in an
        earlier one, where nothing recalls them.
        """
        numbers = [sent.sequence for sent in self._sent if sent.end_position > position]
        in_session = [number for number in numbers if number is not None]
        if in_session:
            first = in_session[0]
            self._recall_from = (
                first if self._recall_from is None else min(first, self._recall_from)
            )
        self._sent.clear()
        return len(in_session), len(numbers) - len(in_session)

    @property
    def recall(self) -> Recall | None:
        """The recall that the broker must be told of before anything else."""
        return None if self._recall_from is None else Recall(self._recall_from)

    def recalled(self, recall: Recall) -> None:
        """The broker has answered this recall."""
        self._recalled_bits += BLOCK_BITS * (self._next_sequence - recall.sequence)
        if self._recall_from == recall.sequence:
            self._recall_from = None
