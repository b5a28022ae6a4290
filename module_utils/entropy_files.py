"""Write a file in one step, with its owner, group and mode in place before it has its name.

Used by the modules on the hosts and by the store on the controller. Standard library only, and
Python 3.9, because it runs with whatever Python the host has.
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import stat
from typing import NamedTuple

# The daemons refuse a secret with any other bit: write for the group, anything for others.
ALLOWED_BITS = 0o640


class FileProblem(Exception):
    """Something about a file that a person must put right; the text says what and how."""


class Wanted(NamedTuple):
    """A file as it should be. Owner and group are names or numbers in decimal digits."""

    path: str
    owner: str
    group: str
    mode: int


class Found(NamedTuple):
    """A file as it is. `content` is None when there is none."""

    content: bytes | None
    owner: str
    group: str
    mode: int


class Difference(NamedTuple):
    """What separates a file from what is wanted."""

    content: bool
    attributes: bool
    found: Found

    @property
    def any(self) -> bool:
        return self.content or self.attributes


def parse_secret_mode(value: object) -> int:
    """The mode that an argument of a task names: "0640", or the number that YAML makes of 0640.

    Raises FileProblem when it is not a mode, or one that the daemons refuse for a secret.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        mode = value
    else:
        try:
            mode = int(str(value), 8)
        except ValueError:
            raise FileProblem(f'mode: {value} is not a mode; write it as "0640"') from None
    if not mode & 0o400 or mode & ~ALLOWED_BITS:
        raise FileProblem(
            f"mode: 0{mode:o} will not do for a secret, the service would refuse the file; "
            'use "0640" or tighter, in quotes'
        )
    return mode


def examine(wanted: Wanted, content: bytes) -> Difference:
    """Compare a file with what is wanted. Changes nothing; unknown owners and groups differ."""
    found = read(wanted.path)
    attributes = found.content is not None and (
        found.owner != _owner_name(wanted.owner)
        or found.group != _group_name(wanted.group)
        or found.mode != wanted.mode
    )
    return Difference(found.content != content, attributes, found)


def read(path: str) -> Found:
    """Read a file and its attributes. A symbolic link counts as no file: it will be replaced."""
    try:
        status = os.lstat(path)
        if stat.S_ISDIR(status.st_mode):
            raise FileProblem(f"{path} is a directory; move it away")
        if not stat.S_ISREG(status.st_mode):
            return Found(None, "", "", 0)
        with open(path, "rb") as file:
            content = file.read()
    except (FileNotFoundError, NotADirectoryError):
        return Found(None, "", "", 0)
    except OSError as error:
        raise FileProblem(f"{path} cannot be read: {error.strerror}") from None
    owner, group = _owner_name(str(status.st_uid)), _group_name(str(status.st_gid))
    return Found(content, owner, group, stat.S_IMODE(status.st_mode))


def install(wanted: Wanted, content: bytes) -> None:
    """Write the file with its attributes, in one step.

    Raises FileProblem when its directory, its owner or its group is missing.
    """
    directory = os.path.dirname(wanted.path)
    if not os.path.isdir(directory):
        raise FileProblem(f"the directory {directory} is missing; install the package first")
    uid, gid = _uid(wanted.owner), _gid(wanted.group)
    try:
        replace(wanted.path, content, mode=wanted.mode, uid=uid, gid=gid)
    except OSError as error:
        raise FileProblem(f"{wanted.path} cannot be written: {error.strerror}") from None


def replace(
    path: str,
    content: bytes,
    *,
    mode: int = 0o600,
    uid: int = -1,
    gid: int = -1,
    synced: bool = True,
) -> None:
    """Put a file in place of another so that a reader, or a power cut, sees the old or the new.

    The name of the temporary file is fixed: what an interrupted run left is replaced by the next.
    Unless it is `synced` a power cut may bring back the old one; sync_directory ends that, for many
    files at once. Raises OSError.
    """
    directory, name = os.path.split(path)
    temporary = os.path.join(directory, f".{name}.new")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            status = os.fstat(descriptor)
            if (uid, gid) not in ((-1, -1), (status.st_uid, status.st_gid)):
                os.fchown(descriptor, uid, gid)
            os.fchmod(descriptor, mode)
            file.flush()
            os.fsync(descriptor)
        os.replace(temporary, path)
    except Exception:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    if synced:
        sync_directory(directory)


def sync_directory(directory: str) -> None:
    """Have the names in a directory survive a power cut."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _uid(owner: str) -> int:
    try:
        return int(owner) if owner.isdigit() else pwd.getpwnam(owner).pw_uid
    except KeyError:
        raise FileProblem(f"the user {owner} does not exist; install the package first") from None


def _gid(group: str) -> int:
    try:
        return int(group) if group.isdigit() else grp.getgrnam(group).gr_gid
    except KeyError:
        raise FileProblem(f"the group {group} does not exist; install the package first") from None


def _owner_name(owner: str) -> str:
    try:
        return pwd.getpwuid(int(owner)).pw_name if owner.isdigit() else owner
    except KeyError:
        return owner


def _group_name(group: str) -> str:
    try:
        return grp.getgrgid(int(group)).gr_name if group.isdigit() else group
    except KeyError:
        return group
