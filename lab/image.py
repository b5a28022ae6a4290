"""The images that the fleet's containers and the tests run from.

An image is made from Debian packages, without a registry, and kept in podman's own store under
a tag that is the hash of all that went into it. `python -m lab down` leaves it there, because
making it takes longer than all the rest.
"""

from __future__ import annotations

import subprocess
import tempfile

from lab import podman
from lab.command import LabError
from lab.progress import step
from lab.recipe import Recipe, digest, mmdebstrap

REPOSITORY = "localhost/entropy-lab"

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
        "libusb-1.0-0",
        "python3-cryptography",
        "python3-serial",
        "python3-usb",
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

# The youngest Debian: Python 3.13, and the packages as its own systemd runs them.
TRIXIE = Recipe(
    "trixie",
    "trixie",
    (
        "systemd",
        "systemd-sysv",
        "python3",
        "python3-cryptography",
        "python3-hypothesis",
        "python3-pytest",
        "python3-serial",
        "python3-usb",
        "procps",
    ),
)

RECIPES = {recipe.name: recipe for recipe in (FLEET, BULLSEYE, TRIXIE)}


def reference(recipe: Recipe) -> str:
    """The image's name and tag, `REPOSITORY/NAME:HASH`."""
    return f"{REPOSITORY}/{recipe.name}:{digest(recipe)}"


def ensure(recipe: Recipe) -> str:
    """Make the image unless podman has it; returns its name and tag."""
    name = reference(recipe)
    if podman.podman("image", "exists", name, check=False).returncode == 0:
        return name
    with step(f"making the image {recipe.name} from Debian {recipe.suite}"):
        _make(recipe, name)
    return name


def _make(recipe: Recipe, name: str) -> None:
    with tempfile.TemporaryFile("w+") as words:
        build = subprocess.Popen(
            mmdebstrap(recipe),
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
