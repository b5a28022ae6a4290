"""Health tests over raw samples, as in NIST SP 800-90B section 4.4, on bytes and on bits.

A sample is one byte, and each byte is also eight binary samples, the highest bit first. The
cutoffs follow from H, the min-entropy that a sample should look like (`test_bits_per_byte`;
an eighth of it per bit), and from the chance that good samples fail a test, 2^-40 unless said
(NIST asks for 2^-20 to 2^-40; at 12,500 samples a second the first is an alarm every few
minutes, the second one in years). A window that fails is judged once more by the cutoffs of
2^-60: chance does not fail those, so the fault is `permanent`, and the source should be retired.

Samples are judged in windows of 512 bytes. A window closes clean when, over all of it,

- repetition count (4.4.1): no value came C times in a row, counted across windows;
- adaptive proportion (4.4.2): the first of the 512 bytes came fewer than C times in them, and
  in each of the four parts of 1024 bits the first bit came fewer than C times;
- recurrence (ours, not in SP 800-90B): the window's first bytes do not come again in it. A
  device that hands out one stale buffer again and again passes the other two when the buffer
  is longer than 20 bytes.

Only bytes of clean windows leave `HealthTests.push`. The first 1024 after a start are tested
and discarded: the start-up test. Nothing here reads a clock or a device.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from entropy.errors import ConfigError, HealthFailure

WINDOW_BYTES = 512  # SP 800-90B 4.4.2: W for samples of more than one bit
BIT_WINDOW_BITS = 1024  # and for binary ones
STARTUP_BYTES = 1024  # SP 800-90B 4.3: at least 1024 samples; a whole number of windows
INTERMITTENT_EXPONENT = 40  # a good window fails one test with probability 2^-40 at most
PERMANENT_EXPONENT = 60  # and these with 2^-60: never, in the life of any device
LEAST_TEST_BITS = 0.1  # per byte: below it the cutoffs would let nearly anything pass

_BIT_WINDOW_BYTES = BIT_WINDOW_BITS // 8


class Cutoffs(NamedTuple):
    """From how many equal samples on each test fails. One above the window: it never does."""

    byte_repetition: int
    byte_proportion: int
    bit_repetition: int
    bit_proportion: int
    recurrence_bytes: int  # so many first bytes of a window must not come again in it


def repetition_cutoff(min_entropy_bits: Fraction, false_alarm_exponent: int) -> int:
    """C = 1 + ceil(-log2(alpha) / H), alpha = 2^-exponent (SP 800-90B 4.4.1)."""
    return 1 - (-false_alarm_exponent // min_entropy_bits)


def critical_binomial(n_trials: int, success: Fraction, false_alarm_exponent: int) -> int:
    """The smallest k with P(X > k) <= 2^-exponent, X binomial: CRITBINOM(n, p, 1 - alpha).

    Computed in whole numbers, so that no rounding can move a cutoff: with p = a/(a+b) the
    probability of k successes is C(n, k) a^k b^(n-k) / (a+b)^n.
    """
    a, b = success.numerator, success.denominator - success.numerator
    if b == 0:
        return n_trials
    whole = success.denominator**n_trials
    term = a**n_trials  # of k = n_trials; then downwards
    tail = 0  # P(X > k), times `whole`
    k = n_trials
    while k > 0 and (tail + term) << false_alarm_exponent <= whole:
        tail += term
        term = term * b * k // (a * (n_trials - k + 1))  # exact: a binomial term again
        k -= 1
    return k


def proportion_cutoff(n_samples: int, min_entropy_bits: Fraction, false_alarm_exponent: int) -> int:
    """C = 1 + CRITBINOM(W, 2^-H, 1 - alpha) (SP 800-90B 4.4.2). W + 1 can never be reached."""
    most_likely = Fraction(2.0 ** -float(min_entropy_bits))
    return 1 + critical_binomial(n_samples, most_likely, false_alarm_exponent)


@lru_cache(maxsize=64)
def cutoffs(
    test_bits_per_byte: float, false_alarm_exponent: int = INTERMITTENT_EXPONENT
) -> Cutoffs:
    """All cutoffs for a source that should look like `test_bits_per_byte`.

    Raises ConfigError below 0.1 and above 8 bits per byte.
    """
    if not LEAST_TEST_BITS <= test_bits_per_byte <= 8:
        raise ConfigError(
            f"test_bits_per_byte is {test_bits_per_byte:g}; the health tests can be cut from"
            f" {LEAST_TEST_BITS:g} to 8 bits per byte"
        )
    per_byte = Fraction(test_bits_per_byte)
    per_bit = per_byte / 8
    # n bytes equal n earlier ones with probability 2^-nH at most; under 2^9 places can match.
    places_exponent = (WINDOW_BYTES - 1).bit_length()
    return Cutoffs(
        byte_repetition=repetition_cutoff(per_byte, false_alarm_exponent),
        byte_proportion=proportion_cutoff(WINDOW_BYTES, per_byte, false_alarm_exponent),
        bit_repetition=repetition_cutoff(per_bit, false_alarm_exponent),
        bit_proportion=proportion_cutoff(BIT_WINDOW_BITS, per_bit, false_alarm_exponent),
        recurrence_bytes=-(-(false_alarm_exponent + places_exponent) // per_byte),
    )


class HealthTests:
    """The tests of one source's stream, from its start-up on.

    It holds no samples but those of the window that is still open, and of what came before
    as much as a run across the boundary needs.
    """

    def __init__(
        self,
        test_bits_per_byte: float,
        false_alarm_exponent: int = INTERMITTENT_EXPONENT,
        *,
        first_position: int = 0,
    ) -> None:
        self.cutoffs = cutoffs(test_bits_per_byte, false_alarm_exponent)
        self._permanent = cutoffs(test_bits_per_byte, max(PERMANENT_EXPONENT, false_alarm_exponent))
        # A run that fails one window began less than this many bytes before it.
        self._longest_run_bytes = max(
            self.cutoffs.byte_repetition, -(-self.cutoffs.bit_repetition // 8) + 1
        )
        self._open = bytearray()  # the window that is filling
        self._before = b""  # the last bytes of the windows before it
        self._startup_left_bytes = STARTUP_BYTES
        # Bytes judged or destroyed so far: where the open window begins.
        self.position = first_position
        self.failed_at = 0  # where the last failing window began
        self.failed_in_startup = False  # and whether that was in the start-up test
        self.failed_permanently = False  # and whether chance can be ruled out

    @property
    def started(self) -> bool:
        """Whether the start-up test has passed."""
        return self._startup_left_bytes == 0

    @property
    def lookback_bytes(self) -> int:
        """How far before a failing window the fault may have begun: a window, or a longest run."""
        return max(WINDOW_BYTES, self._longest_run_bytes)

    def restart(self) -> int:
        """Destroy what is held and demand the start-up test again. Returns the bytes destroyed."""
        n_destroyed = len(self._open)
        self.position += n_destroyed
        self._open[:] = bytes(n_destroyed)
        self._open.clear()
        self._before = b""
        self._startup_left_bytes = STARTUP_BYTES
        return n_destroyed

    def push(self, samples: bytes) -> bytes:
        """Test `samples`; return the bytes of those windows that have now closed clean.

        They come in order, whole windows only, and `position` then counts to their end. When a
        window fails, HealthFailure is raised, no byte of this call or of those held gets out,
        `failed_at` is where the window begins, `failed_permanently` says whether it fails by the
        cutoffs of 2^-60 as well, and the start-up test comes next (`restart`).
        """
        self._open += samples
        clean = []
        while len(self._open) >= WINDOW_BYTES:
            window = bytes(self._open[:WINDOW_BYTES])
            failure = self._judge(window, self.cutoffs)
            if failure:
                self.failed_permanently = bool(self._judge(window, self._permanent))
                phase = "health test" if self.started else "start-up test"
                self.failed_at, self.failed_in_startup = self.position, not self.started
                self.restart()
                raise HealthFailure(f"{phase} failed: {failure}, near byte {self.failed_at}")
            self._before = (self._before + window)[-self._longest_run_bytes :]
            self.position += WINDOW_BYTES
            del self._open[:WINDOW_BYTES]
            if self.started:
                clean.append(window)
            else:
                self._startup_left_bytes -= WINDOW_BYTES
        return b"".join(clean)

    def _judge(self, window: bytes, cut: Cutoffs) -> str:
        """What is wrong with this window by these cutoffs; "" when nothing is."""
        run = self._before + window
        number = int.from_bytes(run, "big")
        n_bits = 8 * len(run)

        # Equal neighbours are zeros in the difference of the run and itself, one place on.
        changes = number ^ (number >> 8)
        unchanged_bytes = changes.to_bytes(len(run), "big")[1:]
        if bytes(cut.byte_repetition - 1) in unchanged_bytes:
            return f"repetition count on bytes: one value {cut.byte_repetition} times in a row"

        equal = (number ^ (number >> 1) ^ -1) & ((1 << (n_bits - 1)) - 1)
        if _has_ones_in_a_row(equal, cut.bit_repetition - 1):
            return f"repetition count on bits: one value {cut.bit_repetition} times in a row"

        count = window.count(window[:1])
        if count >= cut.byte_proportion:
            return (
                f"adaptive proportion on bytes: one value {count} times in {WINDOW_BYTES}"
                f" (cutoff {cut.byte_proportion})"
            )
        for start in range(0, WINDOW_BYTES, _BIT_WINDOW_BYTES):
            part = window[start : start + _BIT_WINDOW_BYTES]
            ones = int.from_bytes(part, "big").bit_count()
            count = ones if part[0] & 0x80 else BIT_WINDOW_BITS - ones
            if count >= cut.bit_proportion:
                return (
                    f"adaptive proportion on bits: one value {count} times in {BIT_WINDOW_BITS}"
                    f" (cutoff {cut.bit_proportion})"
                )

        period = window.find(window[: cut.recurrence_bytes], 1)
        if period > 0 and cut.recurrence_bytes < WINDOW_BYTES:
            return f"recurrence: {cut.recurrence_bytes} bytes come again after {period}"
        return ""


def _has_ones_in_a_row(number: int, n_ones: int) -> bool:
    """Whether `n_ones` bits in a row are set, found by doubling the shift."""
    have = 1
    while have < n_ones and number:
        step = min(have, n_ones - have)
        number &= number >> step
        have += step
    return number != 0
