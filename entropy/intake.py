"""From raw samples to numbered blocks: health tests, then conditioning, and what a failure costs.

No input or output here; `feeder` and `sample` hand in what they read.

Every sample has a position: how many came before it since the program started, those that were
discarded included. A block remembers where its input ended, so that a failing window can name
the blocks that come too close to it.

What is destroyed or recalled when a window fails, be it in the test at work or at start-up:

- the window, whatever else was held or handed in with it, and the conditioner's partial input
  (and that of the block tests);
- every finished block that was not sent, however old its input is;
- of those that were sent, every block with input from the last L bytes before the failing
  window, L = max(512, the longest run short of the repetition cutoff). A fault that a window
  shows may have begun inside the window before, too late there to reach a cutoff; a run may
  reach back further when the cutoff is long. Older blocks came from windows that closed clean
  and whose successor did, too, and stay.
"""

from __future__ import annotations

from typing import NamedTuple

from entropy.conditioner import Conditioner
from entropy.errors import HealthFailure
from entropy.fips140 import BlockTests
from entropy.health import INTERMITTENT_EXPONENT, HealthTests
from entropy.sources.base import Figures


class FreshBlock(NamedTuple):
    """64 bytes worth 512 bits, and the position where the block's input ended."""

    data: bytearray
    end_position: int

    def __repr__(self) -> str:
        return f"FreshBlock({len(self.data)} bytes, input up to {self.end_position})"


class Intake:
    """One source's samples on their way to blocks.

    first_position: how many samples came before, through an intake with other figures.
    block_tests: FIPS 140-2's, between the health tests and the conditioner, where they are wanted.
    """

    def __init__(
        self,
        figures: Figures,
        *,
        first_position: int = 0,
        false_alarm_exponent: int = INTERMITTENT_EXPONENT,
        block_tests: BlockTests | None = None,
    ) -> None:
        self.figures = figures
        self._block_tests = block_tests
        self._tests = HealthTests(
            figures.test_bits_per_byte, false_alarm_exponent, first_position=first_position
        )
        self._conditioner = Conditioner(figures.credit_bits_per_byte)

    @property
    def position(self) -> int:
        """How many samples were judged or destroyed so far."""
        return self._tests.position

    @property
    def started(self) -> bool:
        """Whether the start-up test has passed."""
        return self._tests.started

    @property
    def safe_position(self) -> int:
        """Blocks whose input ended here or before can no longer be asked back."""
        return self._tests.position - self._tests.lookback_bytes

    @property
    def failed_in_startup(self) -> bool:
        """After a failure: whether the source was still in its start-up test."""
        return self._tests.failed_in_startup

    @property
    def failed_permanently(self) -> bool:
        """After a failure: whether it was one that chance cannot explain."""
        return self._tests.failed_permanently

    @property
    def recall_position(self) -> int:
        """After a failure: blocks whose input ended after this position must be recalled."""
        return self._tests.failed_at - self._tests.lookback_bytes

    def push(self, samples: bytes) -> list[FreshBlock]:
        """Test and condition; return the blocks that are now complete.

        Raises HealthFailure when a window fails: all that was held is destroyed by then, and
        the start-up test comes next. See `recall_position`.
        """
        try:
            clean = self._tests.push(samples)
        except HealthFailure:
            self._destroy()
            raise
        end_position = self._tests.position  # the clean windows end there
        if self._block_tests is None:
            return self._condition(clean, end_position)
        fresh = []
        for block, end in self._block_tests.push(clean, end_position).passed:
            fresh += self._condition(block, end)
        return fresh

    def _condition(self, tested: bytes, end_position: int) -> list[FreshBlock]:
        """Hand on what was tested, and tell of each block where its last sample lay."""
        n_raw = self._conditioner.raw_bytes_per_block
        end = end_position - len(tested) - self._conditioner.held_bytes
        fresh = []
        for block in self._conditioner.push(tested):
            end += n_raw
            fresh.append(FreshBlock(block, end))
        return fresh

    def restart(self) -> None:
        """Destroy what is held and demand the start-up test again: the source was reopened."""
        self._tests.restart()
        self._destroy()

    def _destroy(self) -> None:
        self._conditioner.destroy()
        if self._block_tests is not None:
            self._block_tests.destroy()
