"""What a guest is started from: Debian's kernel, and a root with our packages, in memory.

Two pieces are kept in .cache/guest, each under the hash of all that went into it: the root as
Debian makes it, and that root with our packages installed, as an archive that the kernel unpacks
into memory (an initramfs). A piece whose hash has changed replaces the one before it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, NamedTuple

from lab import host
from lab.command import LabError, as_root
from lab.names import CHECKOUT
from lab.progress import step
from lab.recipe import Recipe, digest, mmdebstrap

FOLDER = CHECKOUT / ".cache" / "guest"
HERE = Path(__file__).resolve().parent

# The Debian packages that this machine needs to make and run a guest.
PACKAGES = ("cpio", "gcc", "kmod", "libc6-dev", "mmdebstrap", "qemu-system-x86")

GUEST = Recipe(
    "guest",
    "bookworm",
    (
        "kmod",
        "openssh-server",
        "systemd",
        "systemd-sysv",
        "udev",
        # What our packages depend on, and what its devices need.
        "python3",
        "python3-cryptography",
        "python3-serial",
        "python3-usb",
    ),
)


class Pieces(NamedTuple):
    kernel: Path
    archive: Path  # the root, as an initramfs
    watch: Path  # watch.c as a program, for those who want it to be the guest's first


def ensure(debs: Sequence[Path]) -> Pieces:
    """Make what is not there yet of a guest with these packages installed. Raises LabError."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with open(FOLDER / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        host.install(host.lacking(PACKAGES))
        base = _piece("debian", digest(GUEST), ".tar", _make_base)
        kernel = _piece("kernel", digest(GUEST), "", _take_kernel(base))
        parts = [base.name, _read(HERE / "pack"), _read(HERE / "agent.py"), *map(_read, debs)]
        archive = _piece("root", _hash(parts), ".cpio", _pack(base, debs))
        watch = _piece("watch", _hash([_read(HERE / "watch.c")]), "", _compile)
    return Pieces(kernel, archive, watch)


def _read(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _hash(parts: Sequence[str]) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _piece(name: str, tag: str, ending: str, make: Callable[[IO[bytes]], None]) -> Path:
    """The file of that name and tag, made unless it is there; older ones of the name go."""
    path = FOLDER / f"{name}-{tag}{ending}"
    if not path.exists():
        for old in FOLDER.glob(f"{name}-*"):
            old.unlink()
        unfinished = FOLDER / f"{name}.unfinished"
        with open(unfinished, "wb") as file:
            make(file)
        unfinished.rename(path)
    return path


def _make_base(file: IO[bytes]) -> None:
    with step(f"making a root with a kernel from Debian {GUEST.suite}"):
        _run(mmdebstrap(GUEST), file)


def _take_kernel(base: Path) -> Callable[[IO[bytes]], None]:
    def make(file: IO[bytes]) -> None:
        with tarfile.open(base) as tar:
            kernel = tar.extractfile("./boot/vmlinuz")
            assert kernel is not None
            shutil.copyfileobj(kernel, file)

    return make


def _pack(base: Path, debs: Sequence[Path]) -> Callable[[IO[bytes]], None]:
    def make(file: IO[bytes]) -> None:
        argv = [HERE / "pack", base, FOLDER / "unpacked", HERE / "agent.py", *debs]
        with step("installing our packages in it"):
            _run(as_root([str(word) for word in argv]), file)

    return make


def _compile(file: IO[bytes]) -> None:
    program = FOLDER / "watch.unlinked"
    options = ["-static", "-O2", "-Wall", "-Wextra", "-Werror"]
    _run(["gcc", *options, "-o", str(program), str(HERE / "watch.c")], file)
    file.write(program.read_bytes())
    program.unlink()


def _run(argv: Sequence[str], output: IO[bytes]) -> None:
    done = subprocess.run(
        argv, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.PIPE, check=False
    )
    if done.returncode != 0:
        words = "\n".join(done.stderr.decode(errors="replace").strip().splitlines()[-12:])
        raise LabError(f"the guest's root could not be made; {argv[0]} said:\n{words}")
