"""The fleet's own network: a bridge with a subnet that nothing else on this machine uses."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network
from typing import NamedTuple

from lab.command import LabError, run
from lab.names import LABEL, PREFIX
from lab.podman import podman


class Network(NamedTuple):
    subnet: IPv4Network
    bridge: str  # the link's name on this machine

    def address(self, octet: int) -> str:
        return str(self.subnet.network_address + octet)


def ensure() -> Network:
    """The fleet's network, made now if it is not there."""
    found = _inspect()
    if found:
        return found
    taken = routed()
    mtu_bytes = _mtu_bytes()
    for _ in range(20):
        subnet = free_subnet(taken)
        made = podman(
            *("network", "create", "--label", LABEL, "--subnet", str(subnet)),
            *("--disable-dns", "--opt", f"mtu={mtu_bytes}", PREFIX),
            check=False,
        )
        if made.returncode == 0:
            break
        # Another podman network may have it without a route, as long as it has no container.
        if "subnet" not in made.stderr:
            raise LabError(f"podman could not make the network:\n{made.stderr.strip()}")
        taken.append(subnet)
    found = _inspect()
    if not found:
        raise LabError("podman could not make the network: every subnet tried is in use")
    return found


def _inspect() -> Network | None:
    shown = podman("network", "inspect", PREFIX, check=False)
    if shown.returncode != 0:
        return None
    network = json.loads(shown.stdout)[0]
    return Network(IPv4Network(network["subnets"][0]["subnet"]), network["network_interface"])


def routed() -> list[IPv4Network]:
    """Every IPv4 network that this machine has a route to, but for the default route."""
    shown = run(["ip", "-4", "-json", "route", "show", "table", "all"]).stdout
    return networks(route["dst"] for route in json.loads(shown or "[]"))


def networks(destinations: Iterable[str]) -> list[IPv4Network]:
    """Destinations as `ip route` names them; the default route covers all and says nothing."""
    found = []
    for destination in destinations:
        if destination == "default":
            continue
        network = IPv4Network(destination, strict=False)
        # A VPN that takes all traffic has two halves of everything.
        if network.prefixlen > 1:
            found.append(network)
    return found


def free_subnet(taken: Iterable[IPv4Network]) -> IPv4Network:
    """A /24 of 10.0.0.0/8 that overlaps with none of those taken.

    It is picked at random, so that an ssh connection to a fleet that is gone, which may be kept
    open for a minute, cannot be mistaken for one to the next fleet.
    """
    taken = list(taken)
    first = random.randrange(2**16)
    for number in range(first, first + 2**16):
        subnet = IPv4Network(f"10.{number >> 8 & 255}.{number & 255}.0/24")
        if not any(subnet.overlaps(network) for network in taken):
            return subnet
    raise LabError("this machine has routes to all of 10.0.0.0/8: no subnet is left for the lab")


def _mtu_bytes() -> int:
    """The largest packet of the link that leads out; 1500 where none does."""
    shown = json.loads(run(["ip", "-4", "-json", "route", "show", "default"]).stdout or "[]")
    if not shown:
        return 1500
    link = json.loads(run(["ip", "-json", "link", "show", "dev", shown[0]["dev"]]).stdout)
    return min(1500, int(link[0]["mtu"]))


def addresses(network: Network, octets: dict[str, int]) -> dict[str, str]:
    return {name: str(IPv4Address(network.address(octet))) for name, octet in octets.items()}


def remove() -> None:
    if podman("network", "exists", PREFIX, check=False).returncode == 0:
        podman("network", "rm", "--force", PREFIX)
