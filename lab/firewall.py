"""Podman's firewall chains, which it leaves behind when the last container is gone."""

from __future__ import annotations

import shlex
from typing import TypedDict

from lab.command import as_root, run

COMMANDS = ("iptables", "ip6tables")
_FAMILY = {"iptables": "ip", "ip6tables": "ip6"}


class Firewall(TypedDict):
    chains: dict[str, list[str]]  # by command: the names of podman's chains
    tables: list[str]  # as nft names them: "ip filter"


class Rules:
    """What iptables-save printed."""

    def __init__(self, text: str) -> None:
        self.chains: list[tuple[str, str]] = []  # (table, chain)
        self.jumps: list[tuple[str, list[str]]] = []  # (table, words of a rule that jumps there)
        self.n_rules: dict[str, int] = {}
        self.closed: set[str] = set()  # tables with a policy that is not ACCEPT
        table = ""
        for line in text.splitlines():
            if line.startswith("*"):
                table = line[1:]
                self.n_rules[table] = 0
            elif line.startswith(":"):
                name, policy = line[1:].split()[:2]
                self.chains.append((table, name))
                if policy not in ("-", "ACCEPT"):
                    self.closed.add(table)
            elif line.startswith("-A"):
                self.n_rules[table] += 1
                words = shlex.split(line)
                target = words[words.index("-j") + 1] if "-j" in words else ""
                if is_podmans(target) and not is_podmans(words[1]):
                    self.jumps.append((table, words))

    def podmans(self) -> list[tuple[str, str]]:
        return [(table, chain) for table, chain in self.chains if is_podmans(chain)]


def is_podmans(chain: str) -> bool:
    return chain.startswith("NETAVARK")


def _rules(command: str) -> Rules:
    return Rules(run(as_root([f"{command}-save"])).stdout)


def _tables() -> list[str]:
    lines = run(as_root(["nft", "list", "tables"]), check=False).stdout.splitlines()
    return [line.removeprefix("table ") for line in lines]


def look() -> Firewall:
    """What is there now, to be handed to clean later."""
    return {
        "chains": {
            command: [name for _, name in _rules(command).podmans()] for command in COMMANDS
        },
        "tables": _tables(),
    }


def clean(before: Firewall) -> None:
    """Remove podman's chains and the tables that came for them, but for those from before."""
    for command in COMMANDS:
        rules = _rules(command)
        ours = {name for _, name in rules.podmans()} - set(before["chains"][command])
        for table, words in rules.jumps:
            if words[words.index("-j") + 1] in ours:
                run(as_root([command, "-w", "-t", table, "-D", *words[1:]]))
        chains = [(table, name) for table, name in rules.podmans() if name in ours]
        for option in ("-F", "-X"):
            for table, name in chains:
                run(as_root([command, "-w", "-t", table, option, name]))
        rules = _rules(command)
        for table, n_rules in rules.n_rules.items():
            name = f"{_FAMILY[command]} {table}"
            built_in = all(chain.isupper() for t, chain in rules.chains if t == table)
            unused = n_rules == 0 and built_in and table not in rules.closed
            if unused and name not in before["tables"] and name in _tables():
                run(as_root(["nft", "delete", "table", *name.split()]))
