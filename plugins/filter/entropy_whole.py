"""Say from the brokers' own words whether the fleet is whole, and lay it out as a table.

Nothing here asks a VM: a broker knows when it last gave to whom.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

# A client draws every interval, give or take a fifth. Two missed in a row is a broken client.
LATE_INTERVALS = 2.5
# Clone signs (entropy/clone.py) of which a broker never hears.
BLIND_SIGNS = ("none", "vmgenid")
# In a larger fleet the table names those alone that something is wrong with.
SHOWN_CLIENTS = SHOWN_GATEWAYS = 40


class Fed(NamedTuple):
    """The last draw of one client, as the broker that answered it tells it."""

    unix: float
    credit_bits: int
    kind: str
    broker: str


class Client(NamedTuple):
    host: str
    id: str
    fed: Fed | None
    wrong: str  # one clause, or empty
    waiting: str  # why there is nothing to see yet, or empty


def troubles(
    looks: list[Mapping[str, Any]], fleet: Mapping[str, Any], now_unix: float
) -> list[str]:
    """What keeps the fleet from being whole, one sentence each, with what to do.

    `looks` are the results of entropy_broker_info in a loop over the fleet's brokers. `fleet` has
    `brokers`, `feeders`, `credentials`, `vips`, `haproxy`, `keepalived`, `topup_interval_seconds`,
    `gateways` (what the filter entropy_gateways_seen gave) and `started`: the hosts whose client
    was started a moment ago and must have drawn.
    """
    found = [*_brokers(looks), *_vips(looks, fleet), *_balancers(looks, fleet)]
    found += _feeders(looks, fleet)
    found += [gateway["wrong"] for gateway in fleet["gateways"] if gateway["wrong"]]
    if not _statuses(looks):
        return found
    wrong = [client for client in clients(looks, fleet, now_unix) if client.wrong]
    for client in wrong[:10]:
        found.append(
            f"{client.host}: its client {client.wrong}. See there: journalctl -u entropy-client."
        )
    if len(wrong) > 10:
        found.append(f"And {len(wrong) - 10} more clients.")
    return found


def clients(
    looks: list[Mapping[str, Any]], fleet: Mapping[str, Any], now_unix: float
) -> list[Client]:
    """Every client of the inventory with its latest draw at any broker."""
    latest: dict[str, Fed] = {}
    statuses = _statuses(looks)
    for status in statuses:
        for seen in status["clients"]:
            if seen["last_draw_unix"] is None:
                continue
            fed = Fed(
                seen["last_draw_unix"],
                seen["last_credit_bits"],
                seen["last_kind"],
                status["broker_id"],
            )
            if seen["id"] not in latest or fed.unix > latest[seen["id"]].unix:
                latest[seen["id"]] = fed
    late_seconds = LATE_INTERVALS * fleet["topup_interval_seconds"]
    # A broker forgets who drew when it restarts; until a top-up is due again nothing is known.
    up_seconds = min((status["uptime_seconds"] for status in statuses), default=0)
    found = []
    for credential in fleet["credentials"]:
        if credential["role"] != "client":
            continue
        last, wrong, waiting = latest.get(credential["id"]), "", ""
        if last is not None:
            if now_unix - last.unix > late_seconds:
                wrong = f"last drew {_ago(now_unix - last.unix)}"
        elif credential["host"] in fleet["started"]:
            wrong = "was started and has not drawn yet"
        elif up_seconds < late_seconds or len(statuses) < len(looks):
            waiting = f"a broker forgot when it restarted {_ago(up_seconds)}"
            if len(statuses) < len(looks):
                waiting = "a broker does not answer"
        else:
            wrong = "has never drawn"
        found.append(Client(credential["host"], credential["id"], last, wrong, waiting))
    return found


def table(looks: list[Mapping[str, Any]], fleet: Mapping[str, Any], now_unix: float) -> list[str]:
    """The fleet in lines of text: virtual address, brokers with their sources, clients."""
    lines = [f"Fleet {fleet['site_id']}", ""]
    for vip in fleet["vips"]:
        holders = _holders(looks, vip)
        lines.append(
            f"Virtual address {vip}: held by {' and '.join(holders) if holders else 'no broker'}"
        )
    lines += [""] if fleet["vips"] else []
    rows: list[Sequence[str]] = [
        ("BROKER", "FILL", "READY", "WEIGHT", "IMPORTED", "LIST", "CLONES", "FED BY")
    ]
    weights = _weights(looks)
    for look in looks:
        rows += _broker_rows(look, fleet, weights)
    lines += [*_columns(rows), ""]

    all_clients = clients(looks, fleet, now_unix)
    shown = all_clients
    if len(shown) > SHOWN_CLIENTS:
        shown = [client for client in all_clients if client.wrong or client.waiting]
        n_well = len(all_clients) - len(shown)
        lines.append(f"{n_well} of {len(all_clients)} clients are fed; the others are:")
        shown = shown[:SHOWN_CLIENTS]
    if shown:
        rows = [("CLIENT", "LAST FED", "BITS", "BY", "")]
        rows += [_client_row(client, now_unix) for client in shown]
        lines += [*_columns(rows), ""]
    lines += _gateway_lines(fleet["gateways"], now_unix)
    return lines + _stand_ins(fleet) + _releases(looks) + _blind(looks)


def _brokers(looks: list[Mapping[str, Any]]) -> Iterable[str]:
    generations = {}
    for look in looks:
        name, status = look["item"]["name"], look.get("status")
        if look.get("unreachable"):
            yield f"{name} cannot be reached: start the machine, then run site.yml again."
        elif not status:
            yield (
                f"{name}: no broker answers there ({look.get('problem') or look.get('msg', '')}). "
                "See there: systemctl status entropy-broker."
            )
        else:
            generations[name] = status["acl_generation"]
            if status.get("draining"):
                yield (
                    f"{name} is drained: it serves nobody. If that is over, run there: entropy "
                    "drain --off."
                )
            elif not status["ready"]:
                yield (
                    f"{name} is not ready: it holds {status['reservoir']['held_blocks']} blocks. "
                    "See whether its feeders run."
                )
            for peer in status["peers"]:
                if peer["state"] in ("unreachable", "refused"):
                    yield (
                        f"{name} cannot draw from its peer {peer['id']} ({peer['state']}: "
                        f"{peer['last_error'] or 'no reason given'})."
                    )
    if len(set(generations.values())) > 1:
        held = ", ".join(f"{name} {number}" for name, number in sorted(generations.items()))
        yield f"The brokers hold different lists of credentials ({held}): run site.yml again."


def _vips(looks: list[Mapping[str, Any]], fleet: Mapping[str, Any]) -> Iterable[str]:
    if not fleet["keepalived"]:
        return
    for vip in fleet["vips"]:
        holders = _holders(looks, vip)
        if not holders:
            yield (
                f"No broker holds {vip}: see on the brokers: systemctl status keepalived haproxy."
            )
        elif len(holders) > 1:
            yield (
                f"{' and '.join(holders)} all hold {vip}: VRRP (IP protocol 112) does not pass "
                "between them. See their firewalls."
            )


def _balancers(looks: list[Mapping[str, Any]], fleet: Mapping[str, Any]) -> Iterable[str]:
    """Where haproxy sends nobody to a broker that says that it is ready."""
    if not fleet["haproxy"]:
        return
    ready = {
        look["item"]["name"]
        for look in looks
        if look.get("status") and look["status"]["ready"] and not look["status"].get("draining")
    }
    for look in looks:
        name, balancer = look["item"]["name"], look.get("balancer")
        if look.get("unreachable"):
            continue
        if balancer is None:
            yield f"{name}: haproxy does not answer. See there: systemctl status haproxy."
            continue
        for broker in sorted(ready):
            state = balancer.get(broker, {"state": "missing"})["state"]
            if state != "UP":
                yield (
                    f"{name}: haproxy sends nobody to {broker} ({state}), which is ready. Ports "
                    "25227 and 25228 must be open to it there; else run site.yml again."
                )


def _holders(looks: list[Mapping[str, Any]], vip: str) -> list[str]:
    return [look["item"]["name"] for look in looks if vip in (look.get("held_vips") or ())]


def _weights(looks: list[Mapping[str, Any]]) -> Mapping[str, Mapping[str, Any]]:
    """How haproxy sees the brokers, where the clients are: at whoever holds an address."""
    asked = sorted(looks, key=lambda look: not look.get("held_vips"))
    return next((look["balancer"] for look in asked if look.get("balancer")), {})


def _feeders(looks: list[Mapping[str, Any]], fleet: Mapping[str, Any]) -> Iterable[str]:
    connected = {
        feeder["id"]
        for status in _statuses(looks)
        for feeder in status["feeders"]
        if feeder["connected"]
    }
    for feeder in fleet["feeders"]:
        if _statuses(looks) and feeder["id"] not in connected:
            units = " ".join(f"entropy-feeder@{source['name']}" for source in feeder["sources"])
            yield f"{feeder['name']} feeds no broker. See there: systemctl status {units}."


def _broker_rows(
    look: Mapping[str, Any], fleet: Mapping[str, Any], weights: Mapping[str, Mapping[str, Any]]
) -> list[tuple[str, ...]]:
    name, status = look["item"]["name"], look.get("status")
    balanced = weights.get(name)
    weight = "-"
    if balanced is not None:
        is_up = balanced["state"] == "UP"
        weight = f"{balanced['weight']} %" if is_up else balanced["state"].lower()
    if not status:
        word = "unreachable" if look.get("unreachable") else "no answer"
        return [(name, word, "no", weight, "-", "-", "-", "-")]
    sources = {
        feeder["id"]: [source["uri"] for source in feeder["sources"]] for feeder in fleet["feeders"]
    }
    fed_by = [
        f"{feeder['id']} {', '.join(sources.get(feeder['id'], ['(not in the inventory)']))}"
        for feeder in status["feeders"]
        if feeder["connected"]
    ] or ["nobody"]
    reservoir = status["reservoir"]
    held, capacity = reservoir["held_blocks"], reservoir["capacity_blocks"]
    first = (
        name,
        f"{held}/{capacity} blocks {100 * held // capacity} %",
        "drained" if status.get("draining") else "yes" if status["ready"] else "no",
        weight,
        f"{sum(peer.get('imported_bits', 0) for peer in status['peers'])} bits",
        str(status["acl_generation"]),
        status.get("clone", {}).get("sign") or "-",
        fed_by[0],
    )
    return [first, *((*[""] * 7, other) for other in fed_by[1:])]


def _client_row(client: Client, now_unix: float) -> tuple[str, str, str, str, str]:
    remark = client.wrong or client.waiting
    if client.fed is None:
        return (client.id, "not seen", "-", "-", remark)
    fed = client.fed
    return (client.id, _ago(now_unix - fed.unix), str(fed.credit_bits), fed.broker, remark)


def _gateway_lines(gateways: list[Mapping[str, Any]], now_unix: float) -> list[str]:
    lines, shown = [], gateways
    if len(shown) > SHOWN_GATEWAYS:
        shown = [gateway for gateway in gateways if gateway["wrong"]]
        n_well = len(gateways) - len(shown)
        others = "; the others are:" if shown else "."
        lines.append(f"{n_well} of {len(gateways)} gateways are well{others}")
        shown = shown[:SHOWN_GATEWAYS]
    if not gateways:
        return []
    rows: list[Sequence[str]] = [("GATEWAY", "UNIT", "LAST DREW", "BITS", "BY", "KEY", "")]
    for of in shown:
        drew = ("not seen", "-", "-")
        if of["last_draw_unix"] is not None:
            ago = _ago(now_unix - of["last_draw_unix"])
            drew = (ago, str(of["last_credit_bits"]), of["last_broker"])
        rows.append((of["id"], of["unit"] or "not asked", *drew, of["key"] or "-", of["said"]))
    return [*lines, *(_columns(rows) if shown else []), ""]


def _stand_ins(fleet: Mapping[str, Any]) -> list[str]:
    """Plain words where a fleet's entropy does not come from hardware."""
    names = [
        feeder["name"]
        for feeder in fleet["feeders"]
        for source in feeder["sources"]
        if source["uri"].startswith("kernel:") and source.get("lab_only_credit_kernel")
    ]
    if not names:
        return []
    return [
        f"{' and '.join(names)}: no hardware source here. The kernel's own generator stands in "
        "and is credited, which only a lab may do.",
        "",
    ]


def _releases(looks: list[Mapping[str, Any]]) -> list[str]:
    """Plain words where brokers run different releases: nothing is wrong, but not for long."""
    runs = {status["broker_id"]: status["version"] for status in _statuses(looks)}
    if len(set(runs.values())) < 2:
        return []
    held = ", ".join(f"{name} {version}" for name, version in sorted(runs.items()))
    return [
        f"The brokers run different releases ({held}): an upgrade was not finished, or one was "
        "restarted after its package came by itself. Run playbooks/upgrade.yml.",
        "",
    ]


def _blind(looks: list[Mapping[str, Any]]) -> list[str]:
    """Plain words where a broker would not learn that its machine was copied."""
    names = [
        look["item"]["name"]
        for look in looks
        if look.get("status") and look["status"].get("clone", {}).get("sign") in BLIND_SIGNS
    ]
    if not names:
        return []
    return [
        f"{' and '.join(names)}: nothing on this platform tells a broker that its machine was "
        "cloned or restored. Never take a memory snapshot of it.",
        "",
    ]


def _statuses(looks: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [look["status"] for look in looks if look.get("status")]


def _ago(seconds: float) -> str:
    whole = max(0, int(seconds))
    if whole < 120:
        return f"{whole} s ago"
    if whole < 7200:
        return f"{whole // 60} min ago"
    return f"{whole // 3600} h ago"


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(c.ljust(w) for c, w in zip(row, widths)).rstrip() for row in rows]


class FilterModule:
    """What playbooks/verify.yml uses, and playbooks/drill.yml before it begins."""

    def filters(self) -> dict[str, Any]:
        return {
            "entropy_troubles": troubles,
            "entropy_table": table,
        }
