"""What labs of other checkouts left on this machine, and whether anybody still uses it.

A lab that is in use has containers, or a command of it holds its checkout's lock. All else is a
stray: a checkout that was deleted with its lab up, a machine that was copied with /run on its
disk. A stray must not keep the last lab that goes from putting the machine back.
"""

from __future__ import annotations

import fcntl
import shutil
from pathlib import Path

from lab import mounts
from lab.command import as_root, run
from lab.names import CHECKOUT, LABEL_KEY, LOCK, PREFIX, RUN
from lab.progress import say

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
BOOT = RUN / "boot_id"


def sign() -> None:
    """Say in /run whose lab this is and in which boot; forget what another boot left there."""
    if BOOT.exists() and BOOT.read_text() != BOOT_ID.read_text():
        for folder in _folders():
            mounts.remove(folder)
        run(as_root(["rm", "-rf", "--one-file-system", str(RUN)]))
    run(as_root(["mkdir", "-p", str(RUN / PREFIX)]))
    if not BOOT.exists():
        run(as_root(["tee", str(BOOT)]), stdin=BOOT_ID.read_text())
    owner = RUN / PREFIX / "checkout"
    if not owner.exists():
        run(as_root(["tee", str(owner)]), stdin=str(CHECKOUT))


def sweep() -> list[str]:
    """Remove what is nobody's; returns the names of the other labs that are in use."""
    used = []
    for folder in _folders():
        if folder.name == PREFIX:
            continue
        owner = folder / "checkout"
        checkout = Path(owner.read_text()) if owner.exists() else None
        if checkout and checkout.is_dir() and (_is_locked(checkout / LOCK) or _containers(folder)):
            used.append(folder.name)
            continue
        say(f"removing what a lab of {checkout or 'an unknown checkout'} left behind")
        for container in _containers(folder):
            run(_podman(folder, "rm", "--force", "--ignore", "--time", "0", container))
        if run(_podman(folder, "network", "exists", folder.name), check=False).returncode == 0:
            run(_podman(folder, "network", "rm", "--force", folder.name))
        mounts.remove(folder)
    return used


def _folders() -> list[Path]:
    return sorted(path for path in RUN.iterdir() if path.is_dir())


def _is_locked(path: Path) -> bool:
    if not path.exists():
        return False
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _podman(folder: Path, *arguments: str) -> list[str]:
    """The command that runs podman where the lab of this folder does."""
    file = folder / "mounts"
    inside = ["nsenter", f"--mount={file}", "--"] if mounts.is_mounted(file) else []
    return as_root([*inside, "podman", *arguments])


def _containers(folder: Path) -> list[str]:
    if shutil.which("podman", path="/usr/local/bin:/usr/bin:/bin") is None:
        return []
    label = f"label={LABEL_KEY}={folder.name}"
    return run(_podman(folder, "ps", "--all", "--quiet", "--filter", label)).stdout.split()
