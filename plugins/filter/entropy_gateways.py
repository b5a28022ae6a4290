"""Read the gateways out of the inventory, say what is wrong there, and later how they are.

A gateway draws only when its guests do, so a broker cannot tell one that is broken from one that
has nothing to do. So those of a run are asked themselves, by `systemctl show`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

PREFIX = "entropy_gateway_"
# Least and most of what entropy/gateways/config.py takes; and how many guests there may be.
BOUNDS = {
    "rate_bytes_per_second": (1, 1_000_000),
    "burst_bytes": (1, 16_777_216),
    "total_rate_bytes_per_second": (1, 1_000_000),
    "total_burst_bytes": (1, 16_777_216),
    "buffer_bytes": (64, 65_536),
    "guests": (0, 100_000),
}
SOCKETS = "unix:/run/entropy-gateway/egd/"  # the unit may write to no other folder
EVERY_ADDRESS = ("", "0.0.0.0", "::")

DRY = "; dry: "  # how a gateway begins to say that no broker gives it anything


def gateways(
    groups: Mapping[str, list[str]], hostvars: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """The gateways in inventory order: name, and those of the role's variables that are set."""
    return [
        {
            "name": name,
            **{key: hostvars[name][key] for key in hostvars[name] if key.startswith(PREFIX)},
        }
        for name in groups.get("entropy_gateways", [])
    ]


def problems(all_gateways: list[Mapping[str, Any]]) -> list[str]:
    """What is wrong with what `gateways` gave, one sentence each."""
    return [problem for gateway in all_gateways for problem in _problems(gateway)]


def n_guests(all_gateways: list[Mapping[str, Any]]) -> int:
    """How many machines draw through them, as far as the inventory says it."""
    found = [gateway.get(PREFIX + "guests", 0) for gateway in all_gateways]
    return sum(int(n) for n in found if _within(n, *BOUNDS["guests"]))


def seen(
    looks: list[Mapping[str, Any]],
    credentials: Iterable[Mapping[str, Any]],
    answers: Mapping[str, Mapping[str, Any]],
    newest_keys: Mapping[str, str],
) -> list[dict[str, Any]]:
    """How every gateway of the inventory is, by its own words and those of the brokers.

    `looks` are the results of entropy_broker_info in a loop over the brokers, `credentials` all of
    the fleet, `answers` the results of `systemctl show` by host, of those that were asked, and
    `newest_keys` the id of the newest key by credential.

    Each has host, id, `unit` (the state of its unit in systemd's words, `unreachable`, or empty
    where it was not asked), `said` (its own words), `last_draw_unix`, `last_credit_bits` and
    `last_broker` (None for never), `key` (`newest` or `older`: what a broker saw of it; empty where
    that is not known) and `wrong` (a sentence, or empty).
    """
    drawn = _by_id(looks)
    found = []
    for credential in credentials:
        if credential["role"] != "gateway":
            continue
        host, name = credential["host"], credential["id"]
        unit, said = _answer(answers.get(host))
        of_id = drawn.get(name, [])
        last = max(of_id, key=lambda of: of["last_draw_unix"] or 0, default={})
        has_drawn = last.get("last_draw_unix") is not None
        keys, newest = {of.get("key_id") for of in of_id} - {None}, newest_keys.get(name)
        found.append(
            {
                "host": host,
                "id": name,
                "unit": unit,
                "said": said,
                "last_draw_unix": last["last_draw_unix"] if has_drawn else None,
                "last_credit_bits": last["last_credit_bits"] if has_drawn else None,
                "last_broker": last["broker_id"] if has_drawn else None,
                "key": ("newest" if newest in keys else "older") if keys and newest else "",
                "wrong": _wrong(host, unit, said),
            }
        )
    return found


def is_well(lines: Iterable[str]) -> bool:
    """Whether a gateway runs and is not dry, from what `systemctl show` printed."""
    unit, said = _shown(lines)
    return unit == "active" and DRY not in said


def _problems(gateway: Mapping[str, Any]) -> Iterable[str]:
    name = gateway["name"]
    for key, (least, most) in BOUNDS.items():
        value = gateway.get(PREFIX + key, least)
        if not _within(value, least, most):
            yield (
                f"{name}: {PREFIX}{key} is {value!r}: it must be a whole number from {least} to "
                f"{most}."
            )
    listen = gateway.get(PREFIX + "listen", [SOCKETS + "socket"])
    if not isinstance(listen, list) or not listen:
        yield f"{name}: {PREFIX}listen must be a list, each unix:/PATH or ADDRESS:PORT."
        return
    for where in map(str, listen):
        if where.startswith("unix:") and not re.fullmatch(re.escape(SOCKETS) + "[^/]+", where):
            yield (
                f"{name}: {PREFIX}listen has {where!r}: the gateway can make sockets in one folder "
                f"alone, as {SOCKETS}socket."
            )
        elif not where.startswith("unix:") and _host(where) in EVERY_ADDRESS:
            yield (
                f"{name}: {PREFIX}listen has {where!r}: write ADDRESS:PORT with one address of the "
                "host, best 127.0.0.1, since EGD knows no login; or a socket's unix:/PATH."
            )
    admin = gateway.get(PREFIX + "admin_listen")
    if admin and not _host(str(admin)):
        yield f"{name}: {PREFIX}admin_listen is {admin!r}: write ADDRESS:PORT."


def _within(value: Any, least: int, most: int) -> bool:
    return re.fullmatch("[0-9]{1,9}", str(value)) is not None and least <= int(value) <= most


def _host(endpoint: str) -> str:
    """The host of HOST:PORT, without the brackets of IPv6; empty for what is no endpoint."""
    matched = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|([^:\[\]/]+)):([0-9]{1,5})", endpoint)
    return (matched[1] or matched[2]) if matched and 1 <= int(matched[3]) <= 65535 else ""


def _by_id(looks: list[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """What the brokers say of each id that draws, and which broker does."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for look in looks:
        status = look.get("status") or {"clients": []}
        for client in status["clients"]:
            of_id = {**client, "broker_id": status["broker_id"]}
            found.setdefault(client["id"], []).append(of_id)
    return found


def _wrong(host: str, unit: str, said: str) -> str:
    see = " See there: systemctl status entropy-gateway@egd."
    if unit == "unreachable":
        return f"{host} cannot be reached: start the machine, then run site.yml again."
    if unit not in ("", "active"):
        return f"{host}: its gateway does not run ({unit}).{see}"
    if DRY in said:
        why = said.partition(DRY)[2].rstrip(".")
        return f"{host}: its gateway has nothing to give: {why}.{see}"
    return ""


def _answer(asked: Mapping[str, Any] | None) -> tuple[str, str]:
    if asked is None:
        return "", ""
    if asked.get("unreachable"):
        return "unreachable", ""
    return _shown(asked.get("stdout_lines", []))


def _shown(lines: Iterable[str]) -> tuple[str, str]:
    """A unit's state and its own words."""
    values = dict(line.partition("=")[::2] for line in lines)
    return values.get("ActiveState") or "unknown", values.get("StatusText", "")


class FilterModule:
    """What the playbooks use."""

    def filters(self) -> dict[str, Any]:
        return {
            "entropy_gateways": gateways,
            "entropy_gateways_seen": seen,
            "entropy_gateway_is_well": is_well,
            "entropy_gateway_problems": problems,
            "entropy_gateway_guests": n_guests,
        }
