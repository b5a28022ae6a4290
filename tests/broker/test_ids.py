"""What is remembered of each id: the signs of a clone, and no more than the access list names."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
        ([(A, 5), (A, 4), (A, 6)], []),  # two draws at a time, one overtook the other
        ([(A, 5), (A, 4), (A, 5)], [2]),
        ([(A, 5), (A, 4), (A, 4)], [2]),  # and it does not come twice
        ([(A, 20), (A, 5), (A, 4)], [2]),  # 16 below the highest is too late
        ([(A, 2**64 - 1), (A, 0), (A, 2**64 - 2)], [1]),
        ([(A, 5), (B, 1), (C, 1)], []),  # reboots
        ([(A, 5), (B, 1), (A, 6)], [2]),  # a snapshot of the earlier boot
        ([(A, 1), (B, 1), (A, 2), (B, 2)], [2, 3]),
        ([(A, 0)], []),
    ],
)
def test_signs_of_a_clone(logins: list[tuple[bytes, int]], alarms: list[int]) -> None:
    record = IdRecord("vm1", entry(), LIMITS, 0)
    found = [i for i, login in enumerate(logins) if record.note_boot(*login, 0)]
    assert found == alarms


def test_a_late_login_is_late_for_a_short_time_only() -> None:
    for seconds, alarms in ((30.0, False), (30.1, True)):
        record = IdRecord("vm1", entry(), LIMITS, 0)
        assert record.note_boot(A, 10, 100.0) is None
        assert bool(record.note_boot(A, 9, 100.0 + seconds)) == alarms


@given(st.permutations(range(12)))
def test_no_order_of_draws_at_a_time_is_an_alarm(order: list[int]) -> None:
    record = IdRecord("vm1", entry(), LIMITS, 0)
    assert not any(record.note_boot(A, 100 + number, 0) for number in order)


@given(
    before=st.integers(1, 30),
    original=st.integers(1, 30),
    copies=st.integers(1, 40),
    turns=st.lists(st.booleans(), min_size=80, max_size=80),
)
def test_a_copy_alarms(before: int, original: int, copies: int, turns: list[bool]) -> None:
    """Original and copy go on from the same number, and come in any order."""
    record = IdRecord("vm1", entry(), LIMITS, 0)
    numbers = iter(range(1, before + 1))
    assert not any(record.note_boot(A, number, 0) for number in numbers)
    rest = [
        list(range(before + 1, before + 1 + original)),
        list(range(before + 1, before + 1 + copies)),
    ]
    alarms = 0
    for turn in turns:
        own = rest[turn] or rest[not turn]
        if own:
            alarms += record.note_boot(A, own.pop(0), 0) is not None
    assert alarms == min(original, copies)  # every number that came twice


def test_only_some_earlier_boots_are_remembered() -> None:
    record = IdRecord("vm1", entry(), LIMITS, 0)
    for i in range(10_000):
        record.note_boot(i.to_bytes(16, "big"), 1, 0)
    assert len(record._earlier_boot_ids) == 8
    assert record.note_boot((9_995).to_bytes(16, "big"), 2, 0)


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
