"""Runs the drills on a deployed fleet and keeps the figures: python -m tests.failover.table [-h]

`make drills` calls it. It prints a table of medians and writes its rows between the marks in
docs/failover.md; rows of drills that did not run stay as they are.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from lab.names import CHECKOUT
from tests.failover.drills import ALL
from tests.failover.reach import Reach
from tests.failover.scene import Drilled, Scene

PAGE = CHECKOUT / "docs/failover.md"
BEGIN, END = "<!-- drills: made by make drills -->", "<!-- end of drills -->"
HEAD = (
    "| drill | gap, s: median (all) | goal | nobody answered, s | also measured, s | load |",
    "|---|---|---|---|---|---|",
)


def row(runs: list[Drilled], goal_seconds: float | None, load: str) -> str:
    """One line of the table: the name first, which says which line it replaces."""
    gaps = [run.gap.seconds for run in runs]
    also = "; ".join(
        f"{what} {statistics.median(run.figures[what] for run in runs):.2f}"
        for what in runs[0].figures
    )
    every = " ".join(f"{gap:.2f}" for gap in sorted(gaps))
    silence = statistics.median(run.silence_seconds for run in runs)
    goal = "-" if goal_seconds is None else f"{goal_seconds:g}"
    median = f"**{statistics.median(gaps):.2f}** ({every})"
    return f"| {runs[0].name} | {median} | {goal} | {silence:.2f} | {also} | {load} |"


def with_rows(page: str, rows: list[str]) -> str:
    """The page with these rows; ValueError where it has no marks."""
    before, rest = page.split(BEGIN)
    old, after = rest.split(END)
    kept = {_name(line): line for line in old.strip().splitlines()[len(HEAD) :]}
    kept.update({_name(line): line for line in rows})
    return "\n".join([before + BEGIN, *HEAD, *kept.values(), END]) + after


def _name(line: str) -> str:
    return line.split("|")[1].strip()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.failover.table")
    parser.add_argument("times", type=int, nargs="?", default=5, help="how often each (5)")
    parser.add_argument("--only", choices=ALL, nargs="+", default=list(ALL), metavar="DRILL")
    arguments = parser.parse_args()
    n_problems = 0
    with tempfile.TemporaryDirectory() as folder:
        fleet = Reach(Path(folder))
        scene = Scene(fleet, Path(folder))
        try:
            scene.load.start()
            for name in arguments.only:
                drill, goal_seconds = ALL[name]
                runs, loads = [], []
                for _ in range(arguments.times):
                    began = time.monotonic()
                    runs.append(drill(scene))
                    loads.append(os.getloadavg()[0])
                    n_problems += len(runs[-1].problems)
                    for problem in runs[-1].problems:
                        print(f"PROBLEM: {name}: {problem}", file=sys.stderr)
                    print(
                        f"{name}: gap {runs[-1].gap.seconds:.2f} s, took"
                        f" {time.monotonic() - began:.0f} s, load {loads[-1]:.1f}",
                        file=sys.stderr,
                        flush=True,
                    )
                line = row(runs, goal_seconds, f"{min(loads):.1f} to {max(loads):.1f}")
                PAGE.write_text(with_rows(PAGE.read_text(), [line]))
                print(line, flush=True)
        finally:
            scene.load.stop()
            fleet.close()
    return 1 if n_problems else 0


if __name__ == "__main__":
    sys.exit(main())
