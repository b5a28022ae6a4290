"""The packages of a release that differs in its number alone, for the drill of an upgrade."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from lab.names import CHECKOUT, STATE

KEPT = STATE / "controller/packages"  # where the controller looks first
SUFFIX = "+drill"


def version() -> str:
    """Of the checkout."""
    text = (CHECKOUT / "entropy/__init__.py").read_text()
    found = re.search(r'^__version__ = "(.+)"$', text, re.MULTILINE)
    assert found
    return found[1]


def keep_two_releases(folder: Path) -> None:
    """Give the controller the packages that were built, and the same under a later number."""
    if KEPT.exists():
        return
    KEPT.mkdir()
    for deb in sorted((CHECKOUT / "dist").glob("*.deb")):
        shutil.copy(deb, KEPT)
        _renumber(deb, folder / deb.stem)


def _renumber(deb: Path, folder: Path) -> None:
    now, later = version(), version() + SUFFIX
    run = subprocess.run
    run(["dpkg-deb", "--raw-extract", str(deb), str(folder)], check=True)
    control = folder / "DEBIAN/control"
    text = control.read_text().replace(f"Version: {now}\n", f"Version: {later}\n")
    control.write_text(text.replace(f"(= {now})", f"(= {later})"))
    for module in folder.glob("usr/lib/python3/dist-packages/entropy/__init__.py"):
        module.write_text(module.read_text().replace(f'"{now}"', f'"{later}"'))
    to = KEPT / deb.name.replace(now, later)
    run(
        ["dpkg-deb", "--root-owner-group", "--build", str(folder), str(to)],
        check=True,
        capture_output=True,
    )
