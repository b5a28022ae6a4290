"""Files that a guest has from its first moment on: an archive behind the one that holds its root.

The kernel unpacks archives that follow each other one after the other, a later file over an
earlier one. The format is cpio's "newc"; everything belongs to root.
"""

from __future__ import annotations

import stat
from pathlib import PurePosixPath

_BLOCK_BYTES = 512


class Overlay:
    """What is added to a guest's root. Paths are absolute; their folders are made."""

    def __init__(self) -> None:
        self._entries: dict[str, tuple[int, bytes]] = {}

    def file(self, path: str, data: str | bytes, *, mode: int = 0o644) -> None:
        """A file, or another content for one that is there."""
        raw = data.encode() if isinstance(data, str) else data
        self._add(path, stat.S_IFREG | mode, raw)

    def link(self, path: str, target: str) -> None:
        """A symbolic link; to /dev/null it masks a unit."""
        self._add(path, stat.S_IFLNK | 0o777, target.encode())

    def enable(self, unit: str, target: str = "multi-user.target") -> None:
        """What `systemctl enable` does."""
        self.link(f"/etc/systemd/system/{target}.wants/{unit}", f"/usr/lib/systemd/system/{unit}")

    def mask(self, unit: str) -> None:
        """What `systemctl mask` does."""
        self.link(f"/etc/systemd/system/{unit}", "/dev/null")

    def _add(self, path: str, mode: int, data: bytes) -> None:
        for folder in reversed(PurePosixPath(path).parents):
            if folder.name:
                self._entries.setdefault(str(folder), (stat.S_IFDIR | 0o755, b""))
        self._entries[path] = (mode, data)

    def to_bytes(self) -> bytes:
        """The archive; b"" if nothing was added."""
        if not self._entries:
            return b""
        archive = bytearray()
        for number, (path, (mode, data)) in enumerate(self._entries.items(), 1):
            _append(archive, number, path.lstrip("/"), mode, data)
        _append(archive, 0, "TRAILER!!!", 0, b"")
        return bytes(archive) + bytes(-len(archive) % _BLOCK_BYTES)


def _append(archive: bytearray, number: int, name: str, mode: int, data: bytes) -> None:
    """One entry: "070701", 13 numbers of 8 hex digits, the name, the data; see cpio(5)."""
    raw = name.encode() + b"\0"
    n_links, time, check = 1, 0, 0
    numbers = (number, mode, 0, 0, n_links, time, len(data), 0, 0, 0, 0, len(raw), check)
    archive += b"070701" + b"".join(b"%08x" % number for number in numbers) + raw
    archive += bytes(-len(archive) % 4) + data
    archive += bytes(-len(archive) % 4)
