"""Say in words what a drill showed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def drill_report(measured: Mapping[str, Any], words: Mapping[str, Any]) -> list[str]:
    """What a drill showed, in lines of text. `measured` is what files/drill_probe.py printed."""
    by_broker = ", ".join(f"{n} by {name}" for name, n in sorted(measured["by_broker"].items()))
    lines = [
        f"Drill: {words['what']}.",
        f"{words['client']} drew through {', '.join(words['endpoints'])}: {measured['draws']} "
        f"draws were answered ({by_broker or 'none'}).",
        f"Longest gap in service: {measured['slowest_seconds']:.2f} s, "
        f"{measured['slowest_at_seconds']:.0f} s after it began to draw.",
    ]
    failed = sorted(measured["errors"].items(), key=lambda error: -error[1])
    return lines + [
        f"Tries that failed and were made again: {n} x {what}" for what, n in failed[:8]
    ]


class FilterModule:
    """What playbooks/drill.yml uses."""

    def filters(self) -> dict[str, Any]:
        return {"entropy_drill_report": drill_report}
