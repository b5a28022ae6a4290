"""How often the health tests fail on perfect noise: as often as they must by the formulas?

    python -m tests.health.false_alarms [SAMPLES]

A window fails by chance with a probability that follows from the cutoffs exactly. It is not
alpha: cutoffs are whole numbers, and SP 800-90B's own formulas for them only come near it.
"""

from __future__ import annotations

import hashlib
import math
import sys
from collections.abc import Iterator
from typing import NamedTuple

from entropy.errors import HealthFailure
from entropy.health import BIT_WINDOW_BITS, WINDOW_BYTES, Cutoffs, HealthTests, cutoffs

from .faults import at_least

EXPONENT = 20  # alpha = 2^-20, the most that SP 800-90B allows
TEST_BITS = 8.0  # perfect noise, and what the tests expect
N_SAMPLES = 10**8
SIGMAS = 3
_CHUNK_WINDOWS = 2048


class Alarms(NamedTuple):
    test: str
    expected: float
    counted: int

    @property
    def sigmas(self) -> float:
        """How far apart: counts like these have the square root of the expected as deviation."""
        return (self.counted - self.expected) / math.sqrt(self.expected)


def good_windows(n_windows: int) -> Iterator[bytes]:
    """Perfect noise, the same each time."""
    for first in range(0, n_windows, _CHUNK_WINDOWS):
        chunk = hashlib.shake_256(b"good noise %d" % first).digest(_CHUNK_WINDOWS * WINDOW_BYTES)
        for n in range(min(_CHUNK_WINDOWS, n_windows - first)):
            yield chunk[n * WINDOW_BYTES : (n + 1) * WINDOW_BYTES]


def count(n_windows: int) -> dict[str, int]:
    """How often each test failed, by the name that it gives itself."""
    tests = HealthTests(TEST_BITS, EXPONENT)
    failures: dict[str, int] = {}
    for window in good_windows(n_windows):
        try:
            tests.push(window)
        except HealthFailure as failure:
            test = str(failure).split(": ")[1]
            failures[test] = failures.get(test, 0) + 1
    return failures


def run_in_window(n_values: int, cutoff: int, n_steps: int) -> float:
    """That in a window of so many perfect samples a run grows to `cutoff`.

    The run may have begun before; the windows before held none.
    """
    again = 1 / n_values
    lengths = [1.0] + [0.0] * (cutoff - 2)  # the probability of each length of the run so far
    reached = 0.0
    for _ in range(3):  # windows, until the beginning is forgotten
        reached, before = 0.0, sum(lengths)
        for _ in range(n_steps):
            reached += again * lengths[-1]
            lengths = [sum(lengths) * (1 - again), *(again * length for length in lengths[:-1])]
        reached /= before
    return reached


def expected(cut: Cutoffs) -> dict[str, float]:
    """The probability that one window of perfect bytes fails, for each test."""
    bits = at_least(BIT_WINDOW_BITS - 1, 1 / 2, cut.bit_proportion - 1)
    places = WINDOW_BYTES - cut.recurrence_bytes
    n_parts = 8 * WINDOW_BYTES // BIT_WINDOW_BITS
    return {
        "repetition count on bytes": run_in_window(256, cut.byte_repetition, WINDOW_BYTES),
        "repetition count on bits": run_in_window(2, cut.bit_repetition, 8 * WINDOW_BYTES),
        "adaptive proportion on bytes": at_least(
            WINDOW_BYTES - 1, 1 / 256, cut.byte_proportion - 1
        ),
        "adaptive proportion on bits": 1 - (1 - bits) ** n_parts,
        "recurrence": places * 2.0 ** (-8 * cut.recurrence_bytes),
    }


def measure(n_samples: int) -> list[Alarms]:
    """Expected and counted for each test, and for all of them together at the end."""
    n_windows = n_samples // WINDOW_BYTES
    counted = count(n_windows)
    chances = expected(cutoffs(TEST_BITS, EXPONENT))
    rows = [Alarms(test, p * n_windows, counted.pop(test, 0)) for test, p in chances.items()]
    assert not counted, f"tests that nobody expected: {counted}"
    return [
        *rows,
        Alarms("all", sum(row.expected for row in rows), sum(row.counted for row in rows)),
    ]


def table(rows: list[Alarms]) -> str:
    lines = ["| test | expected | counted | apart |", "|---|---|---|---|"]
    for row in rows:
        lines.append(
            f"| {row.test} | {row.expected:.2f} | {row.counted} | {row.sigmas:+.1f} sigma |"
        )
    return "\n".join(lines)


def main() -> int:
    n_samples = int(sys.argv[1]) if len(sys.argv) > 1 else N_SAMPLES
    rows = measure(n_samples)
    print(f"{n_samples:,} perfect samples, alpha = 2^-{EXPONENT}\n\n{table(rows)}")
    if abs(rows[-1].sigmas) > SIGMAS:
        print(f"more than {SIGMAS} sigma apart", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
