"""The first boot of a machine that has no generator of its own, in Debian's stock kernel.

The tests tell one story, in the order in which they stand here. Figures that docs/first-boot.md
names are printed: run pytest with -s to see them.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from entropy.seed_places import SEED_FILE
from lab.guest import pieces
from tests.guest.first_boot import EARLY, FIRST, HOST, KEYS, RANDOM_SEED, Outside, Vm

pytestmark = pytest.mark.guest

IDLE_SECONDS = 45
LIMIT_SECONDS = 10  # how long a boot may wait for a broker, unless it is told otherwise
END_SECONDS = 10  # that starting Python may take longer than the limit leaves it, emulated and busy
WATCH_SECONDS = 2  # that the watch may be late on a busy machine


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outside]:
    with Outside(tmp_path_factory.mktemp("outside")) as made:
        yield made


@pytest.fixture(scope="module")
def vm(outside: Outside, tmp_path_factory: pytest.TempPathFactory) -> Vm:
    folder = pieces.FOLDER / "debs"
    packages = Path(__file__).resolve().parents[2] / "packaging" / "build"
    subprocess.run([packages, folder], check=True)
    made = pieces.ensure(sorted(folder.glob("*.deb")))
    return Vm(tmp_path_factory.mktemp("vm"), outside, made)


@pytest.fixture(scope="module")
def seed(outside: Outside, vm: Vm) -> str:
    before = outside.delivered_bits()
    text = outside.issue(vm.instance)
    assert outside.delivered_bits() - before == 448, "it was not debited at the broker"
    return text


def test_an_injected_seed_makes_it_ready_and_nothing_before(vm: Vm, seed: str) -> None:
    overlay = vm.overlay()
    with vm.boot("boot-injected", overlay, oem_seed=seed) as boot:
        boot.await_end_of_boot()
        said = boot.said(EARLY)
        # These words also say that the kernel reseeded itself from it at once.
        credited = "448 bits credited to the kernel; the generator was not ready, and is now"
        assert f"injected seed (SMBIOS): {credited}" in said

        ready = boot.ready_seconds()
        assert ready is not None
        started, ended = boot.ran(EARLY)
        assert started < ready < ended + WATCH_SECONDS
        assert boot.ran(RANDOM_SEED)[0] > ended, "what wakes the kernel came before us"
        assert boot.ran(KEYS)[0] > ready
        print(
            f"\ninjected: ready at {ready:.2f} s, {ready - boot.when('start'):.2f} s after the"
            f" first program; our unit ran from {started:.2f} to {ended:.2f} s; host keys from"
            f" {boot.ran(KEYS)[0]:.2f} s"
        )


def test_without_us_it_idles_and_is_not_ready(vm: Vm, seed: str) -> None:
    """The same machine, the unit off, and off also what would make the kernel wait for itself."""
    overlay = vm.overlay()
    for unit in (EARLY, RANDOM_SEED, KEYS, "ssh.service"):
        overlay.mask(unit)
    with vm.boot("boot-idle", overlay, oem_seed=seed) as boot:
        began = boot.noted()[-1][0]

        def idled() -> bool:
            seconds, what = boot.noted()[-1]
            assert what == "waiting", f"it became ready at {seconds} s"
            return seconds - began >= IDLE_SECONDS

        boot.machine.until("it has idled", idled, timeout_seconds=4 * IDLE_SECONDS)
        print(f"\nidle: not ready after {boot.noted()[-1][0]:.0f} s, {IDLE_SECONDS} s of them idle")

        # The seed was used in the boot before: what firmware gives again is worth nothing.
        boot.machine.run(["systemctl", "unmask", EARLY])
        boot.machine.run(["systemctl", "start", EARLY])
        assert "mixed in without credit: it was used before" in boot.said(EARLY)
        assert boot.ready_seconds() is None

        # What wakes a kernel that has the jitter dance: whoever waits for it.
        boot.machine.run(["systemctl", "unmask", RANDOM_SEED])
        boot.machine.run(["systemctl", "start", RANDOM_SEED])
        ready = boot.machine.until("it is ready", boot.ready_seconds)
        started, _ = boot.ran(RANDOM_SEED)
        assert ready > started
        print(f"idle: ready by itself {ready - started:.2f} s after {RANDOM_SEED} began to wait")


def test_a_seed_from_the_network_comes_before_host_keys(vm: Vm, outside: Outside) -> None:
    overlay = vm.overlay()
    overlay.mask(RANDOM_SEED)  # or the kernel would be ready, from its own jitter, before
    broker = outside.endpoint.replace("127.0.0.1", HOST)
    seeds = outside.seeds_endpoint.replace("127.0.0.1", HOST)
    vm.configure(overlay, brokers=[broker], seeds=[seeds])
    before = outside.delivered_bits()
    with vm.boot("boot-network", overlay, network=True) as boot:
        boot.await_unit("ssh.service")
        said = boot.said(FIRST)
        credited = "448 bits credited to the kernel; the generator was not ready before"
        assert f"first seed from broker1: {credited}" in said
        assert outside.delivered_bits() - before == 448

        ready = boot.ready_seconds()
        assert ready is not None
        started, ended = boot.ran(FIRST)
        assert started < ready < ended + WATCH_SECONDS
        assert boot.ran(KEYS)[0] >= ended, "host keys were made before the unit had ended"
        boot.machine.read("/etc/ssh/ssh_host_ed25519_key.pub")
        network = boot.when("network")
        print(
            f"\nnetwork: up at {network:.2f} s, ready at {ready:.2f} s:"
            f" {ready - network:.2f} s later; our unit ran from {started:.2f} to {ended:.2f} s"
        )


def test_with_every_broker_down_the_boot_completes(vm: Vm, outside: Outside) -> None:
    overlay = vm.overlay()
    closed, silent = f"{HOST}:1", "10.0.2.99:25226"  # one refuses, one does not answer
    vm.configure(overlay, brokers=[closed, silent], seeds=[closed, silent])
    seed = outside.issue(vm.instance)
    with vm.boot("boot-down", overlay, fw_cfg_seed=seed, network=True) as boot:
        boot.await_end_of_boot()
        assert "injected seed (fw_cfg): 448 bits credited" in boot.said(EARLY)
        assert f"no seed within {LIMIT_SECONDS} s: going on without one" in boot.said(FIRST)
        started, ended = boot.ran(FIRST)
        assert ended - started <= LIMIT_SECONDS + END_SECONDS
        assert boot.ran(KEYS)[0] >= ended
        assert boot.show("ssh.service", "ActiveState") == "active"
        boot.machine.read("/etc/ssh/ssh_host_ed25519_key.pub")
        print(f"\ndown: the boot waited {ended - started:.2f} s, with a limit of {LIMIT_SECONDS} s")

        # The third way in, while a machine is there.
        boot.machine.write(SEED_FILE, outside.issue(vm.instance), mode=0o600)
        boot.machine.run(["systemctl", "restart", EARLY])
        assert f"injected seed ({SEED_FILE}): 448 bits credited" in boot.said(EARLY)
        assert boot.machine.run(["test", "-e", SEED_FILE], check=False).status == 1
