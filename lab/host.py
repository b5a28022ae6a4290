"""What this machine must have before it can run the fleet."""

from __future__ import annotations

import platform
import shutil
import subprocess
from collections.abc import Iterable

from lab.command import LabError, as_root, run
from lab.progress import say, step

# Program -> the Debian package that has it. runc and not crun: without CAP_SYS_RESOURCE crun
# cannot set the limit on locked memory and starts nothing.
PROGRAMS = {
    "podman": "podman",
    "runc": "runc",
    "iptables": "iptables",
    "nft": "nftables",
    "mmdebstrap": "mmdebstrap",
    "ip": "iproute2",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "nsenter": "util-linux",
    "flock": "util-linux",
    "sysctl": "procps",
}
NETAVARK = "/usr/lib/podman/netavark"


def missing_packages() -> list[str]:
    """Debian packages that this machine lacks."""
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    lacking = {pkg for program, pkg in PROGRAMS.items() if not shutil.which(program, path=path)}
    if not shutil.which(NETAVARK) and not shutil.which("/usr/libexec/podman/netavark"):
        lacking.add("netavark")
    return sorted(lacking)


def prepare() -> None:
    """Install what the lab needs and this machine lacks. Raises LabError as install does."""
    install(missing_packages())


def lacking(packages: Iterable[str]) -> list[str]:
    """Those of the packages that dpkg does not have installed."""
    query = ["dpkg-query", "--show", "--showformat", "${db:Status-Status}"]
    done = {name: run([*query, name], check=False).stdout for name in packages}
    return sorted(name for name, status in done.items() if status != "installed")


def install(packages: list[str]) -> None:
    """Install Debian packages, naming them first; nothing to do for an empty list.

    Raises LabError on a distribution for which we do not know the names.
    """
    if not packages:
        return
    system = platform.freedesktop_os_release()
    if system.get("ID") != "debian" or shutil.which("apt-get") is None:
        raise LabError(
            f"this is {system.get('PRETTY_NAME', 'an unknown system')}, where nothing is installed "
            f"for you. Install what these Debian packages hold and run it again: "
            f"{' '.join(packages)}"
        )
    say(f"installing Debian packages: {' '.join(packages)}")
    apt = ["apt-get", "-q", "-o", "DPkg::Lock::Timeout=300", "-o", "Dpkg::Use-Pty=0"]
    with step("apt-get update"):
        _apt([*apt, "update"])
    with step("apt-get install"):
        _apt([*apt, "-y", "--no-install-recommends", "install", *packages])


def _apt(argv: list[str]) -> None:
    done = subprocess.run(
        as_root(argv, {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        words = "\n".join(done.stdout.strip().splitlines()[-12:])
        raise LabError(f"{' '.join(argv)} failed:\n{words}")
