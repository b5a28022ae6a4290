"""What the machine was like before its first lab, and making it so again after the last one.

Podman switches forwarding on and sets up firewall chains that it never takes away; a systemd
that boots in a container raises limits that are the whole machine's. The values from before are
kept in /run, where a reboot, which undoes it all anyway, forgets them too. Labs of several
checkouts share the record: the last one to go restores.
"""

from __future__ import annotations

import json
from pathlib import Path

from lab import firewall, mounts, strays
from lab.command import as_root, run
from lab.names import RUN
from lab.podman import podman
from lab.progress import say

BEFORE = RUN / "before.json"
PROC_SYS = Path("/proc/sys")

# What podman, or systemd in a container, is known to change. Forwarding comes first: when it
# changes, the kernel sets others after it.
SYSCTLS = (
    "net/ipv4/ip_forward",
    "net/ipv4/conf/all/accept_redirects",
    "net/ipv4/conf/default/accept_redirects",
    "fs/file-max",
    "fs/nr_open",
    "fs/inotify/max_user_instances",
    "kernel/pid_max",
)

# Mounts that podman leaves where it needs no mount namespace of its own.
MOUNTS = ("/run/netns", "/var/lib/containers/storage/overlay")

# Each systemd takes about six; the usual 128 stop at some twenty containers.
WANTED_INOTIFY_INSTANCES = 1024


def record() -> None:
    """Note what the machine is like, unless a lab that is up has done so."""
    strays.sign()
    if not BEFORE.exists():
        before = {
            "sysctls": {name: read_sysctl(name) for name in SYSCTLS},
            "mounts": [path for path in MOUNTS if mounts.is_mounted(Path(path))],
            "firewall": firewall.look(),
        }
        run(as_root(["tee", str(BEFORE)]), stdin=json.dumps(before))


def raise_limits() -> None:
    instances = "fs/inotify/max_user_instances"
    if int(read_sysctl(instances)) < WANTED_INOTIFY_INSTANCES:
        say(f"raising {instances} to {WANTED_INOTIFY_INSTANCES} while the lab is up")
        write_sysctl(instances, str(WANTED_INOTIFY_INSTANCES))


def is_shared() -> bool:
    """Whether anything but this checkout's lab still runs in podman on this machine."""
    others = strays.sweep()
    return bool(others) or bool(podman("ps", "--quiet").stdout.split())


def restore() -> None:
    """Put back what is recorded and forget it; to be called when the lab's own is gone."""
    if not BEFORE.exists():
        return
    before = json.loads(BEFORE.read_text())
    firewall.clean(before["firewall"])
    for name, value in before["sysctls"].items():
        if read_sysctl(name) == value:
            continue
        if name == "net/ipv4/ip_forward" and value == "0" and _bridges():
            say("forwarding stays on: there are bridges that are not the lab's")
            continue
        write_sysctl(name, value)
    for path in MOUNTS:
        if mounts.is_mounted(Path(path)) and path not in before["mounts"]:
            run(as_root(["umount", path]))
    run(as_root(["rm", "-rf", "--one-file-system", str(RUN)]))


def read_sysctl(name: str) -> str:
    return (PROC_SYS / name).read_text().strip()


def write_sysctl(name: str, value: str) -> None:
    run(as_root(["sysctl", "-q", "-w", f"{name.replace('/', '.')}={value}"]))


def _bridges() -> list[str]:
    shown = run(["ip", "-json", "link", "show", "type", "bridge"]).stdout.strip()
    return [link["ifname"] for link in json.loads(shown or "[]") if "ifname" in link]
