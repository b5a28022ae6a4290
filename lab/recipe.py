"""What the lab's machines are made of, and the command that makes one from Debian packages.

No registry is asked: mmdebstrap installs packages into a new root and prints it as a tar. Where
the result is kept, it is kept under the hash of all that went into it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from lab import aptsources
from lab.command import as_root

SCRIPTS = Path(__file__).resolve().parent / "image.d"

# Left out of every package: nobody reads it in a machine of the lab.
_LEFT_OUT = ("doc", "man", "info", "locale", "lintian", "bug", "zsh")


@dataclass(frozen=True)
class Recipe:
    """What a root is made of; a script in lab/image.d named after it finishes it."""

    name: str
    suite: str
    packages: tuple[str, ...]

    @property
    def script(self) -> Path:
        return SCRIPTS / self.name


def digest(recipe: Recipe) -> str:
    """16 hex digits that change with the recipe, the machine's apt settings."""
    lines = aptsources.sources(recipe.suite)
    read = [*aptsources.keyrings(lines), *aptsources.certificates(), recipe.script]
    read.append(Path(__file__))
    parts = [
        asdict(recipe),
        _LEFT_OUT,
        lines,
        aptsources.settings(),
        [hashlib.sha256(path.read_bytes()).hexdigest() for path in read],
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def mmdebstrap(recipe: Recipe) -> list[str]:
    """The command that makes the root and writes it to its standard output as a tar."""
    lines = aptsources.sources(recipe.suite)
    argv = ["mmdebstrap", "--quiet", "--mode=root", "--variant=apt"]
    argv += [f"--include={','.join(recipe.packages)}"]
    argv += ["--aptopt=Apt::Install-Recommends false"]
    argv += [f"--aptopt={line.removesuffix(';')}" for line in aptsources.settings()]
    argv += [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in _LEFT_OUT]
    argv += ["--dpkgopt=path-include=/usr/share/doc/*/copyright"]
    # What a crash cut short is not used, so nothing need reach the disk in order.
    argv += ["--dpkgopt=force-unsafe-io"]
    for keyring in aptsources.keyrings(lines):
        argv += [f"--setup-hook=install -D -m 0644 '{keyring}' \"$1\"'{keyring}'"]
    folder = aptsources.CERTIFICATES
    for path in aptsources.certificates():
        argv += [f"--customize-hook=install -D -m 0644 '{path}' \"$1\"'{folder}/{path.name}'"]
    argv += [f'--customize-hook={recipe.script} "$1"']
    argv += [recipe.suite, "-", *lines]
    return as_root(argv, {"LC_ALL": "C.UTF-8"})
