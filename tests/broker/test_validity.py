"""How long a key is good for, and from where it is expected."""

from __future__ import annotations

from pathlib import Path

import pytest

from entropy.broker.uses import FirstUses
from entropy.errors import Refused
from entropy.wire.codes import RefusedCode
from entropy.wire.frames import Block
from tests.broker.desk import KEY_ID, Desk
from tests.broker.fleet import draw, feed

KEY = ("vm1", KEY_ID)
START_UNIX = 1_000_000  # of the desk's clock


def stocked() -> Desk:
    desk = Desk()
    desk.service.feed(desk.login("rng1", "feed"), feed(32))
    return desk


def refused(desk: Desk) -> bool:
    """Whether a login with vm1's key is refused."""
    assert desk.service.logins.admits(KEY) == (desk.service.logins._in_force(KEY) is not None)
    try:
        desk.login("vm1")
    except Refused as error:
        return error.code is RefusedCode.AUTHENTICATION
    return False


def test_not_after() -> None:
    desk = stocked()
    session = desk.login("vm1", not_after_unix=START_UNIX + 100)
    desk.now_seconds = 99.9
    assert isinstance(desk.service.draw(session, draw(32)), Block)
    assert not refused(desk)
    desk.now_seconds = 100
    assert refused(desk)
    with pytest.raises(Refused):  # nor in a session that was open before
        desk.service.draw(session, draw(32))


def test_a_bootstrap_key_ends_after_its_first_use() -> None:
    desk = stocked()
    desk.ledger.admit("vm1", "draw", expires_after_use_seconds=50)
    desk.now_seconds = 1000  # it may lie about for as long as it likes
    session = desk.login("vm1")
    desk.now_seconds = 1049
    assert not refused(desk)
    desk.now_seconds = 1050
    assert refused(desk)
    with pytest.raises(Refused):
        desk.service.draw(session, draw(32))


def test_the_earlier_of_two_ends_counts() -> None:
    for not_after, first_end in ((START_UNIX + 30, 30), (START_UNIX + 70, 50)):
        desk = stocked()
        desk.login("vm1", expires_after_use_seconds=50, not_after_unix=not_after)
        desk.now_seconds = first_end - 1
        assert not refused(desk)
        desk.now_seconds = first_end
        assert refused(desk)


def test_a_key_that_was_not_admitted_has_not_been_used() -> None:
    desk = Desk()
    desk.ledger.admit("vm1", "draw", expires_after_use_seconds=50)
    with pytest.raises(Refused):
        desk.login("vm1", "feed")
    assert desk.service.logins.uses.unix(KEY) is None


def test_an_expired_key_is_alarmed_about_once() -> None:
    desk = stocked()
    desk.ledger.admit("vm1", "draw", not_after_unix=START_UNIX)
    for _ in range(3):
        assert not desk.service.logins.admits(KEY)
    assert not desk.service.logins.admits(("unknown", KEY_ID))
    assert desk.lines == ["vm1: its credential has expired and is still in use"]
    assert desk.service.alarms.n == 1


def test_the_memory_of_uses_follows_the_list(tmp_path: Path) -> None:
    desk = stocked()
    desk.service.logins.uses = FirstUses(str(tmp_path))
    desk.login("vm1", expires_after_use_seconds=50)
    desk.login("vm2")
    assert desk.service.logins.uses.unix(("vm2", KEY_ID)) == START_UNIX
    desk.ledger.revoke("vm2")
    desk.apply_acl()
    assert desk.service.logins.uses.unix(("vm2", KEY_ID)) is None
    assert FirstUses(str(tmp_path)).unix(KEY) == START_UNIX


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("10.0.0.7", True),
        ("::ffff:10.0.0.7", True),
        ("fd00::1", True),
        ("10.0.1.7", False),
        ("fd01::1", False),
        ("", False),
        ("a socket", False),
    ],
)
def test_an_odd_address_is_served_counted_and_alarmed_about(address: str, expected: bool) -> None:
    desk = stocked()
    desk.ledger.admit("vm1", "draw", addresses=("10.0.0.0/24", "fd00::/64"))
    for _ in range(3):
        session = desk.login("vm1", address=address)
        assert isinstance(desk.service.draw(session, draw(32)), Block)
    assert session.record.outside_logins == (0 if expected else 3)
    assert desk.service.alarms.n == (0 if expected else 1)
    if not expected:
        assert desk.lines[-1].startswith(f"vm1: it came from {address}, which is none of its")


def test_the_alarms_about_addresses_are_bounded() -> None:
    desk = stocked()
    desk.ledger.admit("vm1", "draw", addresses=("10.0.0.0/24",))
    record = desk.login("vm1", address="10.0.0.1").record
    for number in range(100):
        desk.login("vm1", address=f"10.1.0.{number % 3}")
    assert (record.outside_logins, desk.service.alarms.n) == (100, 3)
    for number in range(1000):
        desk.login("vm1", address=f"10.2.{number // 250}.{number % 250}")
    assert len(record.outside_addresses) == 4
