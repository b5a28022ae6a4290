"""Whether an address lies in a network that a host is in."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any


def outside(vips: Iterable[str], interfaces: Iterable[Mapping[str, Any]]) -> list[str]:
    """The virtual addresses that are in no network of the interfaces, of those of their version.

    `interfaces` is what `ip -json address` prints: for each, addr_info with local and prefixlen;
    empty for an address that it was not asked about.
    """
    networks = [
        ipaddress.ip_interface(f"{one['local']}/{one['prefixlen']}").network
        for interface in interfaces
        for one in interface.get("addr_info", [])
        if one
    ]
    found = []
    for vip in map(str, vips):
        address = ipaddress.ip_address(vip)
        of_version = [network for network in networks if network.version == address.version]
        if of_version and not any(address in network for network in of_version):
            found.append(vip)
    return found


class FilterModule:
    """What the role entropy_keepalived uses."""

    def filters(self) -> dict[str, Any]:
        return {"entropy_outside": outside}
