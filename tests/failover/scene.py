"""A fleet under load: its books, who holds the address, whether it is whole again."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tests.failover import books, packages, records
from tests.failover.books import Snapshot
from tests.failover.clients import Load
from tests.failover.holders import Watch
from tests.failover.reach import Reach
from tests.fleet.conftest import BROKERS, wait_until

FEEDERS = {"rng1": "broker1", "rng2": "broker2"}
FEEDER_UNIT = "entropy-feeder@drill"
ENOUGH_BLOCKS = 128  # in each reservoir before a drill begins
OBSERVED_SECONDS = 2.0  # a drill goes on at least so long after what it did

_FEEDER_STATUS = """
import urllib.request
print(urllib.request.urlopen("http://127.0.0.1:25230/status", timeout=5).read().decode())
"""
_HAPROXY = """
import socket
with socket.socket(socket.AF_UNIX) as haproxy:
    haproxy.connect("/run/haproxy/admin.sock")
    haproxy.sendall(b"show stat\\n")
    while part := haproxy.recv(65536):
        print(part.decode(), end="")
"""


class Server(NamedTuple):
    """A broker as a haproxy sees it."""

    status: str
    weight: int


class Drilled(NamedTuple):
    """What came of one drill. Times in seconds."""

    name: str
    gap: records.Gap
    silence_seconds: float  # in which no client at all was answered
    figures: dict[str, float]  # what else this drill measures
    problems: list[str]
    story: list[str]  # how the longest draws went


class Scene:
    def __init__(self, fleet: Reach, folder: Path) -> None:
        self.fleet = fleet
        self.load = Load(fleet, folder)
        self.watch = Watch(fleet)
        self._folder = folder

    # Looking

    def snapshot(self) -> Snapshot:
        with ThreadPoolExecutor(4) as pool:
            brokers = pool.map(self.fleet.status, BROKERS)
            feeders = pool.map(self.feeder_status, FEEDERS)
            return Snapshot(dict(zip(BROKERS, brokers)), dict(zip(FEEDERS, feeders)))

    def feeder_status(self, host: str) -> dict[str, Any]:
        return dict(json.loads(self.fleet.python(host, _FEEDER_STATUS)))

    def held_blocks(self, broker: str) -> int:
        return int(self.fleet.status(broker)["reservoir"]["held_blocks"])

    def servers(self, host: str) -> dict[str, Server]:
        """The brokers as the haproxy of `host` sees them."""
        text = self.fleet.python(host, _HAPROXY).lstrip("# ")
        return {
            row["svname"]: Server(row["status"], int(row["weight"] or 0))
            for row in csv.DictReader(text.splitlines())
            if row["pxname"] == "brokers" and row["svname"] in BROKERS
        }

    def holder(self) -> str:
        found: list[str | None] = []

        def one() -> bool:
            found.append(self.fleet.vip_holder())
            return found[-1] is not None

        wait_until(one, "one broker holds the virtual address", 20)
        return str(found[-1])

    # Putting right

    def make_whole(self) -> None:
        """What a drill begins with, and what the one before it must be able to come to."""
        for broker in BROKERS:
            wait_until(lambda b=broker: self.is_ready(b), f"{broker} is ready", 30)  # type: ignore[misc]
        for feeder, broker in FEEDERS.items():
            # A feeder that has failed over comes home by itself; this is sooner.
            if not self.is_fed(broker, feeder):
                self.fleet.ssh(feeder, f"systemctl restart {FEEDER_UNIT}")
        for feeder, broker in FEEDERS.items():
            wait_until(lambda b=broker, f=feeder: self.is_fed(b, f), f"{feeder} feeds {broker}", 30)  # type: ignore[misc]
            wait_until(
                lambda b=broker: self.held_blocks(b) >= ENOUGH_BLOCKS,  # type: ignore[misc]
                f"{broker} holds enough",
                60,
            )
        holder = self.holder()
        wait_until(
            lambda: [s.status.split()[0] for s in self.servers(holder).values()] == ["UP", "UP"],
            f"haproxy of {holder} sees both brokers",
            30,
        )

    def is_ready(self, broker: str) -> bool:
        done = self.fleet.ssh(broker, "entropy status --json", check=False)
        return done.returncode == 0 and bool(json.loads(done.stdout)["ready"])

    def is_fed(self, broker: str, feeder: str) -> bool:
        feeders = self.fleet.status(broker)["feeders"]
        return any(of["connected"] for of in feeders if of["id"] == feeder)

    def keep_two_releases(self) -> None:
        folder = self._folder / "packages"
        folder.mkdir(exist_ok=True)
        packages.keep_two_releases(folder)

    def start_container(self, host: str) -> None:
        self.fleet.podman("start", self.fleet.container(host))
        wait_until(lambda: self.is_ready(host), f"{host} is back", 30)

    # Drilling

    @contextmanager
    def drill(
        self, name: str, *, lost_draws_per_client: int = 3, all_restart: bool = False
    ) -> Iterator[_Drill]:
        """Books before and after, with the load at rest; in between it draws, and things happen.

        `lost_draws_per_client`: how many replies of one broker may be lost on their way to one
        client, because connections are cut. `all_restart`: brokers and feeders are restarted, and
        no book knows how much came in.
        """
        self.make_whole()
        rested_at = self.load.rest()
        before = self.snapshot()
        self.load.resume()
        drill = _Drill(name, self)
        yield drill
        begin, end = drill.begin, drill.end or time.monotonic()
        wait_until(
            lambda: self.load.all_answered_since(end), f"every client draws after: {name}", 60
        )
        self.load.rest()
        every = [*self.load.records]
        after = self.snapshot()
        self.load.resume()
        during = [record for record in every if record.end >= rested_at]
        drill.result = Drilled(
            name,
            records.longest_gap(during, begin, end),
            records.longest_silence_seconds(during, begin, end),
            drill.figures,
            [
                *records.failures(during),
                *records.repetitions(every),
                *books.own_problems(before),
                *books.own_problems(after),
                *books.delivery_problems(before, after, during, lost_draws_per_client),
                *([] if all_restart else books.dead_epoch_problems(before, after, during)),
                *([] if all_restart else books.fleet_problems(before, after, during)),
                *drill.problems,
            ],
            records.story(during, begin, end),
        )


class _Drill:
    """One drill while it goes on: `begin` when the fault comes, `end` when all is as it was."""

    def __init__(self, name: str, scene: Scene) -> None:
        self.name = name
        self.begin = time.monotonic()
        self.end: float | None = None
        self.figures: dict[str, float] = {}
        self.problems: list[str] = []
        self.result: Drilled
        self._scene = scene

    def do(self, what: Callable[[], object]) -> None:
        """The fault. Then the load goes on for a while."""
        self.begin = time.monotonic()
        what()
        self.observe()

    def observe(self) -> None:
        """Go on until every client was answered once more, and at least for OBSERVED_SECONDS."""
        done = time.monotonic() + OBSERVED_SECONDS
        wait_until(
            lambda: time.monotonic() >= done and self._scene.load.all_answered_since(done),
            f"every client draws during: {self.name}",
        )
        self.end = time.monotonic()

    def must(self, true: object, what: str) -> None:
        if not true:
            self.problems.append(what)
