"""The mount namespace that podman needs on machines with the old control groups.

systemd in a container wants a version 2 control group tree at /sys/fs/cgroup. Where the machine
has the old or the mixed tree, podman runs in a mount namespace that shows the new tree, and that
namespace lasts as long as the fleet: a namespace per command would lose track of the mounts and
leave network links and firewall rules behind. Elsewhere there is nothing to do.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from lab import mounts
from lab.command import as_root, run
from lab.names import PREFIX, RUN

FOLDER = RUN / PREFIX
FILE = FOLDER / "mounts"

_NEW_TREE = "umount -R /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup"


def is_needed() -> bool:
    return not Path("/sys/fs/cgroup/cgroup.controllers").exists()


def is_open() -> bool:
    return mounts.is_mounted(FILE)


def open_() -> None:
    """Make the namespace, unless it is there or nobody needs it."""
    run(as_root(["mkdir", "-p", str(FOLDER)]))
    if not is_needed() or is_open():
        return
    if not mounts.is_mounted(FOLDER):
        # A namespace can only be kept by a file on a mount that is private.
        run(as_root(["mount", "--bind", str(FOLDER), str(FOLDER)]))
        run(as_root(["mount", "--make-private", str(FOLDER)]))
    run(as_root(["touch", str(FILE)]))
    script = ["unshare", f"--mount={FILE}", "--propagation=private", "sh", "-c", _NEW_TREE]
    try:
        run(as_root(script))
    except BaseException:
        close()
        raise


def close() -> None:
    """Remove the namespace and all that was mounted in it only."""
    mounts.remove(FOLDER)


def inside(argv: Sequence[str], env: Mapping[str, str] | None = None) -> list[str]:
    """The command that runs argv as root where podman works."""
    if not is_needed():
        return as_root(argv, env)
    enter = ["nsenter", f"--mount={FILE}", f"--wd={os.getcwd()}", "--"]
    return as_root([*enter, *argv], env)
