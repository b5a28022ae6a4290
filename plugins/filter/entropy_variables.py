"""Say what is wrong with the variables of an inventory's hosts, whatever role they have."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

PREFIX = "entropy_"
# A name that nothing here contains is read by nobody.
READERS = ("playbooks", "roles", "plugins")
NEAR = 0.6  # difflib's measure of two names without the prefix
# Two hosts behind different gateways may have one address.
WAY = ("ansible_port", "ansible_ssh_common_args", "ansible_ssh_extra_args")

_CHECKOUT = Path(__file__).resolve().parents[2]


def problems(names: Iterable[str], hostvars: Mapping[str, Any]) -> list[str]:
    """All that is wrong, one sentence each: variables that are ours in name only, addresses."""
    found = {name: _raw(name, hostvars) for name in names}
    return [*_unknown(found), *_twice(found, hostvars)]


def _unknown(hosts: Mapping[str, Mapping[str, Any]]) -> Iterable[str]:
    """A misspelt variable would be silently left out: a virtual address, say, be taken away."""
    known = known_variables()
    where: dict[str, list[str]] = {}
    for host, variables in hosts.items():
        for name in variables:
            if name.startswith(PREFIX) and name not in known:
                where.setdefault(name, []).append(host)
    short = {name.removeprefix(PREFIX): name for name in known}
    for name, of_hosts in sorted(where.items()):
        nearest = difflib.get_close_matches(name.removeprefix(PREFIX), short, 1, NEAR)
        hint = f"; did you mean {short[nearest[0]]}?" if nearest else "."
        yield (
            f"{name} ({_some(of_hosts)}): nothing here reads a variable of this name{hint} Names "
            f"that begin with {PREFIX} are kept for these roles."
        )


def _twice(hosts: Mapping[str, Mapping[str, Any]], hostvars: Mapping[str, Any]) -> Iterable[str]:
    """Two names for one machine: the second credential would overwrite the first."""
    seen: dict[tuple[str, ...], str] = {}
    for host, variables in hosts.items():
        if not variables.get("ansible_host"):
            continue
        raw = str(variables["ansible_host"])
        address = str(hostvars[host]["ansible_host"]) if "{" in raw else raw
        key = (address, *(str(variables.get(name, "")) for name in WAY))
        if key in seen:
            yield (
                f"{seen[key]} and {host} have the same ansible_host {address}: a machine stands in "
                "the inventory once, in as many groups as it has roles."
            )
        else:
            seen[key] = host


@cache
def known_variables() -> frozenset[str]:
    """Every name with our prefix that a playbook, a role or a plugin contains."""
    texts = (
        path.read_text(encoding="utf-8")
        for folder in READERS
        for path in sorted((_CHECKOUT / folder).rglob("*"))
        if path.suffix in (".yml", ".j2", ".py")
    )
    return frozenset(name for text in texts for name in re.findall(r"\bentropy_\w+", text))


def _raw(name: str, hostvars: Mapping[str, Any]) -> Mapping[str, Any]:
    """A host's variables before their templates are filled in, which would cost seconds."""
    found: Mapping[str, Any] = getattr(hostvars, "raw_get", hostvars.__getitem__)(name)
    return found


def _some(hosts: list[str]) -> str:
    more = f" and {len(hosts) - 1:,} more" if len(hosts) > 1 else ""
    return f"{hosts[0]}{more}"


class FilterModule:
    """What playbooks/preflight.yml uses."""

    def filters(self) -> dict[str, Any]:
        return {"entropy_variable_problems": problems}
