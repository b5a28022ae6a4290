"""What preflight says of an inventory: one wrong thing each, and all of them at once."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from plugins.filter import entropy_variables
from plugins.filter.entropy_fleet import brokers, credentials, feeders, members
from plugins.filter.entropy_inventory import problems
from tests.roles.rendering import CHECKOUT, INVENTORIES, Inventory

Change = Callable[[dict[str, Any]], None]


def sound() -> dict[str, Any]:
    """A fleet of two brokers, two feeders and two VMs, and what the operator set."""
    source = {
        "name": "hwrng",
        "uri": "hwrng:/dev/hwrng",
        "credit_bits_per_byte": 1,
        "reason": "a test",
        "credit_bits_per_second": 100.0,
    }
    return {
        "settings": {
            "site_id": "test",
            "state_dir": "/srv/entropy",
            "vip": "10.0.0.10",
            "vip_ipv6": "",
            "haproxy": True,
            "keepalived": True,
            "virtual_router_id": 51,
            "single_broker": False,
            "single_source": False,
            "topup_interval_seconds": 600,
            "topup_bytes": 32,
            "gateway_guests": 0,
        },
        "groups": {
            "all": ["broker1", "broker2", "rng1", "rng2", "vm1", "vm2"],
            "ungrouped": [],
            "entropy": ["broker1", "broker2", "rng1", "rng2", "vm1", "vm2"],
            "entropy_brokers": ["broker1", "broker2"],
            "entropy_feeders": ["rng1", "rng2"],
            "entropy_clients": ["vm1", "vm2"],
            "xen": ["vm1"],
        },
        "hostvars": {
            "broker1": {"ansible_host": "10.0.0.11"},
            "broker2": {"ansible_host": "10.0.0.12"},
            "rng1": {"entropy_feeder_sources": [source]},
            "rng2": {"entropy_feeder_sources": [copy.deepcopy(source)]},
            "vm1": {},
            "vm2": {},
        },
    }


def found(fleet: dict[str, Any], *external: str) -> list[str]:
    groups, hostvars = fleet["groups"], fleet["hostvars"]
    return problems(
        fleet["settings"],
        groups,
        brokers(groups.get("entropy_brokers", []), hostvars),
        feeders(groups, hostvars),
        [*credentials(members(groups), groups, hostvars), *({"id": name} for name in external)],
    )


def setting(name: str, value: Any) -> Change:
    return lambda fleet: fleet["settings"].update({name: value})


def host(name: str, **values: Any) -> Change:
    return lambda fleet: fleet["hostvars"][name].update(values)


def group(name: str, *names: str) -> Change:
    return lambda fleet: fleet["groups"].update({name: list(names)})


def without(*names: str) -> Change:
    def change(fleet: dict[str, Any]) -> None:
        for group, hosts in fleet["groups"].items():
            fleet["groups"][group] = [host for host in hosts if host not in names]

    return change


def source(feeder: str, **values: Any) -> Change:
    return lambda fleet: fleet["hostvars"][feeder]["entropy_feeder_sources"][0].update(values)


WRONG: dict[str, tuple[Change, str]] = {
    "one broker": (without("broker2"), "There is one broker (broker1)"),
    "no broker": (without("broker1", "broker2"), "Group entropy_brokers has no host"),
    "no feeder": (without("rng1", "rng2"), "Group entropy_feeders has no host"),
    "no client": (without("vm1", "vm2"), "Group entropy_clients has no host"),
    "a misspelt group": (group("entropy_client", "vm1"), "did you mean entropy_clients?"),
    "a host without a role": (
        group("entropy", "broker1", "broker2", "rng1", "rng2", "vm1", "vm2", "vm3"),
        "vm3 is in the group entropy without a role",
    ),
    "a host outside": (
        group("entropy", "broker1", "broker2", "rng1", "rng2", "vm1"),
        "vm2 is not in the group entropy",
    ),
    "the same id": (host("vm2", entropy_id="vm1"), "vm1 and vm2 have the same id 'vm1'"),
    "an id that is none": (host("vm2", entropy_id="VM 2"), "'VM 2' cannot be an id"),
    "a dot in a broker's id": (host("broker2", entropy_id="b.2"), "must not contain a dot"),
    "no address": (host("broker2", ansible_host="10.0.0.256"), "broker2: entropy_address"),
    "a name": (host("broker2", ansible_host="broker2.example"), "'broker2.example', which is not"),
    "any address": (host("broker2", ansible_host="::"), "'::', which is not the address of"),
    "one address twice": (
        host("broker2", entropy_address="10.0.0.11"),
        "broker1 and broker2 have the same address 10.0.0.11",
    ),
    "an address by template": (
        host("broker2", ansible_host="{{ inventory_hostname }}", entropy_address="10.0.0.12"),
        "ansible_host is made from inventory_hostname",
    ),
    "a broker's address as VIP": (setting("vip", "10.0.0.12"), "is broker2's own address"),
    "a VIP that is none": (setting("vip", "10.0.0.10/24"), "which is not an address"),
    "a VIP of the other version": (setting("vip", "fd00::10"), "not of one IP version"),
    "an IPv6 VIP that is none": (setting("vip_ipv6", "fd00::10/64"), "entropy_vip_ipv6 is 'fd00::"),
    "two IPv4 VIPs": (setting("vip_ipv6", "10.0.0.9"), "is for the IPv6 address beside an IPv4"),
    "a second address of IPv4": (
        host("broker2", entropy_address_ipv6="10.0.0.13"),
        "broker2: entropy_address_ipv6 is '10.0.0.13', which is not the IPv6",
    ),
    "one IPv6 address twice": (
        lambda fleet: [
            fleet["hostvars"][name].update(entropy_address_ipv6="fd00::1")
            for name in ("broker1", "broker2")
        ],
        "broker1 and broker2 have the same address fd00::1",
    ),
    "keepalived without a VIP": (setting("vip", ""), "there is no entropy_vip"),
    "keepalived without haproxy": (setting("haproxy", False), "at which nobody answers"),
    "no router id": (setting("virtual_router_id", 0), "virtual_router_id is not set"),
    "a router id too large": (setting("virtual_router_id", 256), "must be from 1 to 255"),
    "no site": (setting("site_id", ""), "entropy_site_id is ''"),
    "a site with capitals": (setting("site_id", "Lab"), "entropy_site_id is 'Lab'"),
    "a relative folder": (setting("state_dir", "state"), "must be an absolute path"),
    "no source": (host("rng2", entropy_feeder_sources=[]), "rng2 is a feeder without a source"),
    "a source that is none": (
        host("rng2", entropy_feeder_sources="hwrng"),
        "entropy_feeder_sources must be a list",
    ),
    "a strange broker": (host("rng2", entropy_feeder_broker="vm1"), "'vm1', which is not a broker"),
    "a source without a name": (source("rng2", name=""), "a name of a-z 0-9 _ - is needed"),
    "a source of no kind": (source("rng2", uri="/dev/hwrng"), "uri is '/dev/hwrng': write one of"),
    "nine bits in a byte": (source("rng2", credit_bits_per_byte=9), "a number of bits from 0 to 8"),
    "a figure without reason": (source("rng2", reason=""), "a figure without a reason"),
    "no rate": (source("rng2", credit_bits_per_second=None), "credit_bits_per_second is None"),
    "a misspelt key": (source("rng2", credit_bits_per_bite=1), "did you mean credit_bits_per_byte"),
    "a kernel with credit": (source("rng2", uri="kernel:"), "the kernel's own generator earns no"),
    "figures for whatever is found": (
        source("rng2", uri="auto"),
        "with auto the device that is found brings its own figures",
    ),
    "two generators of one kernel": (
        host(
            "rng2",
            entropy_feeder_sources=[
                {"name": name, "uri": f"hwrng:name={name}", "credit_bits_per_second": 100}
                for name in ("a", "b")
            ],
        ),
        "hwrng:name=a and hwrng:name=b: Linux reads from one of its generators at a time",
    ),
    "too little if one dies": (
        source("rng2", credit_bits_per_second=3.8),
        "would starve if rng1's hwrng (100 bit/s) died: 4 clients need 3.84 bit/s",
    ),
}


def test_a_sound_inventory_has_no_problems() -> None:
    assert found(sound()) == []


@pytest.mark.parametrize("name", WRONG)
def test_each_wrong_thing_has_its_own_sentence(name: str) -> None:
    fleet = sound()
    change, sentence = WRONG[name]
    change(fleet)
    said = found(fleet)
    assert len(said) == 1, said
    assert sentence in said[0]
    assert said[0].endswith((".", "?"))


@pytest.mark.parametrize(
    "uri",
    [
        "auto",
        "alea:",
        "alea:serial=A1",
        "chaoskey:endpoint=raw",
        "serial:/dev/ttyACM0?model=truerng",
        "hwrng:name=tpm-rng-0",
        "exec:camera --noise",
    ],
)
def test_every_kind_of_source_can_be_named(uri: str) -> None:
    fleet = sound()
    one = {"name": "one", "uri": uri, "fips140": True, "credit_bits_per_second": 100.0}
    fleet["hostvars"]["rng1"]["entropy_feeder_sources"] = [one]
    assert found(fleet) == []


def test_one_broker_and_one_source_can_be_accepted() -> None:
    fleet = sound()
    fleet["groups"] |= {
        "entropy": ["broker1", "rng1", "vm1"],
        "entropy_brokers": ["broker1"],
        "entropy_feeders": ["rng1"],
        "entropy_clients": ["vm1"],
    }
    assert len(found(fleet)) == 2
    fleet["settings"] |= {"single_broker": True, "single_source": True}
    assert found(fleet) == []
    fleet["hostvars"]["rng1"]["entropy_feeder_sources"][0]["credit_bits_per_second"] = 1
    assert "cannot feed the fleet" in found(fleet)[0]


def test_the_demand_counts_whole_blocks() -> None:
    fleet = sound()
    # 65 bytes take two blocks of 576 bits: 4 clients x 2 x 576 / 600 s = 7.68 bit/s.
    fleet["settings"]["topup_bytes"] = 65
    for rate, n_problems in ((7.68, 0), (7.6, 1)):
        for name in ("rng1", "rng2"):
            sources = fleet["hostvars"][name]["entropy_feeder_sources"]
            sources[0]["credit_bits_per_second"] = rate
        assert len(found(fleet)) == n_problems


def test_external_clients_are_fed_too_and_have_names_of_their_own() -> None:
    fleet = sound()
    for name in ("rng1", "rng2"):
        sources = fleet["hostvars"][name]["entropy_feeder_sources"]
        sources[0]["credit_bits_per_second"] = 4.8  # five clients at 576 bits in 600 s
    assert found(fleet, "customer-1") == []
    assert "6 clients need 5.76 bit/s" in found(fleet, "customer-1", "customer-2")[0]
    same = found(sound(), "vm1")
    assert [s for s in same if "vm1 and the list of external clients have the same id" in s] == same
    assert len(same) == 1


def test_a_variable_that_nobody_reads_is_named_with_the_nearest_that_is() -> None:
    hostvars: dict[str, Any] = sound()["hostvars"]
    assert entropy_variables.problems(hostvars, hostvars) == []
    for wrong, right in (
        ("entropy_vpi", "entropy_vip"),
        ("entropy_statedir", "entropy_state_dir"),
        ("entropy_broker_limit", "entropy_broker_limits"),
        ("entropy_client_two_broker", "entropy_client_two_brokers"),
    ):
        hostvars = sound()["hostvars"]
        hostvars["vm1"][wrong] = hostvars["vm2"][wrong] = 1
        (said,) = entropy_variables.problems(hostvars, hostvars)
        assert f"{wrong} (vm1 and 1 more): nothing here reads" in said
        assert f"did you mean {right}?" in said
    hostvars = sound()["hostvars"]
    hostvars["vm1"]["entropy_kubernetes_cluster"] = 1
    (said,) = entropy_variables.problems(hostvars, hostvars)
    assert "entropy_kubernetes_cluster (vm1): nothing here reads a variable of this name. " in said


def test_two_names_for_one_machine_are_seen() -> None:
    hostvars: dict[str, Any] = sound()["hostvars"]
    hostvars["rng1"]["ansible_host"] = hostvars["vm2"]["ansible_host"] = "10.0.0.21"
    (said,) = entropy_variables.problems(hostvars, hostvars)
    assert said.startswith("rng1 and vm2 have the same ansible_host 10.0.0.21: a machine stands")
    hostvars["vm2"]["ansible_port"] = 2222
    assert entropy_variables.problems(hostvars, hostvars) == []


def test_the_lists_that_operators_start_from_name_no_strange_variable() -> None:
    """The same in a real inventory, where addresses are templates."""
    for folder in ("example", "lab"):
        inventory = Inventory(str(CHECKOUT / "inventories" / folder))
        names = [str(name) for name in inventory.hostvars]
        assert names
        said = entropy_variables.problems(names, _WithoutAddresses(inventory))
        assert said == []


def refused(*words: object) -> subprocess.CompletedProcess[str]:
    """A run of ansible-playbook that must fail."""
    argv = [str(Path(sys.executable).parent / "ansible-playbook"), *map(str, words)]
    done = subprocess.run(argv, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    return done


class _WithoutAddresses(dict[str, Any]):
    """A real inventory's variables; the lab has no addresses while it is down."""

    def __init__(self, inventory: Inventory) -> None:
        super().__init__()
        self._hostvars = inventory.hostvars

    def raw_get(self, name: str) -> dict[str, Any]:
        raw = self._hostvars.raw_get(name)
        return {key: value for key, value in raw.items() if key != "ansible_host"}


def test_an_inventory_that_cannot_be_parsed_is_no_success(tmp_path: Path) -> None:
    (tmp_path / "hosts.yml").write_text("entropy:\n\tchildren:\n")
    done = refused(
        *("-i", tmp_path / "hosts.yml"),
        CHECKOUT / "playbooks/preflight.yml",
    )
    assert "hosts.yml" in done.stderr


def test_what_is_wrong_with_external_clients_is_said(tmp_path: Path) -> None:
    """Not that two things of Ansible's own cannot be added."""
    text = (INVENTORIES / "three.yml").read_text()
    path = tmp_path / "hosts.yml"
    path.write_text(text)
    done = refused(
        *("-i", path, "--limit", "vm001"),
        *("-e", '{"entropy_external_clients": {"file": "/nonexistent/customers.yml"}}'),
        CHECKOUT / "playbooks/preflight.yml",
    )
    assert "/nonexistent/customers.yml: No such file or directory" in done.stdout + done.stderr
    assert "Marker" not in done.stdout + done.stderr


def test_a_template_over_the_own_name_is_seen_in_a_real_inventory(tmp_path: Path) -> None:
    text = (INVENTORIES / "three.yml").read_text()
    text = text.replace("{ansible_host: 10.0.0.12}", '{ansible_host: "{{ inventory_hostname }}"}')
    path = tmp_path / "hosts.yml"
    path.write_text(text)
    said = Inventory(str(path)).value("entropy_preflight", "__entropy_preflight_problems", "vm001")
    assert any("made from inventory_hostname" in sentence for sentence in said)


def test_a_bad_inventory_is_refused_with_all_its_faults_before_any_host_is_touched() -> None:
    done = refused(
        *("-i", INVENTORIES / "bad.yml"),
        CHECKOUT / "site.yml",
    )
    for sentence in (
        "There is one broker (broker1)",
        "vm1 and vm2 have the same id",
        "'10.0.0.256', which is not the address of a machine",
        "entropy_state_dir is 'state'",
        "would starve if rng1's hwrng",
    ):
        assert sentence in done.stdout + done.stderr
    # Nothing after the first play.
    assert done.stdout.count("PLAY [") == 1
    assert "Traceback" not in done.stdout + done.stderr
