"""Who holds the virtual address, from moment to moment: a watcher on each broker.

A moment of a split brain is too short for asking: each watcher writes down when its machine got
the address and when it lost it (CLOCK_MONOTONIC, which the containers share), every 10 ms.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

from tests.fleet.conftest import BROKERS, Fleet

_FILE = "/run/entropy-vip-watch"
_UNIT = "entropy-vip-watch"
_SCRIPT = """
import json, sys, time
vip, path = sys.argv[1:]
held = None
with open(path, "w", buffering=1) as file:
    while True:
        with open("/proc/net/fib_trie") as table:
            holds = f"|-- {vip}\\n" in table.read()
        if holds != held:
            held = holds
            file.write(json.dumps([time.monotonic(), holds]) + "\\n")
        time.sleep(0.01)
"""
Held = list[tuple[float, bool]]  # when it changed, and to what


class Watch:
    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    def start(self) -> None:
        for broker in BROKERS:
            self._fleet.ssh(
                broker,
                f"cat >{_FILE}.py && systemd-run --quiet --unit={_UNIT} --property=CPUWeight=1000"
                f" /usr/bin/python3 {_FILE}.py {self._fleet.vip} {_FILE}.log",
                stdin=_SCRIPT,
            )

    def stop(self) -> dict[str, Held]:
        """Ends the watchers; what they saw, by broker."""
        found = {}
        for broker in BROKERS:
            said = self._fleet.ssh(
                broker, f"systemctl stop {_UNIT}; cat {_FILE}.log; rm -f {_FILE}.*"
            ).stdout
            found[broker] = [(at, bool(holds)) for at, holds in map(json.loads, said.splitlines())]
        return found


def last_moment_of_two(seen: Sequence[Held], end: float | None = None) -> float | None:
    """When there were last two holders at once; None if never. `end`: now, if they still are."""
    changes = sorted((at, number, holds) for number, held in enumerate(seen) for at, holds in held)
    holders: set[int] = set()
    last: float | None = None
    for at, number, holds in changes:
        if len(holders) > 1:
            last = at
        (holders.add if holds else holders.discard)(number)
    if len(holders) > 1:
        last = time.monotonic() if end is None else end
    return last
