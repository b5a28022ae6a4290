"""Read the fleet out of the inventory: brokers, feeders, and who needs which credential."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

Groups = Mapping[str, list[str]]
Members = Mapping[str, Collection[str]]
HostVars = Mapping[str, Mapping[str, Any]]

PORT = 25226
PROXY_PORT = 25227

# What each role of a host may do on the wire, and the files and the group that its secret is for.
PERMISSIONS = {"broker": "peer", "feeder": "feed", "client": "draw", "gateway": "draw"}
CREDENTIAL_PATHS = {
    "broker": "/etc/entropy/broker/credential.json",
    "feeder": "/etc/entropy/feeder.d/credential.json",
    "client": "/etc/entropy/credential.json",
    "gateway": "/etc/entropy/gateway/credential.json",
}

# A gateway draws 64 bytes for each 56 that it hands out; a little more, so that the broker's limit
# is not the one that is met. The rate is the default of the role.
GATEWAY_RATE_BYTES_PER_SECOND = 256
GATEWAY_OVERHEAD = 64 / 56 * 1.02


def host_id(name: str, hostvars: HostVars) -> str:
    """The name of a host in the fleet: `entropy_id`, else its name in the inventory."""
    return str(_value(hostvars[name], "entropy_id", name))


def endpoint(address: str, port: int = PORT) -> str:
    """HOST:PORT, an IPv6 address in brackets."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def brokers(names: Iterable[str], hostvars: HostVars) -> list[dict[str, Any]]:
    """The brokers in inventory order, each with name, id, address, address_ipv6 and endpoints.

    `address_ipv6` is its second address beside an IPv4 one, or empty. `endpoints` are all at which
    clients reach it, `endpoint` the first of them, `proxy_endpoint` where balancers do.
    `own_name_used` is "yes" where the connection is made from `inventory_hostname`.
    """
    found = []
    for name in names:
        of_host = hostvars[name]
        address = str(_value(of_host, "entropy_address", _value(of_host, "ansible_host", name)))
        address_ipv6 = str(_value(of_host, "entropy_address_ipv6", ""))
        found.append(
            {
                "name": name,
                "id": host_id(name, hostvars),
                "address": address,
                "address_ipv6": address_ipv6,
                "endpoint": endpoint(address),
                "endpoints": [endpoint(one) for one in (address, address_ipv6) if one],
                "proxy_endpoint": endpoint(address, PROXY_PORT),
                "own_name_used": "yes" if _own_name_used(name, hostvars) else "",
            }
        )
    return found


def feeders(groups: Groups, hostvars: HostVars) -> list[dict[str, Any]]:
    """The feeders in inventory order, each with name, id, sources and its own broker's name.

    A feeder's own broker is the host that `entropy_feeder_broker` names; where that is not set
    the feeders take the brokers in turns.
    """
    own = groups.get("entropy_brokers", [])
    found = []
    for position, name in enumerate(groups.get("entropy_feeders", [])):
        in_turn = own[position % len(own)] if own else ""
        found.append(
            {
                "name": name,
                "id": _credential_id(name, "feeder", groups, hostvars),
                "broker": str(_value(hostvars[name], "entropy_feeder_broker", in_turn)),
                "sources": _value(hostvars[name], "entropy_feeder_sources", []),
            }
        )
    return found


def own_broker_first(
    all_brokers: list[dict[str, Any]], name: str, groups: Groups, hostvars: HostVars
) -> list[str]:
    """The endpoints that feeder `name` pushes to: its own broker's, then the others'."""
    own = {feeder["name"]: feeder["broker"] for feeder in feeders(groups, hostvars)}.get(name)
    ordered = sorted(all_brokers, key=lambda broker: broker["name"] != own)
    return [broker["endpoint"] for broker in ordered]


def credentials(names: Iterable[str], groups: Groups, hostvars: HostVars) -> list[dict[str, Any]]:
    """What the given hosts need, by host and role: host, role, id, permissions, path, group.

    And the tenant, where `entropy_tenant` names one, and the rate that a gateway needs.
    """
    # Whether a host is in a group is asked for each; a list of Ansible's would be read each time.
    of_groups = {group: dict.fromkeys(map(str, hosts)) for group, hosts in groups.items()}
    return [
        {
            "host": name,
            "role": role,
            "id": _credential_id(name, role, of_groups, hostvars),
            "permissions": [PERMISSIONS[role]],
            "path": CREDENTIAL_PATHS[role],
            "group": f"entropy-{role}",
            **_tenant(hostvars[name]),
            **(_gateway_limits(hostvars[name]) if role == "gateway" else {}),
        }
        for name in names
        for role in roles(name, of_groups)
    ]


def packages(name: str, groups: Groups) -> list[str]:
    """The Debian packages that a host needs."""
    return ["python3-entropy", *(f"entropy-{role}" for role in roles(name, groups))]


def roles(name: str, groups: Members) -> list[str]:
    """What runs on a host. A broker's machine always has a client of its own."""
    is_broker = name in groups.get("entropy_brokers", [])
    found = ["broker"] if is_broker else []
    if name in groups.get("entropy_feeders", []):
        found.append("feeder")
    if is_broker or name in groups.get("entropy_clients", []):
        found.append("client")
    if name in groups.get("entropy_gateways", []):
        found.append("gateway")
    return found


def members(groups: Groups) -> list[str]:
    """Every host that has a role in the fleet: brokers, feeders, clients, gateways; each once."""
    wanted = ("entropy_brokers", "entropy_feeders", "entropy_clients", "entropy_gateways")
    return list(dict.fromkeys(name for group in wanted for name in groups.get(group, [])))


def _credential_id(name: str, role: str, groups: Members, hostvars: HostVars) -> str:
    """The plain id for a host's first role; the others carry the role behind a dot.

    A gateway always does: its host may become a client later, without a change of the gateway's.
    """
    first = role != "gateway" and roles(name, groups)[:1] == [role]
    return host_id(name, hostvars) + ("" if first else f".{role}")


def _gateway_limits(of_host: Mapping[str, Any]) -> dict[str, int]:
    """What the brokers must let it draw, so that its own rate is the one that counts."""
    rate = _value(
        of_host, "entropy_gateway_total_rate_bytes_per_second", GATEWAY_RATE_BYTES_PER_SECOND
    )
    return {"rate_bytes_per_second": math.ceil(float(rate) * GATEWAY_OVERHEAD)}


def _tenant(of_host: Mapping[str, Any]) -> dict[str, str]:
    tenant = _value(of_host, "entropy_tenant", "")
    return {"tenant": str(tenant)} if tenant else {}


def _own_name_used(name: str, hostvars: HostVars) -> bool:
    """Whether `ansible_host` is a template over a name that is another host's when delegated to."""
    raw = getattr(hostvars, "raw_get", hostvars.__getitem__)(name)
    return "inventory_hostname" in str(raw.get("ansible_host", ""))


def _value(of_host: Mapping[str, Any], name: str, default: Any) -> Any:
    """A host's variable, or the default where it is not set or empty."""
    value = of_host.get(name, default)
    return default if value is None or value == "" else value


def _checked(groups: Any) -> Groups:
    if not isinstance(groups, Mapping):
        raise AnsibleFilterError("the inventory's groups are needed here, a dictionary of lists")
    return groups


class FilterModule:
    """What the playbooks use."""

    def filters(self) -> dict[str, Any]:
        return {
            "entropy_brokers": brokers,
            "entropy_endpoint": endpoint,
            "entropy_feeders": lambda groups, hostvars: feeders(_checked(groups), hostvars),
            "entropy_own_broker_first": own_broker_first,
            "entropy_credentials": credentials,
            "entropy_members": lambda groups: members(_checked(groups)),
            "entropy_package_names": packages,
        }
