"""What a task may ask for, and what it is told when it may not."""

from __future__ import annotations

from typing import Any

import pytest

from entropy.errors import CredentialError
from module_utils.entropy_ledger import Terms
from module_utils.entropy_request import MAX_LIMIT, Request, parse_request
from tests.ansible.fleet import DEFAULTS


def credential(name: str = "vm1", **fields: Any) -> dict[str, Any]:
    return {"id": name, "permissions": ["draw"], **fields}


def parse(*credentials: dict[str, Any], **arguments: Any) -> Request:
    return parse_request({**DEFAULTS, "credentials": credentials, **arguments})


def test_permissions_come_in_one_order_and_unset_limits_go() -> None:
    request = parse(credential(permissions=["peer", "draw", "peer"], burst_bytes=None))
    assert request.credentials["vm1"].terms == Terms(("draw", "peer"), {})


def test_the_largest_and_least_limits() -> None:
    least: dict[str, Any] = {
        "rate_bytes_per_second": 1,
        "burst_bytes": 1,
        "credit_bits_per_second": 0,
    }
    assert parse(credential(**least)).credentials["vm1"].terms.limits == least
    most: dict[str, Any] = dict.fromkeys(least, MAX_LIMIT)
    assert parse(credential(**most)).credentials["vm1"].terms.limits == most


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ([credential("VM1")], "'VM1' is not an id: 1 to 63 of a-z 0-9"),
        ([credential("../../etc/passwd")], "is not an id"),
        ([credential("-vm")], "is not an id"),
        ([credential("")], "'' is not an id"),
        ([credential("v" * 64)], "is not an id"),
        ([credential("vm1\n")], "is not an id"),
        ([credential(), credential("vm2"), credential()], "credentials: the id vm1 is there 2 t"),
        ([credential(permissions=[])], "credentials: vm1 has no permissions"),
        ([credential(burst_bytes=0)], f"vm1: burst_bytes must be 1 to {MAX_LIMIT}"),
        ([credential(rate_bytes_per_second=-5)], "rate_bytes_per_second must be 1 to"),
        ([credential(credit_bits_per_second=2**32)], "credit_bits_per_second must be 0 to"),
    ],
)
def test_wrong_credentials(wrong: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(CredentialError) as problem:
        parse(*wrong)
    assert message in str(problem.value)


@pytest.mark.parametrize("broker", ["broker.1", "Broker", "b_1", ""])
def test_wrong_brokers(broker: str) -> None:
    with pytest.raises(CredentialError, match="is not a broker's id"):
        parse(brokers=(broker,))


def test_a_broker_twice() -> None:
    with pytest.raises(CredentialError, match="brokers: the id b1 is there 2 times"):
        parse(brokers=("b1", "b1"))


@pytest.mark.parametrize("site_id", ["", "Lab", "lab.example", "l_b", "x" * 64])
def test_wrong_sites(site_id: str) -> None:
    with pytest.raises(CredentialError, match="is not a site"):
        parse(site_id=site_id)


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(CredentialError) as problem:
        parse(credential("A"), credential("vm1", burst_bytes=0), brokers=("B",))
    assert all(text in str(problem.value) for text in ("'A'", "burst_bytes", "'B'"))
