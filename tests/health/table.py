"""Writes the tables of docs/health-tests.md: cutoffs, and how soon faults are caught.

    python -m tests.health.table

The text around the tables is written by hand. What is measured comes out the same each time.
"""

from __future__ import annotations

import re
import statistics
import sys
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

from entropy.health import (
    BIT_WINDOW_BITS,
    WINDOW_BYTES,
    Cutoffs,
    cutoffs,
    proportion_cutoff,
    repetition_cutoff,
)

from . import false_alarms
from .faults import (
    Fault,
    biased,
    caught_after,
    drifting,
    preferring,
    repeating,
    sticking,
    stuck,
)

PAGE = Path(__file__).resolve().parents[2] / "docs" / "health-tests.md"
EXPONENTS = (20, 30, 40, 60)
TEST_BITS = (8.0, 7.0, 4.0)  # per byte: the best, the Alea's, and a cautious one
PERIODS = range(2, 65)
SAMPLES_PER_SECOND = 12_500  # of an Alea
N_TRIALS = 200
N_TRIALS_DEGRADING = 50
_MOST_MEASURED_SAMPLES = 2_000_000  # a promise beyond is not waited for


def row(cells: Iterable[object]) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def cutoff_table() -> str:
    """RCT / APT for bytes and for bits, of which each holds an eighth of its byte's entropy."""
    lines = []
    for what, n_samples, divisor in (("bytes", WINDOW_BYTES, 1), ("bits", BIT_WINDOW_BITS, 8)):
        lines += [
            f"On {what}, windows of {n_samples}:",
            "",
            row(["H, bits per byte", *(f"alpha 2^-{exponent}" for exponent in EXPONENTS)]),
            row(["---"] * (len(EXPONENTS) + 1)),
        ]
        for bits in range(1, 9):
            per_sample = Fraction(bits, divisor)
            cells = [
                f"{repetition_cutoff(per_sample, exponent)} /"
                f" {proportion_cutoff(n_samples, per_sample, exponent)}"
                for exponent in EXPONENTS
            ]
            lines.append(row([bits, *cells]))
        lines.append("")
    return "\n".join(lines[:-1])


def faults(cut: Cutoffs) -> list[tuple[str, list[Fault]]]:
    """The rows of a table: a name, and what is measured for it."""
    periods = [repeating(period, cut) for period in PERIODS]
    rows = [(fault.name, [fault]) for fault in (stuck(), biased())]
    for test in dict.fromkeys(fault.test for fault in periods):
        numbers = [n for n, fault in zip(PERIODS, periods) if fault.test == test]
        same = [fault for fault in periods if fault.test == test]
        rows.append((f"repeating, period {numbers[0]} to {numbers[-1]}", same))
    return rows + [(fault.name, [fault]) for fault in (drifting(), preferring(), sticking())]


def measured(same: Sequence[Fault], test_bits: float, promised: int) -> list[int | None]:
    degrades = same[0].name.startswith("degrading")
    n_trials = (N_TRIALS_DEGRADING if degrades else N_TRIALS) // len(same) or 1
    return [
        caught_after(fault, test_bits, 1000 * n + seed, promised + 2 * WINDOW_BYTES)
        for n, fault in enumerate(same)
        for seed in range(n_trials)
    ]


def detection_table(test_bits: float) -> str:
    cut = cutoffs(test_bits)
    lines = [
        row(["fault", "promised by", "promised", "mean", "worst of", "left at the worst"]),
        row(["---"] * 6),
    ]
    for name, same in faults(cut):
        promised = same[0].promised(cut)
        cells: list[object] = [name, same[0].test]
        if promised is None or promised > _MOST_MEASURED_SAMPLES:
            lines.append(row([*cells, "no" if promised is None else f"{promised:,}", "", "", ""]))
            continue
        found = measured(same, test_bits, promised)
        caught = [n for n in found if n is not None]
        if len(caught) < len(found) or max(caught) > promised:
            raise SystemExit(f"{name} at {test_bits:g} bits: {promised} promised, found {found}")
        left = f"{same[0].left_bits(max(caught)):.1f}"
        mean = f"{statistics.mean(caught):,.0f}"
        lines.append(row([*cells, f"{promised:,}", mean, f"{max(caught):,} ({len(caught)})", left]))
    return "\n".join(lines)


def alarm_table(n_samples: int) -> str:
    return false_alarms.table(false_alarms.measure(n_samples))


def interruption_table() -> str:
    """How long perfect noise goes on, on average, until a window fails by chance."""
    lines = [
        row(["tests cut for", *(f"alpha 2^-{exponent}" for exponent in EXPONENTS)]),
        row(["---"] * (len(EXPONENTS) + 1)),
    ]
    for test_bits in TEST_BITS:
        cells = []
        for exponent in EXPONENTS:
            chance = sum(false_alarms.expected(cutoffs(test_bits, exponent)).values())
            cells.append(_long(WINDOW_BYTES / chance / SAMPLES_PER_SECOND))
        lines.append(row([f"{test_bits:g} bits per byte", *cells]))
    return "\n".join(lines)


def _long(seconds: float) -> str:
    for unit, length in (("years", 31_557_600), ("days", 86_400), ("hours", 3600)):
        if seconds >= length:
            n = seconds / length
            return f"{n:,.1f} {unit}" if n < 1000 else "over 1,000 years"
    return f"{seconds:.0f} seconds"


def put(page: str, name: str, table: str) -> str:
    """The page with one table made anew: what stands between its two marks."""
    pattern = re.compile(rf"(<!-- {re.escape(name)} -->\n).*?(<!-- end -->)", re.DOTALL)
    made, n_found = pattern.subn(lambda marks: f"{marks[1]}\n{table}\n\n{marks[2]}", page)
    if n_found != 1:
        raise SystemExit(f"{PAGE}: {n_found} tables called {name}")
    return made


def main() -> int:
    page = put(PAGE.read_text(), "cutoffs", cutoff_table())
    page = put(page, "interruptions", interruption_table())
    for test_bits in TEST_BITS:
        page = put(page, f"detection {test_bits:g}", detection_table(test_bits))
    for n_samples in (10**8, 10**9):
        page = put(page, f"false alarms {n_samples}", alarm_table(n_samples))
    PAGE.write_text(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
