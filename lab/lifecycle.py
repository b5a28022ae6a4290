"""From nothing to a running fleet, and back."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

from lab import fleet, host, image, keys, machine, namespace, network, podman
from lab.names import OCTETS, PREFIX, STATE, VIP_OCTET, container
from lab.progress import say, step

STATE_FILE = STATE / "state.json"


def prepare() -> None:
    """Everything that podman needs: packages, limits, the mount namespace. Idempotent."""
    host.prepare()
    machine.record()
    machine.raise_limits()
    namespace.open_()
    podman.write_conf()


def up() -> None:
    """Make and start what is not there. On a complete fleet nothing changes."""
    start = time.monotonic()
    prepare()
    keys.ensure()
    old = load_state()
    image_name = image.ensure(image.FLEET)
    net = network.ensure()
    source = old.get("source")
    if not source:
        has_device = Path(fleet.HWRNG).is_char_device()
        source = fleet.probe_source(image_name, has_device=has_device)
    n_started = 0
    if list(fleet.present().values()).count("running") < len(OCTETS):
        with step(f"starting {len(OCTETS)} containers on {net.subnet}"):
            n_started = fleet.start(image_name, net, source)
    if old.get("image", image_name) != image_name:
        say("the fleet runs an older image; `make lab-down` and `make lab` renew it")
    addresses = network.addresses(net, OCTETS)
    state = {
        "prefix": PREFIX,
        "subnet": str(net.subnet),
        "bridge": net.bridge,
        "vip": net.address(VIP_OCTET),
        "source": source,
        "hwrng": _hwrng_name() if source == "hwrng" else None,
        "image": old.get("image", image_name),
        "hosts": {
            name: {"address": address, "container": container(name)}
            for name, address in addresses.items()
        },
    }
    if n_started or state != old or not keys.SSH_CONFIG.exists():
        with step("waiting for the containers to boot"):
            keys.write_ssh(addresses, fleet.greet())
        keys.write_private(STATE_FILE, json.dumps(state, indent=2) + "\n")
    say(f"{len(OCTETS)} hosts are up ({time.monotonic() - start:.1f} s); noise comes from {source}")


def down(*, images: bool) -> None:
    """Remove the fleet and every trace of it, also of one that is half made."""
    start = time.monotonic()
    n_containers = 0
    if shutil.which("podman", path="/usr/local/bin:/usr/bin:/bin"):
        machine.record()
        namespace.open_()
        podman.write_conf()
        n_containers = fleet.remove()
        network.remove()
        n_containers += fleet.remove()
        if images:
            image.remove_all()
        shared = machine.is_shared()
        namespace.close()
        if not shared:
            machine.restore()
    if STATE.exists():
        shutil.rmtree(STATE)
    say(f"down: {n_containers} containers removed ({time.monotonic() - start:.1f} s)")


def status() -> int:
    """Print what is there; returns 0 if the fleet is complete."""
    state = load_state()
    if not state:
        say("no fleet; `make lab` makes one")
        return 1
    if namespace.is_needed() and not namespace.is_open():
        say("the machine has been restarted; `make lab` starts the fleet again")
        return 1
    present = fleet.present()
    print(f"subnet {state['subnet']}, VIP {state['vip']}, noise from {state['source']}")
    for name, entry in state["hosts"].items():
        print(f"{name:10} {entry['address']:16} {present.get(name, 'absent')}")
    return 0 if all(present.get(name) == "running" for name in OCTETS) else 1


def load_state() -> dict[str, Any]:
    """What up wrote; empty when there is no fleet."""
    if not STATE_FILE.exists():
        return {}
    state: dict[str, Any] = json.loads(STATE_FILE.read_text())
    return state


def _hwrng_name() -> str | None:
    current = Path("/sys/class/misc/hw_random/rng_current")
    return current.read_text().strip() if current.exists() else None
