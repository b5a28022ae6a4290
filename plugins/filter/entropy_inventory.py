"""Say what is wrong with an inventory, in sentences, before any host is touched."""

from __future__ import annotations

import difflib
import ipaddress
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

KNOWN_GROUPS = (
    "entropy",
    "entropy_brokers",
    "entropy_feeders",
    "entropy_clients",
    "entropy_gateways",
)
SOURCE_KEYS = (
    "name",
    "uri",
    "credit_bits_per_byte",
    "test_bits_per_byte",
    "reason",
    "credit_bits_per_second",
    "lab_only_credit_kernel",
    "fips140",
    "admin_listen",
)
SOURCE_KINDS = ("alea", "chaoskey", "serial", "hwrng", "jitter", "exec", "kernel", "file")
EXTERNAL = "the list of external clients"
AUTO = "auto"  # the role looks for a device itself
GUEST_BYTES_PER_MINUTE = 64  # what an idle Linux guest's kernel takes from its virtio-rng
GATEWAY_BLOCK_BYTES = 56  # what a gateway hands out of a block
BLOCK_BYTES = 64
BLOCK_COST_BITS = 576  # what the conditioner takes from a source for one block

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_ID = re.compile(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?")
_INSTANCE = re.compile(r"[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?")


def problems(
    settings: Mapping[str, Any],
    groups: Mapping[str, list[str]],
    brokers: list[Mapping[str, Any]],
    feeders: list[Mapping[str, Any]],
    credentials: list[Mapping[str, Any]],
) -> list[str]:
    """All that is wrong, one sentence each; an empty list for a sound inventory.

    `brokers`, `feeders` and `credentials` are what the filters of entropy_fleet give, with the
    external clients among the last; the keys of `settings` are the options of the role
    entropy_preflight.
    """
    found = [*_groups(groups)]
    found += _site(settings)
    found += _broker_count(settings, brokers)
    found += _broker_names(brokers)
    found += _ids(credentials)
    found += _addresses(settings, brokers)
    found += _balancing(settings)
    sound_sources = True
    for feeder in feeders:
        of_feeder = [*_feeder(feeder, brokers)]
        sound_sources = sound_sources and not of_feeder
        found += of_feeder
    if sound_sources and feeders:
        found += _feeding(settings, feeders, credentials)
    return found


def _groups(groups: Mapping[str, list[str]]) -> Iterable[str]:
    for name in sorted(groups):
        if name.startswith("entropy") and name not in KNOWN_GROUPS:
            nearest = difflib.get_close_matches(name, KNOWN_GROUPS, 1, 0.85)
            if nearest:
                yield f"Group {name}: did you mean {nearest[0]}?"
    for name, what in (
        ("entropy_brokers", "the hosts that keep the reservoir"),
        ("entropy_feeders", "the hosts with a device"),
        ("entropy_clients", "the VMs"),
    ):
        if not groups.get(name):
            yield f"Group {name} has no host: put {what} into it."
    with_role = {host for name in KNOWN_GROUPS[1:] for host in groups.get(name, [])}
    everything = set(groups.get("entropy", []))
    if everything - with_role:
        yield (
            f"{_some(everything - with_role)} in the group entropy without a role: use "
            "entropy_brokers, entropy_feeders, entropy_clients and entropy_gateways."
        )
    if with_role - everything:
        yield (
            f"{_some(with_role - everything)} not in the group entropy: make the groups "
            "entropy_brokers, entropy_feeders, entropy_clients and entropy_gateways its children."
        )


def _site(settings: Mapping[str, Any]) -> Iterable[str]:
    site_id, state_dir = str(settings["site_id"]), str(settings["state_dir"])
    if not _LABEL.fullmatch(site_id):
        yield (
            f"entropy_site_id is {site_id!r}: it must be 1 to 63 of a-z 0-9 - with a letter or "
            "digit at both ends. It names the fleet for good; choose it with care."
        )
    if not state_dir.startswith("/"):
        yield (
            f"entropy_state_dir is {state_dir!r}: it must be an absolute path on the controller. "
            "The fleet's credentials live there, so it must not depend on where a run starts."
        )


def _broker_count(settings: Mapping[str, Any], brokers: list[Mapping[str, Any]]) -> Iterable[str]:
    if len(brokers) == 1 and not settings["single_broker"]:
        yield (
            f"There is one broker ({brokers[0]['name']}): nothing would serve the fleet while it "
            "is away. Add a second, or set entropy_single_broker: true to accept that."
        )


def _broker_names(brokers: list[Mapping[str, Any]]) -> Iterable[str]:
    for broker in brokers:
        if not _LABEL.fullmatch(broker["id"]) and _ID.fullmatch(broker["id"]):
            yield (
                f"{broker['name']}: a broker's id becomes part of a DNS name in its certificate, "
                f"so {broker['id']!r} must not contain a dot or underscore: set entropy_id."
            )
        if broker["own_name_used"]:
            yield (
                f"{broker['name']}: ansible_host is made from inventory_hostname, which is another "
                "host's name while a task is delegated to this one: write its own name there."
            )


def _ids(credentials: list[Mapping[str, Any]]) -> Iterable[str]:
    hosts: dict[str, list[str]] = {}
    for credential in credentials:
        where = credential.get("host", EXTERNAL)
        hosts.setdefault(credential["id"], []).append(where)
        if not _ID.fullmatch(credential["id"]):
            yield (
                f"{where}: {credential['id']!r} cannot be an id: it must be 1 to 63 "
                "of a-z 0-9 . _ - with a letter or digit at both ends. Set entropy_id."
            )
    for name, of_id in sorted(hosts.items()):
        if len(of_id) > 1:
            yield (
                f"{' and '.join(of_id)} have the same id {name!r}: a credential belongs to one "
                "machine. Give each its own entropy_id."
            )


def _addresses(settings: Mapping[str, Any], brokers: list[Mapping[str, Any]]) -> Iterable[str]:
    seen: dict[Any, str] = {}
    for broker in brokers:
        address = _address(broker["address"])
        if address is None:
            yield (
                f"{broker['name']}: entropy_address (or ansible_host) is {broker['address']!r}, "
                "which is not the address of a machine: write an IPv4 or IPv6 address, no name."
            )
        second = _address(broker["address_ipv6"]) if broker["address_ipv6"] else None
        if broker["address_ipv6"] and (second is None or second.version != 6):
            yield (
                f"{broker['name']}: entropy_address_ipv6 is {broker['address_ipv6']!r}, which is "
                "not the IPv6 address of a machine."
            )
        for one in (address, second):
            if one in seen:
                yield f"{seen[one]} and {broker['name']} have the same address {one}."
            elif one is not None:
                seen[one] = broker["name"]
    versions: set[int] = {one.version for broker in brokers if (one := _address(broker["address"]))}
    yield from _vips(settings, seen, versions)


def _vips(
    settings: Mapping[str, Any], seen: Mapping[Any, str], versions: set[int]
) -> Iterable[str]:
    first, second = _address(settings["vip"]), _address(settings["vip_ipv6"])
    for key, vip in (("vip", first), ("vip_ipv6", second)):
        if settings[key] and vip is None:
            yield (
                f"entropy_{key} is {settings[key]!r}, which is not an address: write a free "
                "address of the brokers' network, without a prefix length."
            )
        elif vip in seen:
            yield f"entropy_{key} {vip} is {seen[vip]}'s own address: it must be one nobody has."
    if second is not None and (second.version != 6 or (first is not None and first.version == 6)):
        yield (
            "entropy_vip_ipv6 is for the IPv6 address beside an IPv4 one in entropy_vip; a fleet "
            "with one address writes it into entropy_vip, whatever its version."
        )
    elif first is not None and settings["keepalived"] and versions - {first.version}:
        yield (
            f"entropy_vip {first} and the brokers' addresses are not of one IP version: keepalived "
            "speaks to its peers over the version of the address that it moves."
        )
    elif first is None and second is not None:
        yield "entropy_vip_ipv6 is set and entropy_vip is not: write the address there."


def _balancing(settings: Mapping[str, Any]) -> Iterable[str]:
    for key in ("haproxy", "keepalived"):
        if settings[key] and not settings["vip"]:
            yield f"entropy_{key}_enabled is true and there is no entropy_vip: set the address."
            return
    if settings["keepalived"] and not settings["haproxy"]:
        yield (
            "entropy_keepalived_enabled is true and entropy_haproxy_enabled is not: keepalived "
            "would move an address at which nobody answers."
        )
    router_id = settings["virtual_router_id"]
    if settings["keepalived"] and not router_id:
        yield (
            "entropy_keepalived_virtual_router_id is not set: choose a number from 1 to 255 that "
            "no other VRRP cluster on the brokers' network uses."
        )
    elif settings["keepalived"] and not 1 <= router_id <= 255:
        yield f"entropy_keepalived_virtual_router_id is {router_id}: it must be from 1 to 255."


def _feeder(feeder: Mapping[str, Any], brokers: list[Mapping[str, Any]]) -> Iterable[str]:
    name, sources = feeder["name"], feeder["sources"]
    if brokers and feeder["broker"] not in [broker["name"] for broker in brokers]:
        yield f"{name}: entropy_feeder_broker is {feeder['broker']!r}, which is not a broker."
    if not isinstance(sources, list) or not all(isinstance(s, Mapping) for s in sources):
        yield f"{name}: entropy_feeder_sources must be a list, each source with name and uri."
        return
    if not sources:
        yield f"{name} is a feeder without a source: set entropy_feeder_sources, or remove it."
    chosen = {s.get("uri") for s in sources if str(s.get("uri")).startswith("hwrng:name=")}
    if len(chosen) > 1:
        yield (
            f"{name}: {' and '.join(sorted(chosen))}: Linux reads from one of its generators at a "
            "time. Name one."
        )
    names = [source.get("name") for source in sources]
    for source in sources:
        where = f"{name}: source {source.get('name', '')!r}"
        if not _INSTANCE.fullmatch(str(source.get("name", ""))):
            yield f"{where}: a name of a-z 0-9 _ - is needed; it names the service and its file."
        elif names.count(source["name"]) > 1:
            yield f"{where} stands there twice."
        yield from (f"{where}: {problem}" for problem in _source(source))


def _source(source: Mapping[str, Any]) -> Iterable[str]:
    for key in source:
        if key not in SOURCE_KEYS:
            nearest = difflib.get_close_matches(str(key), SOURCE_KEYS, 1)
            yield f"{key}: unknown key" + (f"; did you mean {nearest[0]}?" if nearest else ".")
    uri = str(source.get("uri", ""))
    kind = uri.split(":", 1)[0]
    if uri != AUTO and (":" not in uri or kind not in SOURCE_KINDS):
        yield f"uri is {uri!r}: write one of {', '.join(k + ':' for k in SOURCE_KINDS)}, or auto."
    figures = {
        key: source[key]
        for key in ("credit_bits_per_byte", "test_bits_per_byte")
        if source.get(key) is not None
    }
    for key, value in figures.items():
        if not _number(value) or not 0 <= value <= 8:
            yield f"{key} is {value!r}: it must be a number of bits from 0 to 8."
    if figures and uri == AUTO:
        yield "with auto the device that is found brings its own figures: leave them out."
    elif figures and not source.get("reason"):
        yield "a figure without a reason: say in reason how it was found."
    rate: Any = source.get("credit_bits_per_second")
    if not _number(rate) or rate < 0:
        yield (
            f"credit_bits_per_second is {rate!r}: say how many bits it is worth per second "
            "(bytes per second x credit_bits_per_byte), or 0."
        )
    if kind == "kernel" and rate and not source.get("lab_only_credit_kernel"):
        yield (
            "the kernel's own generator earns no credit: set credit_bits_per_second: 0 (a lab "
            "may set lab_only_credit_kernel: true)."
        )


def _feeding(
    settings: Mapping[str, Any],
    feeders: list[Mapping[str, Any]],
    credentials: list[Mapping[str, Any]],
) -> Iterable[str]:
    """Every client takes its top-up in whole blocks, each of which cost its source 576 bits.

    And the guests of gateways take theirs, where the inventory says how many there are.
    """
    # External clients have no role: all that these can do is draw.
    n_clients = sum(credential.get("role", "client") == "client" for credential in credentials)
    n_blocks = math.ceil(settings["topup_bytes"] / BLOCK_BYTES)
    interval_seconds = settings["topup_interval_seconds"]
    wanted = n_clients * n_blocks * BLOCK_COST_BITS / interval_seconds
    n_guests, guests = settings["gateway_guests"], ""
    if n_guests:
        wanted += n_guests * GUEST_BYTES_PER_MINUTE / 60 / GATEWAY_BLOCK_BYTES * BLOCK_COST_BITS
        guests = f", and {n_guests} guests of gateways {GUEST_BYTES_PER_MINUTE} bytes a minute"
    rates = {
        f"{feeder['name']}'s {source['name']}": source["credit_bits_per_second"]
        for feeder in feeders
        for source in feeder["sources"]
    }
    strongest = max(rates, key=lambda name: rates[name])
    total = sum(rates.values())
    demand = (
        f"{n_clients} clients need {_bits(wanted)} bit/s ({n_blocks} x {BLOCK_COST_BITS} bits "
        f"each, every {interval_seconds} s{guests})"
    )
    if settings["single_source"]:
        if total < wanted:
            yield f"The sources cannot feed the fleet: {demand}; together they give {_bits(total)}."
    elif total - rates[strongest] < wanted:
        yield (
            f"The fleet would starve if {strongest} ({_bits(rates[strongest])} bit/s) died: "
            f"{demand}; the other sources give {_bits(total - rates[strongest])}. Add a source, "
            "raise topup_interval_seconds in entropy_broker_limits, or set entropy_single_source: "
            "true to accept that."
        )


def _address(text: Any) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """An address that a machine can have and others can reach, else None."""
    try:
        address = ipaddress.ip_address(str(text))
    except ValueError:
        return None
    return None if address.is_unspecified or address.is_multicast else address


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _bits(value: float) -> str:
    return f"{value:,.2f}".rstrip("0").rstrip(".")


def _some(names: set[str]) -> str:
    """`a, b and 7 more are`, whatever the size of the fleet."""
    first = sorted(names)[:5]
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"{', '.join(first)}{more} {'is' if len(names) == 1 else 'are'}"


class FilterModule:
    """What the role entropy_preflight uses."""

    def filters(self) -> dict[str, Any]:
        return {"entropy_inventory_problems": problems}
