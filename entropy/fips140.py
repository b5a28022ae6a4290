"""The statistical tests of FIPS 140-2 (2001, section 4.9.1), for auditors who still ask for them.

They judge blocks of 20,000 bits, one after the other: monobit, poker, runs and long run, and the
comparison of each 32-bit word with the one before it. What they find says nothing about how much
entropy there is, and good samples fail them now and then (about 8 blocks in 10,000): so a block
that fails is dropped, and no more than that. They come after the health tests, never instead.

NIST withdrew the statistical tests in 2002; the limits are those that the standard had then.
"""

from __future__ import annotations

from typing import NamedTuple

BLOCK_BYTES = 2500
BLOCK_BITS = 8 * BLOCK_BYTES
WORD_BYTES = 4
# All of these bounds are inside: a value that equals one passes, but for monobit and poker.
MONOBIT = (9725, 10275)
POKER = (2.16, 46.17)
RUNS = ((2315, 2685), (1114, 1386), (527, 723), (240, 384), (103, 209), (103, 209))
LONG_RUN_BITS = 26


def failure(block: bytes, word_before: bytes = b"") -> str:
    """What is wrong with a block of 2500 bytes, by the first test that it fails; "": nothing.

    word_before: the last 32 bits before the block, where there were any.
    """
    number = int.from_bytes(block, "big")
    ones = number.bit_count()
    if not MONOBIT[0] < ones < MONOBIT[1]:
        return f"monobit: {ones} ones"

    nibbles = block.hex()
    squares = sum(nibbles.count(digit) ** 2 for digit in "0123456789abcdef")
    poker = 16 / 5000 * squares - 5000
    if not POKER[0] < poker < POKER[1]:
        return f"poker: {poker:.2f}"

    for value, bits in ((1, number), (0, ~number & ((1 << BLOCK_BITS) - 1))):
        counts, has_long_run = _runs(bits)
        if has_long_run:
            return f"long run: {LONG_RUN_BITS} or more of {value}"
        for length, (count, (least, most)) in enumerate(zip(counts, RUNS), 1):
            if not least <= count <= most:
                more = " or more" if length == len(RUNS) else ""
                return f"runs: {count} of {length}{more} of {value}"

    words = [word_before] if word_before else []
    words += [block[i : i + WORD_BYTES] for i in range(0, BLOCK_BYTES, WORD_BYTES)]
    if any(one == other for one, other in zip(words, words[1:])):
        return "continuous run: a word of 32 bits came twice in a row"
    return ""


def _runs(bits: int) -> tuple[list[int], bool]:
    """How many runs of ones there are of length 1 to 5 and of 6 or more; whether one is long.

    `bits & bits >> 1` takes one off the end of each run. What is left after k steps has, of a run
    of n, n - k ones: the difference of two such counts is the number of runs longer than k.
    """
    left = []
    for _ in range(len(RUNS) + 1):
        left.append(bits.bit_count())
        bits &= bits >> 1
    longer_than = [one - other for one, other in zip(left, left[1:])]  # than 0 to 5
    counts = [one - other for one, other in zip(longer_than, longer_than[1:])]
    for _ in range(LONG_RUN_BITS - len(left) - 1):
        bits &= bits >> 1
    return [*counts, longer_than[-1]], bits != 0


class Sieve(NamedTuple):
    """What a push came to: the blocks that passed, each with where it ends; and why others fell."""

    passed: list[tuple[bytes, int]]
    dropped: list[str]

    def __repr__(self) -> str:
        return f"Sieve({len(self.passed)} blocks passed, dropped: {self.dropped})"


class BlockTests:
    """Collects samples into blocks and judges each. Positions are the caller's."""

    def __init__(self) -> None:
        self._samples = bytearray()
        self._word_before = b""
        self.n_passed = 0
        self.n_dropped = 0
        self.n_dropped_in_a_row = 0
        self.last_failure = ""

    @property
    def held_bytes(self) -> int:
        """Samples that wait for the rest of their block."""
        return len(self._samples)

    def push(self, samples: bytes, end_position: int) -> Sieve:
        """Add samples, the last of which lies before `end_position`; judge complete blocks."""
        self._samples += samples
        sieve = Sieve([], [])
        end = end_position - len(self._samples)
        while len(self._samples) >= BLOCK_BYTES:
            block = bytes(self._samples[:BLOCK_BYTES])
            self._samples[:BLOCK_BYTES] = bytes(BLOCK_BYTES)
            del self._samples[:BLOCK_BYTES]
            end += BLOCK_BYTES
            why = failure(block, self._word_before)
            self._word_before = block[-WORD_BYTES:]
            if why:
                sieve.dropped.append(why)
                self.last_failure = why
                self.n_dropped += 1
                self.n_dropped_in_a_row += 1
            else:
                sieve.passed.append((block, end))
                self.n_passed += 1
                self.n_dropped_in_a_row = 0
        return sieve

    def destroy(self) -> int:
        """Overwrite and forget the samples of the block in the making. Returns how many bytes."""
        n_destroyed = len(self._samples)
        self._samples[:] = bytes(n_destroyed)
        self._samples.clear()
        self._word_before = b""
        return n_destroyed
