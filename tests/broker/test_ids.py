"""What is remembered of each id: the signs of a clone, and no more than the access list names."""

from __future__ import annotations

from typing import Any

import pytest

from entropy.broker.ids import IdRecord, Ids, credit_and_burst, rate_and_burst
from entropy.config import LimitsConfig
from entropy.credentials import AclEntry

LIMITS = LimitsConfig()
A, B, C = (letter * 16 for letter in (b"a", b"b", b"c"))


def entry(name: str = "vm1", limits: dict[str, Any] | None = None) -> AclEntry:
    made = AclEntry(name, bytes(8), bytes(32), bytes(32), frozenset({"draw"}))
    return made._replace(**(limits or {}))


@pytest.mark.parametrize(
    ("logins", "alarms"),
    [
        ([(A, 1), (A, 2), (A, 9)], []),
        ([(A, 1), (A, 1)], [1]),
        ([(A, 5), (A, 4), (A, 6)], [1]),
        ([(A, 5), (A, 4), (A, 5)], [1, 2]),  # the highest counts
        ([(A, 5), (B, 1), (C, 1)], []),  # reboots
        ([(A, 5), (B, 1), (A, 6)], [2]),  # a snapshot of the earlier boot
        ([(A, 1), (B, 1), (A, 2), (B, 2)], [2, 3]),
        ([(A, 0)], []),
    ],
)
def test_signs_of_a_clone(logins: list[tuple[bytes, int]], alarms: list[int]) -> None:
    record = IdRecord("vm1", entry(), LIMITS, 0)
    found = [i for i, login in enumerate(logins) if record.note_boot(*login)]
    assert found == alarms


def test_only_some_earlier_boots_are_remembered() -> None:
    record = IdRecord("vm1", entry(), LIMITS, 0)
    for i in range(10_000):
        record.note_boot(i.to_bytes(16, "big"), 1)
    assert len(record._earlier_boot_ids) == 8
    assert record.note_boot((9_995).to_bytes(16, "big"), 2)


@pytest.mark.parametrize(
    ("limits", "rate", "credit"),
    [
        ({}, (64, 4096), (1_000_000, 1_000_000)),
        ({"rate_bytes_per_second": 7, "burst_bytes": 70}, (7, 70), (1_000_000, 1_000_000)),
        ({"credit_bits_per_second": 100}, (64, 4096), (100, 512)),  # a block at once, or none ever
        ({"credit_bits_per_second": 0}, (64, 4096), (0, 0)),
    ],
)
def test_an_entry_overrides_the_limits(
    limits: dict[str, int], rate: tuple[int, int], credit: tuple[int, int]
) -> None:
    assert rate_and_burst(entry(limits=limits), LIMITS) == rate
    assert credit_and_burst(entry(limits=limits), LIMITS) == credit


def test_records_are_kept_for_known_ids_only() -> None:
    ids = Ids(LIMITS)
    record = ids.login(entry("vm1"), 0)
    ids.login(entry("vm2"), 0)
    assert ids.login(entry("vm1"), 1) is record
    ids.keep_only({"vm1"})
    assert [record.id for record in ids] == ["vm1"]
    assert ids.find("vm2") is None
