"""The containers of the fleet: making, starting, looking at and removing them."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

from lab import keys
from lab.command import LabError
from lab.names import FEEDERS, LABEL, OCTETS, PREFIX, container
from lab.network import Network
from lab.podman import podman

HWRNG = "/dev/hwrng"

# What a booting systemd needs, and Debian's sandboxed units in it. SYS_ADMIN is for the mount
# namespaces of those units. --privileged would do too and hand over every device of the host.
OPTIONS = (
    *("--systemd", "always"),
    *("--cap-add", "NET_ADMIN,NET_RAW,SYS_ADMIN"),
    *("--security-opt", "unmask=/proc/sys"),
    *("--security-opt", "apparmor=unconfined"),
    *("--security-opt", "label=disable"),
)

# Run in a container once it is there: puts our ssh key in, waits until all of its units have
# started, and answers with its host key. Its status is not asked: a failed unit is for the
# tests to find.
_FIRST_WORDS = """
set -eu
umask 077
cat >/home/lab/.ssh/authorized_keys
chown lab:lab /home/lab/.ssh/authorized_keys
systemctl is-system-running --wait >/dev/null 2>&1 || true
cat /etc/ssh/ssh_host_ed25519_key.pub
"""

# Prints what makes noise for a feeder here, as the feeder would find it.
_PROBE = """
import os, socket
try:
    with open("/dev/hwrng", "rb", buffering=0) as device:
        if len(device.read(16)) > 0:
            print("hwrng")
            raise SystemExit
except OSError:
    pass
try:
    with socket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET, 0) as algorithm:
        algorithm.bind(("rng", "jitterentropy_rng"))
        reader, _ = algorithm.accept()
        with reader:
            if len(reader.recv(16)) > 0:
                print("jitter")
                raise SystemExit
except OSError:
    pass
print("kernel")
"""


def present() -> dict[str, str]:
    """Hosts of the fleet that have a container, each with the container's state."""
    listed = podman("ps", "--all", "--filter", f"label={LABEL}", "--format", "json").stdout
    names = {container(host): host for host in OCTETS}
    return {
        names[entry["Names"][0]]: entry["State"]
        for entry in json.loads(listed or "[]")
        if entry["Names"][0] in names
    }


def probe_source(image_name: str, *, has_device: bool) -> str:
    """Which noise a container here can read: `hwrng`, `jitter` or `kernel`."""
    device = ["--device", HWRNG] if has_device else []
    found = podman(
        *("run", "--rm", "--network", "none", "--label", LABEL, *device, image_name),
        *("timeout", "10", "python3", "-c", _PROBE),
        check=False,
        timeout_seconds=60,
    )
    source = found.stdout.strip()
    if found.returncode == 0 and source:
        return source
    if has_device:  # a device that does not even answer is no device
        return probe_source(image_name, has_device=False)
    raise LabError(f"cannot run a container:\n{found.stderr.strip()}")


def start(image_name: str, network: Network, source: str) -> int:
    """Make and start what is not running; returns the number of containers touched."""
    states = present()
    absent = [host for host in OCTETS if host not in states]
    stopped = [host for host, state in states.items() if state not in ("running", "paused")]
    if any(state == "paused" for state in states.values()):
        podman("unpause", *(container(h) for h, s in states.items() if s == "paused"))

    def make(host: str) -> None:
        device = ["--device", HWRNG] if source == "hwrng" and host in FEEDERS else []
        podman(
            *("run", "--detach", "--name", container(host), "--hostname", host),
            *("--label", LABEL, "--network", PREFIX, "--ip", network.address(OCTETS[host])),
            *OPTIONS,
            *device,
            *(image_name, "/sbin/init"),
        )

    with ThreadPoolExecutor(max_workers=4) as pool:
        list(pool.map(make, absent))
    if stopped:
        podman("start", *(container(host) for host in stopped))
    return len(absent) + len(stopped)


def greet() -> dict[str, str]:
    """Let our ssh key into every container; returns their public host keys by host.

    Waits until each has booted.
    """
    key = keys.public_key()

    def one(host: str) -> str:
        said = podman(
            *("exec", "--interactive", container(host), "sh", "-c", _FIRST_WORDS),
            stdin=key,
            timeout_seconds=90,
        )
        return " ".join(said.stdout.split()[:2])

    with ThreadPoolExecutor(max_workers=4) as pool:
        return dict(zip(OCTETS, pool.map(one, OCTETS)))


def remove() -> int:
    """Remove every container of this checkout's lab; returns how many there were."""
    n_removed = 0
    # Once more if any was found: an `up` that was killed may have left a podman at work.
    while listed := podman(
        *("ps", "--all", "--quiet", "--filter", f"label={LABEL}")
    ).stdout.split():
        podman("rm", "--force", "--ignore", "--time", "0", *listed)
        n_removed += len(listed)
    return n_removed
