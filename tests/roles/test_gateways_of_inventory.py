"""The gateways of an inventory: what preflight says of them, and what verify does."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from plugins.filter.entropy_gateways import BOUNDS, gateways, is_well, n_guests, problems, seen
from plugins.filter.entropy_inventory import GATEWAY_BLOCK_BYTES
from plugins.filter.entropy_rotation import newest_keys
from plugins.filter.entropy_whole import table, troubles
from tests.gateways.site import WORTH_BYTES
from tests.roles.rendering import CHECKOUT, Inventory
from tests.roles.test_preflight import found
from tests.roles.test_preflight import sound as sound_inventory
from tests.roles.test_whole import NOW, sound

SYSTEMD = ["ActiveState=active", "StatusText=2 readers, 0 wait; no broker"]
DRY = ["ActiveState=active", "StatusText=2 readers, 1 wait; no broker; dry: no=body is there."]
CREDENTIALS = [
    {"host": "kvm1", "role": "gateway", "id": "kvm1.gateway"},
    {"host": "vm1", "role": "client", "id": "vm1"},
]

WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no rate": ({"rate_bytes_per_second": 0}, "it must be a whole number from 1 to 1000000"),
    "a rate in words": ({"total_rate_bytes_per_second": "fast"}, "is 'fast': it must be a whole"),
    "a buffer of nothing": ({"buffer_bytes": 63}, "from 64 to 65536"),
    "too many guests": ({"guests": -1}, "entropy_gateway_guests is -1"),
    "no list": ({"listen": "127.0.0.1:25240"}, "must be a list"),
    "nothing at all": ({"listen": []}, "must be a list"),
    "a strange folder": ({"listen": ["unix:/run/egd"]}, "can make sockets in one folder alone"),
    "below": ({"listen": ["unix:/run/entropy-gateway/egd/a/b"]}, "in one folder alone"),
    "everybody": ({"listen": ["0.0.0.0:25240"]}, "with one address of the host"),
    "everybody of IPv6": ({"listen": ["[::]:25240"]}, "with one address of the host"),
    "a port of its own": ({"listen": ["25240"]}, "write ADDRESS:PORT"),
    "a port too high": ({"listen": ["127.0.0.1:65536"]}, "write ADDRESS:PORT"),
    "figures nowhere": ({"admin_listen": "25233"}, "admin_listen is '25233'"),
}


def of_inventory(**values: Any) -> list[dict[str, Any]]:
    variables = {f"entropy_gateway_{key}": value for key, value in values.items()}
    return gateways({"entropy_gateways": ["kvm1"]}, {"kvm1": {**variables, "other": 1}})


def asked(looks: list[dict[str, Any]], answer: dict[str, Any] | None) -> dict[str, Any]:
    answers = {} if answer is None else {"kvm1": answer}
    (gateway,) = seen(looks, CREDENTIALS, answers, {"kvm1.gateway": "k2"})
    return gateway


def drew(looks: list[dict[str, Any]], broker: int, ago_seconds: float | None, key_id: str) -> None:
    unix = None if ago_seconds is None else NOW - ago_seconds
    client = {"id": "kvm1.gateway", "last_draw_unix": unix, "last_credit_bits": 448}
    looks[broker]["status"]["clients"].append(client | {"last_kind": "topup", "key_id": key_id})


@pytest.mark.parametrize("name", WRONG)
def test_each_wrong_thing_has_its_own_sentence(name: str) -> None:
    values, part = WRONG[name]
    (sentence,) = problems(of_inventory(**values))
    assert sentence.startswith("kvm1: entropy_gateway_")
    assert part in sentence
    assert sentence.endswith(".")


def test_what_is_sound_has_no_problems() -> None:
    assert problems(of_inventory()) == []
    listen = ["unix:/run/entropy-gateway/egd/socket", "127.0.0.1:25240", "[::1]:25240"]
    assert problems(of_inventory(listen=listen, admin_listen="", guests="20")) == []
    assert problems([]) == []


def test_the_bounds_are_for_variables_of_the_role() -> None:
    text = (CHECKOUT / "roles/entropy_gateway/defaults/main.yml").read_text()
    variables = yaml.safe_load(text)
    defaults = {key: variables[f"entropy_gateway_{key}"] for key in BOUNDS}
    assert problems(of_inventory(**defaults)) == []


def test_guests_are_counted_where_their_number_is_known() -> None:
    assert n_guests(of_inventory(guests=20) + of_inventory() + of_inventory(guests="x")) == 20
    assert WORTH_BYTES == GATEWAY_BLOCK_BYTES
    fleet = sound_inventory()
    # 5 x 64 bytes a minute are 5/60 x 64/56 blocks a second of 576 bits, and 4 clients take 3.84.
    fleet["settings"]["gateway_guests"] = 5
    for rate, n_problems in ((58.71, 0), (58.69, 1)):
        for name in ("rng1", "rng2"):
            sources = fleet["hostvars"][name]["entropy_feeder_sources"]
            sources[0]["credit_bits_per_second"] = rate
        assert len(found(fleet)) == n_problems
    assert "4 clients need 58.7 bit/s" in found(fleet)[0]
    assert "and 5 guests of gateways 64 bytes a minute" in found(fleet)[0]


@pytest.mark.parametrize("name", ["example", "lab"])
def test_preflight_finds_nothing_wrong_with_our_own(name: str) -> None:
    inventory = Inventory(str(CHECKOUT / "inventories" / name))
    host = inventory.hosts.groups["entropy_gateways"].get_hosts()[0].name
    value = "entropy_preflight_gateways | entropy_gateway_problems"
    assert inventory.value("entropy_preflight", value, host) == []


def test_the_newest_key_is_the_last_that_is_valid() -> None:
    def keys(*states: str) -> dict[str, Any]:
        return {"keys": [{"key_id": f"k{n}", "state": s} for n, s in enumerate(states)]}

    ledger = {
        "credentials": {
            "a": keys("revoked", "retiring", "pending"),
            "b": keys("revoked", "active"),
            "c": keys("revoked"),
            "d": keys("active"),
        }
    }
    assert newest_keys(ledger, ["a", "b", "c", "nobody"]) == {"a": "k2", "b": "k1"}


def test_a_gateway_is_well_that_runs_and_is_not_dry() -> None:
    assert is_well(SYSTEMD)
    assert not is_well(DRY)
    assert not is_well(["ActiveState=inactive", "StatusText="])
    assert not is_well([])


def test_the_table_has_each_gateway_by_its_latest_draw() -> None:
    case = sound()
    drew(case["looks"], 0, 400, "k2")
    drew(case["looks"], 1, 90, "k1")
    case["fleet"]["gateways"] = [asked(case["looks"], {"stdout_lines": SYSTEMD})]
    assert troubles(case["looks"], case["fleet"], NOW) == []
    lines = table(case["looks"], case["fleet"], NOW)
    at = lines.index(next(line for line in lines if line.startswith("GATEWAY")))
    assert lines[at].split() == ["GATEWAY", "UNIT", "LAST", "DREW", "BITS", "BY", "KEY"]
    row = ["kvm1.gateway", "active", "90", "s", "ago", "448", "broker2", "newest"]
    assert lines[at + 1].split() == [*row, "2", "readers,", "0", "wait;", "no", "broker"]


def test_one_that_has_nothing_to_do_is_no_trouble_and_an_old_key_is_shown() -> None:
    looks = sound()["looks"]
    idle = asked(looks, {"stdout_lines": SYSTEMD})
    assert (idle["last_draw_unix"], idle["key"], idle["wrong"]) == (None, "", "")
    drew(looks, 0, None, "k1")  # it has logged in and drawn nothing
    idle = asked(looks, None)
    assert (idle["unit"], idle["last_draw_unix"], idle["key"]) == ("", None, "older")
    assert idle["wrong"] == ""


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (
            {"unreachable": True},
            "kvm1 cannot be reached: start the machine, then run site.yml again.",
        ),
        (
            {"stdout_lines": ["ActiveState=failed", "StatusText="]},
            "kvm1: its gateway does not run (failed). See there: systemctl status "
            "entropy-gateway@egd.",
        ),
        (
            {"stdout_lines": DRY},
            "kvm1: its gateway has nothing to give: no=body is there. See there: systemctl status "
            "entropy-gateway@egd.",
        ),
        (
            {"msg": "no such command"},
            "kvm1: its gateway does not run (unknown). See there: systemctl status "
            "entropy-gateway@egd.",
        ),
    ],
)
def test_each_trouble_has_a_sentence(answer: dict[str, Any], sentence: str) -> None:
    case = sound()
    case["fleet"]["gateways"] = [asked(case["looks"], answer)]
    assert troubles(case["looks"], case["fleet"], NOW) == [sentence]


def test_of_many_gateways_those_are_shown_that_need_a_look() -> None:
    case = sound()
    one = asked(case["looks"], {"stdout_lines": SYSTEMD})
    many = [one | {"id": f"kvm{number}.gateway"} for number in range(1, 101)]
    many[41] |= {"unit": "failed", "wrong": "kvm42: its gateway does not run (failed)."}
    case["fleet"]["gateways"] = many
    text = "\n".join(table(case["looks"], case["fleet"], NOW))
    assert "99 of 100 gateways are well; the others are:" in text
    assert text.count("\nkvm") == 1
    many[41] |= {"wrong": ""}
    text = "\n".join(table(case["looks"], case["fleet"], NOW))
    assert "100 of 100 gateways are well.\n" in text
    assert "GATEWAY " not in text
