"""What the fleet is for: bytes that pass, and go on passing when a broker dies."""

from __future__ import annotations

import pytest

from tests.fleet.conftest import BROKERS, CLIENT, VMS, Fleet, wait_until

pytestmark = pytest.mark.fleet

# rngtest takes 4 bytes to start with, then 2500 for a test.
RNGTEST_BYTES = 2504


def draw(fleet: Fleet, host: str, config: str, n_bytes: int) -> str:
    """The bytes in hexadecimal, or an empty text where there were none."""
    command = f"entropy draw --config {config} --bytes {n_bytes} | od -An -v -tx1"
    return "".join(fleet.ssh(host, command, check=False).stdout.split())


@pytest.mark.parametrize("vm", ["vm1", "vm2"])
def test_what_a_vm_draws_passes_the_fips_tests(fleet: Fleet, vm: str) -> None:
    command = f"entropy draw --config {CLIENT} --bytes {RNGTEST_BYTES} | rngtest --blockcount=1"
    # A rate limit holds a VM back that has drawn as much a moment ago.
    wait_until(
        lambda: "FIPS 140-2 successes: 1" in fleet.ssh(vm, command, check=False).stderr,
        f"rngtest accepts what {vm} draws",
        120,
    )


def test_two_vms_never_draw_the_same(fleet: Fleet) -> None:
    drawn = [draw(fleet, vm, CLIENT, 64) for vm in ("vm3", "vm4", "vm3", "vm4")]
    assert {len(text) for text in drawn} == {128}
    assert len(set(drawn)) == 4


def test_a_client_in_a_container_credits_nothing(fleet: Fleet) -> None:
    for host in (*VMS, *BROKERS):
        state = fleet.ssh(host, "cat /var/lib/entropy-client/state.json").stdout
        assert '"credited_to_kernel_bits": 0' in state
    config = fleet.ssh("broker1", f"cat {CLIENT}").stdout
    assert "credit = false" in config


def test_each_broker_is_fed_by_its_own_feeder(fleet: Fleet) -> None:
    for broker, feeder in zip(BROKERS, ("rng1", "rng2"), strict=True):
        connected = [of["id"] for of in fleet.status(broker)["feeders"] if of["connected"]]
        assert connected == [feeder]


def test_the_balance_of_each_broker_is_true(fleet: Fleet) -> None:
    for broker in BROKERS:
        of = fleet.status(broker)["accounting"]
        born = of["fed_bits"] + of["imported_bits"]
        gone = of["delivered_bits"] + of["exported_bits"] + of["spent_bits"] + of["lost_bits"]
        assert born == of["held_bits"] + gone
        assert of["delivered_bits"] > 0


def test_drawing_through_the_virtual_address_goes_on_without_a_broker(fleet: Fleet) -> None:
    config = fleet.client_at("vm3", f"{fleet.vip}:25226")
    assert draw(fleet, "vm3", config, 16)
    wait_until(fleet.vip_holder, "one broker holds the virtual address")
    holder = str(fleet.vip_holder())
    other = next(broker for broker in BROKERS if broker != holder)
    fleet.podman("stop", "--time", "0", fleet.container(holder))
    try:
        wait_until(lambda: draw(fleet, "vm3", config, 16), "vm3 draws through the VIP", 20)
        assert fleet.ssh(other, f"ip -o address show to {fleet.vip}").stdout
    finally:
        fleet.podman("start", fleet.container(holder))
    wait_until(lambda: fleet.runs(holder, "entropy-broker"), f"{holder} is back")
    # It comes back with nothing and takes the address from nobody.
    run = fleet.play(playbook="playbooks/verify.yml")
    assert run.status == 0, run.output
    assert fleet.vip_holder() == other


def test_a_broker_whose_haproxy_dies_gives_the_address_away(fleet: Fleet) -> None:
    wait_until(fleet.vip_holder, "one broker holds the virtual address")
    holder = str(fleet.vip_holder())
    fleet.ssh(holder, "systemctl stop haproxy")
    try:
        wait_until(lambda: fleet.vip_holder() not in (None, holder), "the address moves", 20)
    finally:
        fleet.ssh(holder, "systemctl start haproxy")
