"""The files that the roles write, for inventories that are not like the lab's."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from entropy import config
from tests.roles.rendering import CHECKOUT, PLAYBOOKS, Inventory, defaults, options

INVENTORY_NAMES = ("ipv6", "single", "three", "dual", "example")


@pytest.fixture(scope="module", params=INVENTORY_NAMES)
def inventory(request: pytest.FixtureRequest) -> Inventory:
    return inventory_of(request.param)


def inventory_of(name: str) -> Inventory:
    return Inventory(str(CHECKOUT / "inventories/example") if name == "example" else name)


def hosts(inventory: Inventory, group: str) -> list[str]:
    return [host.name for host in inventory.hosts.get_hosts(group)]


def written(folder: Path, text: str) -> str:
    path = folder / "rendered.toml"
    path.write_text(text)
    return str(path)


def test_every_brokers_file_is_one_that_the_broker_takes(
    inventory: Inventory, tmp_path: Path
) -> None:
    brokers = hosts(inventory, "entropy_brokers")
    for host in brokers:
        text = inventory.render("entropy_broker", "broker.toml.j2", host)
        read = config.load_broker(written(tmp_path, text))
        assert read.id == host
        assert {peer.id for peer in read.peers} == set(brokers) - {host}
        has_second = bool(inventory.hostvars[host].get("entropy_address_ipv6"))
        assert len(read.listen) == 1 + has_second
        # Nothing that an older release would not know, but for what is used.
        assert ("stir" in text) == any(peer.stir_interval_seconds for peer in read.peers)


def test_every_feeders_file_is_one_that_the_feeder_takes(
    inventory: Inventory, tmp_path: Path
) -> None:
    for host in hosts(inventory, "entropy_feeders"):
        for source in inventory.value("entropy_feeder", "entropy_feeder_sources", host):
            text = inventory.render("entropy_feeder", "feeder.toml.j2", host, item=source)
            read = config.load_feeder(written(tmp_path, text))
            assert read.source.uri == source["uri"]
            assert read.source.reason == source.get("reason")
            assert len(read.brokers) == len(hosts(inventory, "entropy_brokers"))
            assert read.clone.generation_file == ""
            assert "clone" not in text  # nothing that an older release would not know


def test_every_clients_file_is_one_that_the_client_takes(
    inventory: Inventory, tmp_path: Path
) -> None:
    brokers = hosts(inventory, "entropy_brokers")
    for host in [*hosts(inventory, "entropy_clients"), *brokers]:
        text = inventory.render("entropy_client", "client.toml.j2", host)
        read = config.load_client(written(tmp_path, text))
        # A broker's machine draws from its own broker alone, and credits nothing.
        assert read.credit == (host not in brokers)
        assert not read.allow_shared_kernel
        if host in brokers:
            assert len(read.brokers) == 1
        else:
            vips = inventory.value("entropy_client", "fleet_vips", "broker1")
            n_addresses = 2 if "entropy_address_ipv6" in inventory.hostvars["broker1"] else 1
            assert len(read.brokers) == len(brokers) * n_addresses + len(vips)


def test_a_client_asks_at_the_virtual_address_first(tmp_path: Path) -> None:
    text = Inventory("ipv6").render("entropy_client", "client.toml.j2", "VM-7")
    assert config.load_client(written(tmp_path, text)).brokers == (
        "[fd00::10]:25226",
        "[fd00::11]:25226",
        "[fd00::12]:25226",
    )


def test_beside_ipv4_everything_answers_at_ipv6(tmp_path: Path) -> None:
    inventory = Inventory("dual")
    text = inventory.render("entropy_client", "client.toml.j2", "vm001")
    assert config.load_client(written(tmp_path, text)).brokers == (
        "10.0.0.10:25226",
        "[fd00::10]:25226",
        "10.0.0.11:25226",
        "[fd00::11]:25226",
        "10.0.0.12:25226",
        "[fd00::12]:25226",
    )
    text = inventory.render("entropy_broker", "broker.toml.j2", "broker1")
    read = config.load_broker(written(tmp_path, text))
    assert read.listen == ("10.0.0.11:25226", "[fd00::11]:25226")
    assert read.proxy.listen == ("10.0.0.11:25227",)
    text = inventory.render("entropy_haproxy", "haproxy.cfg.j2", "broker1")
    assert re.findall(r"bind (.*:25226)", text) == ["10.0.0.10:25226", "[fd00::10]:25226"]
    # VRRP speaks one version, and the other address goes along.
    text = inventory.render("entropy_keepalived", "keepalived.conf.j2", "broker1")
    assert re.search(r"virtual_ipaddress \{\n        10.0.0.10\n    \}", text)
    assert re.search(r"virtual_ipaddress_excluded \{\n        fd00::10\n    \}", text)


def test_a_feeder_pushes_to_its_own_broker_first(tmp_path: Path) -> None:
    def first(inventory: Inventory, host: str) -> str:
        sources = inventory.value("entropy_feeder", "entropy_feeder_sources", host)
        text = inventory.render("entropy_feeder", "feeder.toml.j2", host, item=sources[0])
        return config.load_feeder(written(tmp_path, text)).brokers[0]

    stated, in_turns = Inventory("ipv6"), Inventory("three")
    assert first(stated, "rng1") == "[fd00::12]:25226"
    assert [first(in_turns, f"rng{i}")[:9] for i in (1, 2, 3, 4)] == [
        "10.0.0.11",
        "10.0.0.12",
        "10.0.0.13",
        "10.0.0.11",
    ]


def test_a_sign_of_clones_for_a_drill_with_feeders(tmp_path: Path) -> None:
    inventory = Inventory("ipv6")
    source = inventory.value("entropy_feeder", "entropy_feeder_sources", "rng1")[0]
    file = {"entropy_feeder_clone_generation_file": "/run/generation"}
    text = inventory.render("entropy_feeder", "feeder.toml.j2", "rng1", item=source, **file)
    read = config.load_feeder(written(tmp_path, text))
    assert read.clone.generation_file == "/run/generation"


def test_words_of_the_operator_survive_quoting(tmp_path: Path) -> None:
    inventory = Inventory("ipv6")
    source = inventory.value("entropy_feeder", "entropy_feeder_sources", "rng1")[0]
    text = inventory.render("entropy_feeder", "feeder.toml.j2", "rng1", item=source)
    read = config.load_feeder(written(tmp_path, text))
    assert read.source.reason == 'Measured "twice", 2026-01; see C:\\notes é, page 7'


def test_the_proxy_port_is_for_the_balancers_alone(tmp_path: Path) -> None:
    def broker(name: str) -> config.BrokerConfig:
        text = Inventory(name).render("entropy_broker", "broker.toml.j2", "broker1")
        return config.load_broker(written(tmp_path, text))

    assert broker("single").proxy == config.ProxyConfig()
    assert broker("single").agent == config.AgentConfig()
    balancers = ("10.0.0.11", "10.0.0.12", "10.0.0.13")
    assert broker("three").proxy == config.ProxyConfig(("10.0.0.11:25227",), balancers)
    assert broker("three").agent == config.AgentConfig(("10.0.0.11:25228",), balancers)


def test_what_is_off_by_default_can_be_turned_on(tmp_path: Path) -> None:
    more = {
        "entropy_broker_seeds_port": 25225,
        "entropy_broker_clone_generation_file": "/run/generation",
    }
    text = Inventory("dual").render("entropy_broker", "broker.toml.j2", "broker1", **more)
    read = config.load_broker(written(tmp_path, text))
    assert read.seeds.listen == ("10.0.0.11:25225", "[fd00::11]:25225")
    assert read.clone.generation_file == "/run/generation"


def test_the_classic_way_is_one_setting(tmp_path: Path) -> None:
    for name, stir_seconds in (("three", 30), ("dual", 0)):
        text = Inventory(name).render("entropy_broker", "broker.toml.j2", "broker1")
        read = config.load_broker(written(tmp_path, text))
        assert {peer.stir_interval_seconds for peer in read.peers} == {stir_seconds}


def test_haproxy_passes_tls_through_to_every_broker() -> None:
    text = Inventory("ipv6").render("entropy_haproxy", "haproxy.cfg.j2", "broker2")
    assert "bind [fd00::10]:25226\n" in text
    assert "source [fd00::12]\n" in text
    servers = re.findall(r"^    server (\S+) (\S+) (.*)", text, re.MULTILINE)
    # Once by weight, and once for when every broker says that it is dry.
    assert [server[:2] for server in servers] == 2 * [
        ("broker1", "[fd00::11]:25227"),
        ("broker2", "[fd00::12]:25227"),
    ]
    assert all("send-proxy-v2" in server[2] for server in servers)
    # haproxy takes the agent's percentages of this weight, and cuts what is behind the point.
    assert text.count("default-server weight 100 agent-check") == 1
    assert " ssl" not in text
    # A reload takes the listeners over, and an operator can ask.
    assert re.search(r"stats socket \S+ mode 660 level admin expose-fd listeners\n", text)


def test_keepalived_never_preempts() -> None:
    inventory = Inventory("ipv6")
    texts = [
        inventory.render("entropy_keepalived", "keepalived.conf.j2", host)
        for host in ("broker1", "broker2")
    ]
    for text in texts:
        assert "state BACKUP\n" in text
        assert "nopreempt\n" in text
        assert "weight" not in text.replace("Without a weight", "")
    assert [re.findall(r"priority (\d+)", text) for text in texts] == [["150"], ["149"]]


def test_a_keepalived_that_dies_leaves_no_address_behind() -> None:
    given = {"__entropy_keepalived_interface": "eth0"}
    text = Inventory("dual").render("entropy_keepalived", "service.conf.j2", "broker1", **given)
    assert re.findall(r"ExecStopPost=-ip address delete (.*)", text) == [
        "10.0.0.10/32 dev eth0",
        "fd00::10/128 dev eth0",
    ]
    assert "Restart=always\n" in text


def test_two_hosts_with_one_role_each_and_both_have_different_ids() -> None:
    def ids(inventory: Inventory, host: str) -> Any:
        own = inventory.value("entropy_credentials", "entropy_credentials_own", host)
        return [(of["role"], of["id"], of["permissions"]) for of in own]

    assert ids(Inventory("ipv6"), "broker2") == [
        ("broker", "broker2", ["peer"]),
        ("feeder", "broker2.feeder", ["feed"]),
        ("client", "broker2.client", ["draw"]),
    ]
    assert ids(Inventory("ipv6"), "rng1") == [("feeder", "rng1", ["feed"])]
    assert ids(Inventory("ipv6"), "VM-7") == [("client", "vm-7", ["draw"])]


def test_a_vm_may_only_draw(inventory: Inventory) -> None:
    fleet = inventory.value("entropy_credentials", "entropy_credentials_fleet", "broker1")
    assert all(of["permissions"] == ["draw"] for of in fleet if of["role"] == "client")
    assert len({of["id"] for of in fleet}) == len(fleet)


def test_a_host_gets_the_packages_of_its_roles(inventory: Inventory) -> None:
    names = inventory.value("entropy_package", "entropy_package_names", "broker1")
    assert {"python3-entropy", "entropy-broker", "entropy-client"} <= set(names)
    vm = next(
        host
        for host in hosts(inventory, "entropy_clients")
        if host not in hosts(inventory, "entropy_brokers")
    )
    names = inventory.value("entropy_package", "entropy_package_names", vm)
    assert names == ["python3-entropy", "entropy-client"]


def test_every_inventory_passes_preflight(inventory: Inventory) -> None:
    assert inventory.value("entropy_preflight", "__entropy_preflight_problems", "broker1") == []


@pytest.mark.parametrize("role", sorted(PLAYBOOKS))
def test_defaults_and_argument_specification_agree(role: str) -> None:
    assert defaults(role) == options(role)


def test_no_role_looks_at_another_host() -> None:
    forbidden = re.compile(r"\bgroups[\[.]|\bhostvars\b|\bansible_play_hosts")
    files = [path for path in (CHECKOUT / "roles").rglob("*") if path.suffix in (".yml", ".j2")]
    assert [path for path in files if forbidden.search(path.read_text())] == []
