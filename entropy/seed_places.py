"""Where an injected seed may lie: each can be read before there is a network or a second disk.

SMBIOS: an OEM string (type 11) of the firmware's table: QEMU, libvirt, Proxmox, Xen's HVM.
fw_cfg: QEMU's own channel, "opt/internal.entropy/seed".
A file: /etc/entropy/injected-seed, put on the disk by whoever makes the machine.

Imports next to nothing: at most boots there is no seed, and then this is all that runs.
"""

from __future__ import annotations

import os
from typing import NamedTuple

# A sealed seed begins so; entropy/injected_seed.py has the rest.
PREFIX = "entropy-seed-1:"
LONGEST_TEXT = 512  # characters; ours have 243
UUID_BYTES = 16

DMI_TABLE = "/sys/firmware/dmi/tables/DMI"
FW_CFG_FILE = "/sys/firmware/qemu_fw_cfg/by_name/opt/internal.entropy/seed/raw"
SEED_FILE = "/etc/entropy/injected-seed"
UUID_FILES = ("/sys/class/dmi/id/product_uuid", "/sys/hypervisor/uuid")

_OEM_STRINGS = 11  # SMBIOS specification (DMTF DSP0134), section 7.12
_END_OF_TABLE = 127
_LONGEST_TABLE = 1 << 20


class Found(NamedTuple):
    """A sealed text, where it was, and whether it is a file of ours to be destroyed."""

    text: str
    where: str
    is_file: bool


def find(root: str = "/", more_files: tuple[str, ...] = ()) -> list[Found]:
    """All sealed texts on this machine, each once. What cannot be read is not there.

    root: in the place of "/", for tests. more_files: paths besides SEED_FILE.
    """
    found = [Found(text, "SMBIOS", False) for text in oem_strings(_read(root, DMI_TABLE))]
    found.append(Found(_text(_read(root, FW_CFG_FILE)), "fw_cfg", False))
    found += [Found(_text(_read(root, path)), path, True) for path in (SEED_FILE, *more_files)]
    first: dict[str, Found] = {}
    for place in found:
        if place.text.startswith(PREFIX):
            first.setdefault(place.text, place)
    return list(first.values())


def uuids(root: str = "/") -> list[bytes]:
    """What the platform says this machine is: UUIDs, 16 bytes each. For root alone to read."""
    found = []
    for path in UUID_FILES:
        try:
            value = bytes.fromhex(_text(_read(root, path)).replace("-", ""))
        except ValueError:
            continue
        if is_an_identity(value):
            found.append(value)
    return found


def is_an_identity(uuid: bytes) -> bool:
    """Whether it is a UUID that tells machines apart; firmware that has none gives all 0 or 1."""
    return len(uuid) == UUID_BYTES and uuid not in (bytes(UUID_BYTES), b"\xff" * UUID_BYTES)


def oem_strings(table: bytes) -> list[str]:
    """The strings of all type 11 structures of an SMBIOS table (DSP0134, section 6.1)."""
    found = []
    at = 0
    while at + 4 <= len(table):
        kind, n_formatted = table[at], table[at + 1]
        if kind == _END_OF_TABLE or n_formatted < 4:
            break
        start = at + n_formatted
        end = table.find(b"\0\0", start)
        if end < 0:
            break
        if kind == _OEM_STRINGS:
            found += [part.decode("ascii", "replace") for part in table[start:end].split(b"\0")]
        at = end + 2
    return found


def _text(data: bytes) -> str:
    return data[: LONGEST_TEXT + 1].decode("ascii", "replace").strip("\0\r\n\t ")


def _read(root: str, path: str) -> bytes:
    try:
        descriptor = os.open(
            os.path.join(root, path.lstrip("/")), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
        )
        with open(descriptor, "rb") as file:
            return file.read(_LONGEST_TABLE)
    except OSError:
        return b""
