"""A virtual address outside of the brokers' network is refused before keepalived holds it."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from plugins.filter.entropy_networks import outside
from tests.roles.rendering import CHECKOUT


def interface(*addresses: str) -> dict[str, Any]:
    parts = [address.split("/") for address in addresses]
    return {
        "ifname": "eth0",
        "addr_info": [{"local": local, "prefixlen": int(length)} for local, length in parts],
    }


@pytest.mark.parametrize(
    ("vips", "addresses", "wrong"),
    [
        (["192.0.2.10"], ["192.0.2.11/24"], []),
        (["198.51.100.10"], ["192.0.2.11/24"], ["198.51.100.10"]),
        (["192.0.2.10"], ["192.0.2.11/32"], ["192.0.2.10"]),  # a routed host
        (["192.0.2.10"], ["198.51.100.1/24", "192.0.2.11/24"], []),
        (["2001:db8::10"], ["2001:db8::11/64"], []),
        (["2001:db8:1::10"], ["2001:db8::11/64"], ["2001:db8:1::10"]),
        (["192.0.2.10", "2001:db8::10"], ["192.0.2.11/24"], []),  # nothing is known of the second
        (["192.0.2.10"], [], []),
    ],
)
def test_which_are_outside(vips: list[str], addresses: list[str], wrong: list[str]) -> None:
    assert outside(vips, [interface(*addresses)]) == wrong


def test_an_address_that_was_not_asked_about_is_shown_empty() -> None:
    """By the broker that holds the virtual address."""
    shown = interface("192.0.2.11/24")
    shown["addr_info"].append({})
    assert outside(["192.0.2.10"], [shown]) == []


def test_the_role_asserts_it_before_it_configures_keepalived() -> None:
    tasks = yaml.safe_load((CHECKOUT / "roles/entropy_keepalived/tasks/main.yml").read_text())
    names = [task["name"] for task in tasks]
    asserts = names.index("Assert that the virtual address belongs there")
    assert asserts < names.index("Configure keepalived")
    assert "entropy_outside" in tasks[asserts]["ansible.builtin.assert"]["that"]
