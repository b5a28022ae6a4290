"""The images that the fleet's containers and the tests run from.

An image is made from Debian packages, without a registry, and kept in podman's own store under
a tag that is the hash of all that went into it. `python -m lab down` leaves it there, because
making it takes longer than all the rest.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from lab import aptsources, podman
from lab.command import LabError, as_root
from lab.progress import step

SCRIPTS = Path(__file__).resolve().parent / "image.d"
REPOSITORY = "localhost/entropy-lab"

# Left out of every package: nobody reads it in a container.
_LEFT_OUT = ("doc", "man", "info", "locale", "lintian", "bug", "zsh")


@dataclass(frozen=True)
class Recipe:
    """What an image is made of; a file in lab/image.d named after it finishes it."""

    name: str
    suite: str
    packages: tuple[str, ...]


FLEET = Recipe(
    "fleet",
    "bookworm",
    (
        # A machine that Ansible can reach.
        "systemd",
        "systemd-sysv",
        "dbus",
        "openssh-server",
        "sudo",
        "python3",
        "python3-apt",
        "ca-certificates",
        # What the roles would install: here already, so that no test has to fetch it.
        "haproxy",
        "keepalived",
        "python3-cryptography",
        # What the tests look with.
        "iproute2",
        "iputils-ping",
        "procps",
        "rng-tools5",
        "tcpdump",
    ),
)

# The oldest Python and cryptography that the client has to run on.
BULLSEYE = Recipe(
    "bullseye",
    "bullseye",
    ("python3", "python3-cryptography", "python3-hypothesis", "python3-pytest"),
)

RECIPES = {recipe.name: recipe for recipe in (FLEET, BULLSEYE)}


def reference(recipe: Recipe) -> str:
    """The image's name and tag, `REPOSITORY/NAME:HASH`."""
    lines = aptsources.sources(recipe.suite)
    files = [*aptsources.keyrings(lines), *aptsources.certificates(), _script(recipe)]
    files.append(Path(__file__))
    parts = [
        asdict(recipe),
        _LEFT_OUT,
        lines,
        aptsources.settings(),
        [hashlib.sha256(path.read_bytes()).hexdigest() for path in files],
    ]
    digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    return f"{REPOSITORY}/{recipe.name}:{digest[:16]}"


def _script(recipe: Recipe) -> Path:
    return SCRIPTS / recipe.name


def ensure(recipe: Recipe) -> str:
    """Make the image unless podman has it; returns its name and tag."""
    name = reference(recipe)
    if podman.podman("image", "exists", name, check=False).returncode == 0:
        return name
    with step(f"making the image {recipe.name} from Debian {recipe.suite}"):
        _make(recipe, name)
    return name


def _make(recipe: Recipe, name: str) -> None:
    lines = aptsources.sources(recipe.suite)
    argv = ["mmdebstrap", "--quiet", "--mode=root", "--variant=apt"]
    argv += [f"--include={','.join(recipe.packages)}"]
    argv += ["--aptopt=Apt::Install-Recommends false"]
    argv += [f"--aptopt={line.removesuffix(';')}" for line in aptsources.settings()]
    argv += [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in _LEFT_OUT]
    argv += ["--dpkgopt=path-include=/usr/share/doc/*/copyright"]
    # An image that a crash cut short is not used, so nothing need reach the disk in order.
    argv += ["--dpkgopt=force-unsafe-io"]
    for keyring in aptsources.keyrings(lines):
        argv += [f"--setup-hook=install -D -m 0644 '{keyring}' \"$1\"'{keyring}'"]
    folder = aptsources.CERTIFICATES
    for path in aptsources.certificates():
        argv += [f"--customize-hook=install -D -m 0644 '{path}' \"$1\"'{folder}/{path.name}'"]
    argv += [f'--customize-hook={_script(recipe)} "$1"']
    argv += [recipe.suite, "-", *lines]
    with tempfile.TemporaryFile("w+") as words:
        build = subprocess.Popen(
            as_root(argv, {"LC_ALL": "C.UTF-8"}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=words,
        )
        load = subprocess.run(
            podman.command(["import", "--quiet", "-", f"{name}-unfinished"]),
            stdin=build.stdout,
            capture_output=True,
            text=True,
            check=False,
        )
        if build.stdout:
            build.stdout.close()
        status = build.wait()
        words.seek(0)
        tail = "\n".join(words.read().strip().splitlines()[-12:])
    if status != 0:
        podman.podman("image", "rm", "--force", f"{name}-unfinished", check=False)
        raise LabError(f"mmdebstrap could not make the image {recipe.name}:\n{tail}")
    if load.returncode != 0:
        raise LabError(f"podman could not import the image {recipe.name}:\n{load.stderr.strip()}")
    podman.podman("tag", f"{name}-unfinished", name)
    podman.podman("untag", name, f"{name}-unfinished")


def remove_all() -> None:
    """Remove every image that a lab on this machine has made."""
    listed = podman.podman("images", "--quiet", "--no-trunc", f"{REPOSITORY}/*").stdout.split()
    if listed:
        podman.podman("image", "rm", "--force", *sorted(set(listed)))
