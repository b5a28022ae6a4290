"""`entropy early-seed`: takes an injected seed in the first second of a boot, without a network.

The kernel may have no randomness yet, and must not be made to find its own: nothing here asks it
for any in a way that waits. That forbids the modules ssl and random, the wire's cryptography, and
Python's own hash seed (PYTHONHASHSEED=0 in the unit). A test reads the imports.

A seed is credited at most once: only if it is sealed for this machine's credential, bound to its
UUID, in its time, and a mark that it was used has reached the disk before. In every other case it
is mixed in without credit, which can do no harm.
"""

from __future__ import annotations

import os
import stat
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from entropy import kernel, seed_places
from entropy.errors import EntropyError
from entropy.into_kernel import into_kernel
from entropy.notify import NOTICE, WARNING, log
from entropy.seed_places import Found, is_an_identity

if TYPE_CHECKING:  # the rest is imported where a seed was found: at most boots there is none
    from entropy.injected_seed import InjectedSeed

STATE_DIR = "/var/lib/entropy-early"
CREDENTIAL = "/etc/entropy/credential.json"
# How far a machine's clock may be behind the issuer's: a day, as some clocks are in local time.
# One that is further behind cannot tell whether the seed has expired.
CLOCK_BEHIND_SECONDS = 86_400
_MEMORY_FILE_SYSTEMS = ("tmpfs", "ramfs", "rootfs", "overlay")


class NotCredited(EntropyError):
    """Why a seed is not worth anything here."""


def run(
    config_path: str,
    *,
    more_files: tuple[str, ...] = (),
    state_dir: str = STATE_DIR,
    root: str = "/",
) -> int:
    """Take every injected seed that is there. Returns 0: a boot never fails on us.

    config_path: client.toml, which need not be there yet. Raises KernelError.
    """
    found = seed_places.find(root, more_files)
    if not found:
        log("no injected seed: nothing to do")
    elif not _wanted(config_path):
        log("an injected seed is left alone: the configuration says early_seed = false")
        found = []
    for place in found:
        _take(place, config_path, state_dir, root)
    return 0


def _take(place: Found, config_path: str, state_dir: str, root: str) -> None:
    from entropy.credentials import load_credential
    from entropy.injected_seed import unseal

    was_ready = bool(kernel.random_bytes(1))
    try:
        credential_path, credit, allow_shared_kernel = _settings(config_path)
        seed = unseal(place.text, load_credential(credential_path))
    except EntropyError as error:
        # The file stays: on a first boot the credential may still be on its way.
        kernel.mix(place.text.encode())
        log(f"injected seed ({place.where}): cannot be opened: {error}", WARNING)
        return
    try:
        _check(seed, seed_places.uuids(root), time.time())
        mark_used(state_dir, seed)
        credit_bits, why = seed.credit_bits, ""
    except NotCredited as error:
        credit_bits, why = 0, str(error)
    # Before the kernel gets it: whoever finds the file later, and the credential, could otherwise
    # follow what the generator gave first.
    _destroy_file(place, root)
    _, how = into_kernel(
        seed.data, credit_bits, credit=credit, allow_shared_kernel=allow_shared_kernel
    )
    if why:
        log(f"injected seed ({place.where}): mixed in without credit: {why}", WARNING)
    else:
        log(f"injected seed ({place.where}): {how}; the generator {_said(was_ready)}", NOTICE)


def _said(was_ready: bool) -> str:
    if was_ready:
        return "was ready before"
    return "was not ready, and is now" if kernel.random_bytes(1) else "is still not ready"


def _wanted(config_path: str) -> bool:
    from entropy.config import load_client

    try:
        return not os.path.exists(config_path) or load_client(config_path).early_seed
    except EntropyError:
        return True  # what is wrong is said when a seed is there


def _settings(config_path: str) -> tuple[str, bool, bool]:
    """Of client.toml, or what holds without it: on a first boot it may not be there yet."""
    from entropy.config import load_client

    if not os.path.exists(config_path):
        return CREDENTIAL, True, False
    config = load_client(config_path)
    return config.credential, config.credit, config.allow_shared_kernel


def _check(seed: InjectedSeed, uuids: list[bytes], now_unix: float) -> None:
    """Raises NotCredited unless the seed is for this machine and this time."""
    if not uuids:
        raise NotCredited("this platform does not say which machine it is (no UUID)")
    if seed.uuid not in uuids or not is_an_identity(seed.uuid):
        raise NotCredited("it is for another machine: its UUID is not this one's")
    if now_unix >= seed.expires_unix:
        raise NotCredited("it has expired")
    if now_unix < seed.issued_unix - CLOCK_BEHIND_SECONDS:
        raise NotCredited("the clock is before the day it was issued: its expiry cannot be told")


def mark_used(state_dir: str, seed: InjectedSeed) -> None:
    """Write on the disk that this seed was used. Raises NotCredited if it was, or if it cannot.

    The mark is a file named after the seed's nonce. When this returns it outlives a power cut.
    """
    path = os.path.join(state_dir, seed.nonce.hex())
    try:
        os.makedirs(state_dir, mode=0o700, exist_ok=True)
        kind = _file_system(state_dir)
        if not kind:
            raise NotCredited(f"{state_dir}: it cannot be told whether that is on a disk")
        if kind in _MEMORY_FILE_SYSTEMS:
            raise NotCredited(f"{state_dir} is not on a disk ({kind}): no mark would outlive it")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        # The folder may be as new as the mark.
        _sync_folder(state_dir)
        _sync_folder(os.path.dirname(os.path.abspath(state_dir)))
    except FileExistsError:
        raise NotCredited("it was used before") from None
    except OSError as error:
        raise NotCredited(f"{path}: it cannot be marked as used: {error.strerror}") from None


def _sync_folder(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _file_system(path: str, mounts: str = "/proc/self/mountinfo") -> str:
    """The kind of the file system that holds a path; "" if it cannot be told. See proc(5)."""
    path = os.path.realpath(path)
    best, kind = "", ""
    try:
        with open(mounts, encoding="utf-8", errors="surrogateescape") as file:
            for line in file:
                before, _, after = line.partition(" - ")
                fields = before.split()
                point = fields[4] if len(fields) > 4 else ""
                under = path == point or path.startswith(point.rstrip("/") + "/")
                if point and under and len(point) >= len(best):  # the last mount is on top
                    best, kind = point, after.split(" ")[0]
    except OSError:
        return ""
    return kind


def _destroy_file(place: Found, root: str) -> None:
    """Overwrite and unlink a seed that came in a file; on most file systems that is all one can."""
    if not place.is_file:
        return
    path = os.path.join(root, place.where.lstrip("/"))
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            state = os.fstat(descriptor)
            if stat.S_ISREG(state.st_mode):
                os.write(descriptor, bytes(state.st_size))
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
            os.unlink(path)
        with suppress(OSError):
            _sync_folder(os.path.dirname(path))
    except OSError as error:
        log(f"{path}: cannot be destroyed: {error.strerror}", WARNING)
