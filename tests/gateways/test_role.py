"""The role entropy_gateway: the files that it writes, its credential, and what brokers allow it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from entropy.gateways.config import load_gateway
from plugins.filter import entropy_fleet
from tests.roles.rendering import CHECKOUT, Inventory

HOST = "kvm1.example.net"


@pytest.fixture(scope="module")
def example() -> Inventory:
    return Inventory(str(CHECKOUT / "inventories/example"))


def test_its_file_is_one_that_the_gateway_takes(example: Inventory, tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text(example.render("entropy_gateway", "gateway.toml.j2", HOST))
    read = load_gateway(str(path))
    assert read.brokers == ("192.0.2.10:25226", "192.0.2.11:25226", "192.0.2.12:25226")
    assert read.egd.listen == ("unix:/run/entropy-gateway/egd/socket",)
    assert read.egd.rate_bytes_per_second == 128
    assert read.admin.listen == ""


def test_the_sockets_belong_to_the_group_of_the_machines(example: Inventory) -> None:
    lines = example.render("entropy_gateway", "group.conf.j2", HOST).splitlines()
    assert lines[-2:] == ["Group=libvirt-qemu", "SupplementaryGroups=entropy-gateway"]


def test_it_has_a_credential_of_its_own_and_may_draw_what_it_hands_out(example: Inventory) -> None:
    own = example.value("entropy_credentials", "entropy_credentials_own", HOST)
    assert own == [
        {
            "host": HOST,
            "role": "gateway",
            "id": f"{HOST}.gateway",
            "permissions": ["draw"],
            "path": "/etc/entropy/gateway/credential.json",
            "group": "entropy-gateway",
            "rate_bytes_per_second": 299,  # 256 x 64 / 56, and 2 % more
        }
    ]
    names = example.value("entropy_package", "entropy_package_names", HOST)
    assert names == ["python3-entropy", "entropy-gateway"]


def _of(host: str, groups: dict[str, list[str]], **variables: Any) -> list[dict[str, Any]]:
    return entropy_fleet.credentials([host], groups, {host: variables})


def test_a_client_that_becomes_a_gateway_keeps_its_name_and_so_does_the_gateway() -> None:
    alone = _of("a", {"entropy_gateways": ["a"]})
    both = _of("a", {"entropy_gateways": ["a"], "entropy_clients": ["a"]})
    assert [of["id"] for of in alone] == ["a.gateway"]
    assert [(of["id"], of["role"]) for of in both] == [("a", "client"), ("a.gateway", "gateway")]
    assert "rate_bytes_per_second" not in both[0]


def test_the_rate_of_the_host_counts() -> None:
    (own,) = _of("a", {"entropy_gateways": ["a"]}, entropy_gateway_total_rate_bytes_per_second=7000)
    assert 8000 <= own["rate_bytes_per_second"] <= 8200


def test_the_filter_knows_the_default_of_the_role() -> None:
    text = (CHECKOUT / "roles/entropy_gateway/defaults/main.yml").read_text()
    rate = yaml.safe_load(text)["entropy_gateway_total_rate_bytes_per_second"]
    assert rate == entropy_fleet.GATEWAY_RATE_BYTES_PER_SECOND
