"""What the clients of the load wrote down, and what follows from it: no I/O.

The gap. Each client notes when each of its draws was answered. The time between two of its answers
that follow each other, less the 200 ms that it lets pass between draws, is how long it went
without; the gap of a drill is the longest of these over all clients, from the last answer before
the drill began to the first after it ended. Where every draw takes no time the gap is 0.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

INTERVAL_SECONDS = 0.2


class Answer(NamedTuple):
    """One reply of a broker."""

    broker: str
    epoch: str
    serial: int
    credit_bits: int
    origins: tuple[str, ...]
    n_bytes: int


class Record(NamedTuple):
    """One draw of one client; times are CLOCK_MONOTONIC in seconds."""

    client: str
    start: float
    end: float
    sha256: str
    error: str | None
    answers: tuple[Answer, ...]
    said: tuple[str, ...]

    @property
    def n_bytes(self) -> int:
        return sum(answer.n_bytes for answer in self.answers)


def record_of(client: str, line: dict[str, Any]) -> Record:
    answers = tuple(
        Answer(**{**answer, "origins": tuple(answer["origins"])}) for answer in line["answers"]
    )
    return Record(
        client, line["start"], line["end"], line["sha256"], line["error"], answers, line["said"]
    )


class Gap(NamedTuple):
    """The longest time a client went without, whose it was and when it began."""

    seconds: float
    client: str
    began: float


def longest_gap(records: Iterable[Record], begin: float, end: float) -> Gap:
    """The gap of a drill that went on from `begin` to `end`. ValueError if nobody drew then."""
    ends: dict[str, list[float]] = {}
    for record in records:
        ends.setdefault(record.client, []).append(record.end)
    longest: Gap | None = None
    for client, times in ends.items():
        times.sort()
        for before, after in zip(times, times[1:]):
            if after < begin or before > end:
                continue
            gap = Gap(max(0.0, after - before - INTERVAL_SECONDS), client, before)
            longest = gap if longest is None or gap > longest else longest
    if longest is None:
        raise ValueError("no client has two answers around the drill")
    return longest


def longest_silence_seconds(records: Iterable[Record], begin: float, end: float) -> float:
    """The longest time in which no client at all was answered."""
    times = sorted(record.end for record in records)
    around = [b - a for a, b in zip(times, times[1:]) if b >= begin and a <= end]
    return max(around, default=0.0)


def story(records: Iterable[Record], begin: float, end: float, n_draws: int = 3) -> list[str]:
    """The draws that took longest, each with what it said and when; seconds after `begin`."""
    during = [r for r in records if r.end >= begin and r.start <= end]
    told = []
    for record in sorted(during, key=lambda r: r.start - r.end)[:n_draws]:
        lines = [line.split(" ", 1) for line in record.said]
        said = "; ".join(f"{float(at) - begin:.2f} {text}" for at, text in lines)
        told.append(f"{record.client} from {record.start - begin:.2f}: {said}")
    return told


def failures(records: Sequence[Record], n_bytes: int = 64) -> list[str]:
    """Draws that failed or came short."""
    found = [
        f"{r.client} gave up a draw: {r.error} ({'; '.join(r.said)})" for r in records if r.error
    ]
    return found + [
        f"{r.client} got {r.n_bytes} bytes instead of {n_bytes}"
        for r in records
        if not r.error and r.n_bytes != n_bytes
    ]


def repetitions(records: Sequence[Record]) -> list[str]:
    """Bytes or replies that were given more than once, to whomever."""
    found = []
    for digest, n_times in Counter(r.sha256 for r in records if not r.error).items():
        if n_times > 1:
            whose = sorted({r.client for r in records if r.sha256 == digest})
            found.append(f"the same bytes were given {n_times} times: {', '.join(whose)}")
    serials = Counter((a.broker, a.epoch, a.serial) for r in records for a in r.answers)
    return found + [
        f"{broker} gave reply {serial} of epoch {epoch} {n_times} times"
        for (broker, epoch, serial), n_times in serials.items()
        if n_times > 1
    ]
