"""The client's role: what it writes for settings that are off by default, and its two ways."""

from __future__ import annotations

import configparser
from pathlib import Path
from typing import Any

import pytest

from entropy import config
from tests.roles.rendering import Inventory


@pytest.fixture(scope="module")
def inventory() -> Inventory:
    return Inventory("dual")


def client(inventory: Inventory, folder: Path, host: str, **settings: Any) -> config.ClientConfig:
    path = folder / "client.toml"
    path.write_text(inventory.render("entropy_client", "client.toml.j2", host, **settings))
    return config.load_client(str(path))


def one(inventory: Inventory, group: str) -> str:
    return str(inventory.hosts.get_hosts(group)[0].name)


def test_two_brokers_for_clients_but_not_for_a_brokers_own(
    inventory: Inventory, tmp_path: Path
) -> None:
    vm, broker = one(inventory, "entropy_clients"), one(inventory, "entropy_brokers")
    assert not client(inventory, tmp_path, vm).two_brokers
    assert client(inventory, tmp_path, vm, entropy_client_two_brokers=True).two_brokers
    assert not client(inventory, tmp_path, broker, entropy_client_two_brokers=True).two_brokers


def test_what_is_not_used_is_not_written(inventory: Inventory, tmp_path: Path) -> None:
    """So that a release that does not know it can be gone back to."""
    vm = one(inventory, "entropy_clients")
    text = inventory.render("entropy_client", "client.toml.j2", vm)
    assert "clone" not in text
    assert "two_brokers" not in text
    file = "/run/lab/generation"
    read = client(inventory, tmp_path, vm, entropy_client_clone_generation_file=file)
    assert read.clone.generation_file == file


@pytest.mark.parametrize(("mode", "runs"), [("resident", "service"), ("timer", "timer")])
def test_one_way_runs_and_the_other_does_not(inventory: Inventory, mode: str, runs: str) -> None:
    vm = one(inventory, "entropy_clients")
    units = "__entropy_client_units[{} == '{}']"
    chosen = units.format(f"'{mode}'", "timer")
    other = units.format(f"'{mode}'", "resident")
    assert inventory.value("entropy_client", chosen, vm) == f"entropy-client.{runs}"
    assert inventory.value("entropy_client", other, vm) != f"entropy-client.{runs}"


@pytest.mark.parametrize("seconds", [1, 600, 86_400])
def test_the_timers_interval(inventory: Inventory, seconds: int) -> None:
    """On average the interval that was set, give or take a tenth."""
    vm = one(inventory, "entropy_clients")
    text = inventory.render(
        "entropy_client", "interval.conf.j2", vm, entropy_client_interval_seconds=seconds
    )
    unit = configparser.RawConfigParser(strict=False)
    unit.read_string(text)
    least = int(unit["Timer"]["OnUnitInactiveSec"].removesuffix("s"))
    spread = int(unit["Timer"]["RandomizedDelaySec"].removesuffix("s"))
    assert least >= 1
    assert seconds <= 2 or least + spread / 2 == pytest.approx(seconds, rel=0.01)
