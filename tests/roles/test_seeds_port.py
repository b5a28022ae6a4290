"""One variable opens the brokers' ports for seeds, and every client is told of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from entropy import config
from tests.roles.rendering import Inventory

PORT = 25240


@pytest.mark.parametrize("name", ["three", "dual", "ipv6"])
def test_brokers_and_clients_agree_on_the_port_for_seeds(name: str, tmp_path: Path) -> None:
    inventory = Inventory(name)
    brokers = [host.name for host in inventory.hosts.get_hosts("entropy_brokers")]
    vm = inventory.hosts.get_hosts("entropy_clients:!entropy_brokers")[0].name
    assert client(inventory, tmp_path, vm).seeds == ()

    group = inventory.hosts.groups["entropy_brokers"]
    group.set_variable("entropy_broker_seeds_port", PORT)
    listening: set[str] = set()
    for broker in brokers:
        path = tmp_path / "broker.toml"
        path.write_text(inventory.render("entropy_broker", "broker.toml.j2", broker))
        listening |= set(config.load_broker(str(path)).seeds.listen)
        assert client(inventory, tmp_path, broker).seeds == (), "its kernel is its own affair"
    assert listening
    assert set(client(inventory, tmp_path, vm).seeds) == listening
    assert all(endpoint.endswith(f":{PORT}") for endpoint in listening)


def client(inventory: Inventory, folder: Path, host: str) -> config.ClientConfig:
    path = folder / "client.toml"
    path.write_text(inventory.render("entropy_client", "client.toml.j2", host))
    return config.load_client(str(path))
