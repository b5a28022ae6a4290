"""Whether the fleet is whole: the table and the sentences, from what the brokers say."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from plugins.filter.entropy_drill import drill_report
from plugins.filter.entropy_whole import table, troubles

NOW = 1_800_000_000.0
Change = Callable[[dict[str, Any]], None]


def status(name: str, feeder: str, *clients: str) -> dict[str, Any]:
    return {
        "broker_id": name,
        "version": "1.2.0",
        "uptime_seconds": 86400,
        "ready": True,
        "acl_generation": 7,
        "reservoir": {"held_blocks": 1638, "capacity_blocks": 16384},
        "feeders": [
            {"id": "rng1", "connected": feeder == "rng1"},
            {"id": "rng2", "connected": feeder == "rng2"},
        ],
        "peers": [{"id": "other", "state": "idle", "imported_bits": 1792, "last_error": None}],
        "draining": False,
        "clone": {"sign": "vmclock"},
        "clients": [
            {"id": name, "last_draw_unix": NOW - 70, "last_credit_bits": 256, "last_kind": "topup"}
            for name in clients
        ],
    }


def balancer() -> dict[str, Any]:
    return {"broker1": {"state": "UP", "weight": 10}, "broker2": {"state": "UP", "weight": 9}}


def sound() -> dict[str, Any]:
    sources = {
        name: [{"name": "hwrng", "uri": "hwrng:/dev/hwrng"}, {"name": "jitter", "uri": "jitter:"}]
        for name in ("rng1", "rng2")
    }
    return {
        "looks": [
            {
                "item": {"name": "broker1"},
                "problem": "",
                "held_vips": ["10.0.0.10"],
                "balancer": balancer(),
                "status": status("broker1", "rng1", "broker1.client", "vm1"),
            },
            {
                "item": {"name": "broker2"},
                "problem": "",
                "held_vips": [],
                "balancer": balancer(),
                "status": status("broker2", "rng2", "broker2.client", "vm2"),
            },
        ],
        "fleet": {
            "site_id": "test",
            "vips": ["10.0.0.10"],
            "haproxy": True,
            "keepalived": True,
            "topup_interval_seconds": 600,
            "feeders": [{"name": name, "id": name, "sources": of} for name, of in sources.items()],
            "credentials": [
                {"host": "broker1", "role": "broker", "id": "broker1"},
                {"host": "broker1", "role": "client", "id": "broker1.client"},
                {"host": "broker2", "role": "client", "id": "broker2.client"},
                {"host": "vm1", "role": "client", "id": "vm1"},
                {"host": "vm2", "role": "client", "id": "vm2"},
            ],
            "started": [],
            "gateways": [],
        },
    }


def said(case: dict[str, Any]) -> list[str]:
    return troubles(case["looks"], case["fleet"], NOW)


def shown(case: dict[str, Any]) -> str:
    return "\n".join(table(case["looks"], case["fleet"], NOW))


def of_broker2(**values: Any) -> Change:
    return lambda case: case["looks"][1]["status"].update(values)


def look2(**values: Any) -> Change:
    return lambda case: case["looks"][1].update(values)


def away(case: dict[str, Any]) -> None:
    case["looks"][1] = {"item": {"name": "broker2"}, "unreachable": True, "msg": "no route"}


def stopped(case: dict[str, Any]) -> None:
    case["looks"][1] |= {"status": {}, "problem": "no broker listens on /run/x"}


def late(case: dict[str, Any]) -> None:
    case["looks"][1]["status"]["clients"][1]["last_draw_unix"] = NOW - 1501


def never(case: dict[str, Any]) -> None:
    del case["looks"][1]["status"]["clients"][1]


def just_started(case: dict[str, Any]) -> None:
    never(case)
    case["fleet"]["started"] = ["vm2"]
    case["looks"][1]["status"]["uptime_seconds"] = 3


def not_fed(case: dict[str, Any]) -> None:
    case["looks"][1]["status"]["feeders"][1]["connected"] = False


WRONG: dict[str, tuple[Change, list[str]]] = {
    "broker away": (away, ["broker2 cannot be reached", "rng2 feeds no broker"]),
    "broker stopped": (stopped, ["broker2: no broker answers there (no broker", "rng2 feeds no"]),
    "broker empty": (of_broker2(ready=False), ["broker2 is not ready: it holds 1638 blocks"]),
    "peer refused": (
        of_broker2(peers=[{"id": "broker1", "state": "refused", "last_error": "permission"}]),
        ["broker2 cannot draw from its peer broker1 (refused: permission)"],
    ),
    "old list": (of_broker2(acl_generation=6), ["different lists of credentials (broker1 7, b"]),
    "no VIP": (
        lambda case: case["looks"][0].update(held_vips=[]),
        ["No broker holds 10.0.0.10"],
    ),
    "two VIPs": (look2(held_vips=["10.0.0.10"]), ["broker1 and broker2 all hold 10.0.0.10"]),
    "drained": (
        of_broker2(draining=True, ready=False),
        ["broker2 is drained: it serves nobody. If that is over, run there: entropy drain --off"],
    ),
    "no haproxy": (look2(balancer=None), ["broker2: haproxy does not answer"]),
    "no way to a broker": (
        look2(balancer=balancer() | {"broker1": {"state": "DOWN", "weight": 1}}),
        ["broker2: haproxy sends nobody to broker1 (DOWN), which is ready. Ports 25227 and 25228"],
    ),
    "feeder gone": (
        not_fed,
        ["rng2 feeds no broker. See there: systemctl status entropy-"],
    ),
    "late": (late, ["vm2: its client last drew 25 min ago"]),
    "never": (never, ["vm2: its client has never drawn"]),
    "just started": (just_started, ["vm2: its client was started and has not drawn yet"]),
}


def test_a_whole_fleet_has_no_troubles() -> None:
    assert said(sound()) == []


@pytest.mark.parametrize("name", WRONG)
def test_each_trouble_has_a_sentence_with_what_to_do(name: str) -> None:
    case = sound()
    change, sentences = WRONG[name]
    change(case)
    found = said(case)
    assert len(found) == len(sentences), found
    for sentence, part in zip(found, sentences, strict=True):
        assert part in sentence


def test_a_broker_that_restarted_forgets_and_nobody_is_blamed() -> None:
    case = sound()
    never(case)
    case["looks"][1]["status"]["uptime_seconds"] = 40
    assert said(case) == []
    assert "vm2             not seen  -     -        a broker forgot when it" in shown(case)


def test_a_client_may_draw_anywhere_and_the_latest_counts() -> None:
    case = sound()
    clients = case["looks"][0]["status"]["clients"]
    clients.append(dict(clients[1], id="vm2", last_draw_unix=NOW - 5, last_credit_bits=448))
    assert "vm2             5 s ago   448   broker1" in shown(case)


def test_the_table_names_holder_fill_sources_and_clients() -> None:
    lines = shown(sound()).splitlines()
    assert "Virtual address 10.0.0.10: held by broker1" in lines
    head = ["BROKER", "FILL", "READY", "WEIGHT", "IMPORTED", "LIST", "CLONES", "FED", "BY"]
    assert lines[4].split() == head
    first = "broker1 1638/16384 blocks 9 % yes 10 % 1792 bits 7 vmclock rng1 hwrng:/dev/hwrng,"
    assert lines[5].split() == [*first.split(), "jitter:"]
    assert "vm1             70 s ago  256   broker1" in lines
    assert "broker2.client  70 s ago  256   broker2" in lines


def test_a_fleet_without_a_virtual_address_is_not_asked_for_one() -> None:
    case = sound()
    case["fleet"] |= {"vips": [], "haproxy": False, "keepalived": False}
    for look in case["looks"]:
        look |= {"held_vips": [], "balancer": None}
    assert said(case) == []
    assert "irtual" not in shown(case)


def test_a_stand_in_is_called_one() -> None:
    case = sound()
    case["fleet"]["feeders"][0]["sources"] = [
        {"name": "kernel", "uri": "kernel:", "lab_only_credit_kernel": True}
    ]
    assert "rng1: no hardware source here. The kernel's own generator stands in" in shown(case)


def test_the_table_shows_a_fleet_where_nothing_runs() -> None:
    case = sound()
    for name, look in zip(("broker1", "broker2"), copy.copy(case["looks"]), strict=True):
        look |= {
            "item": {"name": name},
            "status": {},
            "held_vips": None,
            "balancer": None,
            "problem": "none",
        }
    assert "broker1  no answer" in shown(case)
    assert "held by no broker" in shown(case)


def test_a_large_fleet_shows_those_that_need_a_look() -> None:
    case = sound()
    names = [f"vm{number:05}" for number in range(20_000)]
    case["fleet"]["credentials"] = [{"host": n, "role": "client", "id": n} for n in names]
    clients = case["looks"][0]["status"]["clients"]
    clients[:] = [dict(clients[0], id=name) for name in names[1:]]
    text = shown(case)
    assert "19999 of 20000 clients are fed; the others are:" in text
    assert text.count("\nvm") == 1
    assert "has never drawn" in text


def test_a_drained_broker_is_shown_as_one() -> None:
    case = sound()
    of_broker2(draining=True, ready=False)(case)
    case["looks"][0]["balancer"]["broker2"] = {"state": "DRAIN", "weight": 9}
    row = next(line for line in shown(case).splitlines() if line.startswith("broker2"))
    assert row.split()[5:7] == ["drained", "drain"]


@pytest.mark.parametrize("sign", ["none", "vmgenid"])
def test_a_platform_that_tells_nothing_of_clones_is_named(sign: str) -> None:
    case = sound()
    assert "snapshot" not in shown(case)
    of_broker2(clone={"sign": sign})(case)
    assert "broker2: nothing on this platform tells a broker that its machine was" in shown(case)
    assert said(case) == []


def test_an_upgrade_that_was_not_finished_shows() -> None:
    case = sound()
    assert "release" not in shown(case)
    of_broker2(version="1.3.0")(case)
    assert "The brokers run different releases (broker1 1.2.0, broker2 1.3.0)" in shown(case)
    assert said(case) == []


def test_a_broker_of_an_earlier_release_is_shown_too() -> None:
    case = sound()
    for look in case["looks"]:
        del look["status"]["clone"], look["status"]["draining"]
        del look["status"]["peers"][0]["imported_bits"]
    assert said(case) == []
    assert "0 bits" in shown(case)


def test_what_a_drill_showed() -> None:
    measured = {
        "draws": 88,
        "by_broker": {"broker2": 66, "broker1": 22},
        "slowest_seconds": 0.3,
        "slowest_at_seconds": 6.2,
        "errors": {"hung up": 1, "told to come later": 3},
    }
    words = {"what": "haproxy.service on broker1 stopped for 6 s", "client": "vm2"}
    assert drill_report(measured, {**words, "endpoints": ["10.0.0.10:25226"]}) == [
        "Drill: haproxy.service on broker1 stopped for 6 s.",
        "vm2 drew through 10.0.0.10:25226: 88 draws were answered (22 by broker1, 66 by broker2).",
        "Longest gap in service: 0.30 s, 6 s after it began to draw.",
        "Tries that failed and were made again: 3 x told to come later",
        "Tries that failed and were made again: 1 x hung up",
    ]
