"""What is mounted where, as this process sees it."""

from __future__ import annotations

from pathlib import Path

from lab.command import as_root, run


def is_mounted(path: Path) -> bool:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return any(line.split()[4] == str(path) for line in lines)


def remove(folder: Path) -> None:
    """Unmount a lab's folder in /run and the namespace that is kept in it, and remove it."""
    for path in (folder / "mounts", folder):
        while is_mounted(path):
            run(as_root(["umount", str(path)]))
    if folder.exists():
        run(as_root(["rm", "-rf", "--one-file-system", str(folder)]))
