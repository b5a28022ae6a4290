"""What playbooks say about credentials, and whom they wait for."""

from __future__ import annotations

import json
from typing import Any

import pytest

from module_utils.entropy_ledger import Key, Ledger, LedgerCredential, Terms, dump_ledger
from plugins.filter.entropy_fleet import credentials
from plugins.filter.entropy_rotation import (
    authority_line,
    lines,
    rebuilt,
    refusals,
    revoked_ids,
    stale_certificates,
    unseen,
    words,
)

LISTS = (
    *("issued", "rotated", "retired", "waiting", "stragglers"),
    *("revoked", "denied", "orphans", "unlisted"),
)
QUIET: dict[str, Any] = {
    **{name: [] for name in LISTS},
    "bootstraps": [{"id": "ext1", "expires": None}],
    "authority": {"roll_advised": False},
}
UNTIL = "2026-11-30T20:29:18Z"


def said(state: str = "present", away: list[str] | None = None, **outcome: Any) -> list[str]:
    return lines({**QUIET, **outcome}, away or [], state)


def test_a_run_with_nothing_to_tell_says_nothing() -> None:
    assert said() == []


@pytest.mark.parametrize(
    ("outcome", "words_said"),
    [
        ({"rotated": ["vm1"]}, ["Two keys", "vm1"]),
        ({"retired": ["vm1"]}, ["the old one has ended", "vm1"]),
        ({"revoked": ["vm1", "vm2"]}, ["Revoked: vm1, vm2."]),
        ({"waiting": [{"id": "vm3", "until": UNTIL}]}, ["goes on working", f"vm3 (until {UNTIL})"]),
        ({"stragglers": ["vm4"]}, ["no broker has seen", "vm4", "site.yml"]),
        ({"denied": ["vm5"]}, ["skipped", "vm5", "-e reissue=vm5"]),
        ({"orphans": ["vm6", "vm7"]}, ["in no inventory", "revoke.yml -e ids=vm6,vm7"]),
        ({"unlisted": ["ext2"]}, ["external", "revoke.yml -e ids=ext2"]),
        ({"bootstraps": [{"id": "ext1", "expires": UNTIL}]}, ["bootstrap", f"ext1 (ends {UNTIL})"]),
        ({"authority": {"roll_advised": True, "expires": UNTIL}}, [UNTIL, "roll_authority.yml"]),
    ],
)
def test_each_thing_is_one_line_with_a_remedy(
    outcome: dict[str, Any], words_said: list[str]
) -> None:
    (line,) = said(**outcome)
    assert [word for word in words_said if word not in line] == []


def test_a_rotation_that_begins_is_not_late() -> None:
    waiting = [{"id": "vm1", "until": UNTIL}]
    assert len(said(rotated=["vm1"], waiting=waiting)) == 1


def test_a_broker_that_missed_a_revocation_is_no_small_matter() -> None:
    assert said("revoked", ["broker2"], revoked=["vm1"])[-1].startswith(
        "NOT REVOKED YET at broker2"
    )
    # Orphans are revoked with another state.
    assert "NOT REVOKED YET" in said("present", ["broker2"], revoked=["vm1"])[-1]
    assert said("present", ["broker2"]) == [
        "broker2 cannot be reached and gets the list at the next run."
    ]


@pytest.mark.parametrize(
    ("revoked", "begins"), [([], "b2: "), (["vm1"], "NOT REVOKED YET at b2: ")]
)
def test_who_refuses_a_list_is_named(revoked: list[str], begins: str) -> None:
    published = [
        {"item": {"name": "b1"}, "generation": 7, "failed": False},
        {"item": {"name": "b2"}, "failed": True, "msg": "the disk is full"},
        {"item": {"name": "b3"}, "unreachable": True, "failed": True, "msg": "no route"},
    ]
    assert refusals(published, {"revoked": revoked}) == [f"{begins}the disk is full"]


def test_a_broker_that_shows_an_old_certificate_is_found() -> None:
    asked = [
        {"status": {"broker_id": "b1", "certificate_fingerprint": "AA:BB"}},
        {"status": {"broker_id": "b2", "certificate_fingerprint": "AA:CC"}},
        {"status": {"broker_id": "b3"}},  # an older release
        {"status": {}},  # it does not run
        {"unreachable": True},
    ]
    issued = {name: {"fingerprint": "AA:BB"} for name in ("b1", "b2", "b3")}
    assert stale_certificates(asked, {"certificates": issued}) == ["b2"]
    assert stale_certificates(asked, {}) == []


def test_long_lists_are_cut() -> None:
    (line,) = said(revoked=[f"vm{n}" for n in range(1000)])
    assert line.endswith("vm19 and 980 more.")


def test_who_was_not_seen_with_the_new_key() -> None:
    def report(**uses: int | None) -> dict[str, Any]:
        return {
            "keys": {
                name: {f"new-{name}": {"first_use_unix": unix, "sessions": 0}}
                for name, unix in uses.items()
            }
        }

    installed = [{"id": name, "key_id": f"new-{name}"} for name in ("vm1", "vm2", "vm3", "vm1")]
    installed += [{"id": None, "key_id": None}, {"unreachable": True}]
    reports = [report(vm1=None, vm2=None), report(vm1=None, vm2=1_700_000_000), {}]
    # No broker speaks of vm3's key: it has no second one.
    assert unseen(installed, reports) == ["vm1"]


def test_who_was_built_anew() -> None:
    def host(**before: str | None) -> dict[str, Any]:
        results = [{"id": name, "before_key_id": key_id} for name, key_id in before.items()]
        return {"entropy_credentials_secret": {"results": results}}

    hosts = [host(vm1=None), host(vm2="0b1f"), host(vm3=None), {}, host()]
    hosts.append({"entropy_credentials_secret": {"results": [{"id": None, "before_key_id": None}]}})
    hosts.append({"entropy_credentials_secret": {"results": [{"unreachable": True}]}})
    assert rebuilt(hosts, {"issued": ["vm3"]}) == ["vm1"]


def test_names_in_every_way_of_writing() -> None:
    assert words("vm1,vm2, vm3") == words(["vm1", "vm2", "vm3"]) == ["vm1", "vm2", "vm3"]
    assert words("") == []


@pytest.mark.parametrize("roll", ["none", "trusting", "signing"])
def test_where_a_roll_stands(roll: str) -> None:
    line = authority_line({"roll": roll, "fingerprint": "AB:CD", "next_step_after": UNTIL})
    assert (UNTIL in line) is (roll != "none")


def test_a_host_may_belong_to_a_tenant() -> None:
    groups = {"entropy_clients": ["vm1", "vm2"]}
    hostvars: dict[str, dict[str, Any]] = {"vm1": {"entropy_tenant": "acme"}, "vm2": {}}
    found = credentials(["vm1", "vm2"], groups, hostvars)
    assert [of.get("tenant") for of in found] == ["acme", None]


def test_who_was_revoked_is_read_from_a_ledger() -> None:
    states = {"vm1": ["revoked", "active"], "vm2": ["revoked"], "vm3": ["retiring", "pending"]}
    ledger = Ledger(
        site_id="lab",
        generation=3,
        authorities=(),
        acl_file_sha256="",
        credentials={
            name: LedgerCredential(
                terms=Terms(permissions=("draw",)),
                keys=tuple(Key(f"key {state}", "print", state, UNTIL) for state in of_id),
                file_sha256="",
            )
            for name, of_id in states.items()
        },
    )
    assert revoked_ids(json.loads(dump_ledger(ledger))) == ledger.revoked_ids() == ["vm2"]
