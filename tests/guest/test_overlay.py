"""The archive of files that a guest has from the start, read back by a reader of its own."""

from __future__ import annotations

import stat

from lab.guest.overlay import Overlay


def entries(archive: bytes) -> list[tuple[str, int, bytes]]:
    """Name, mode and data of each entry, as cpio(5) describes "newc"."""
    found = []
    at = 0
    while True:
        assert archive[at : at + 6] == b"070701"
        numbers = [int(archive[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        mode, n_data_bytes, n_name_bytes = numbers[1], numbers[6], numbers[11]
        name = archive[at + 110 : at + 110 + n_name_bytes - 1].decode()
        at += -(-(110 + n_name_bytes) // 4) * 4
        data = archive[at : at + n_data_bytes]
        at += -(-n_data_bytes // 4) * 4
        if name == "TRAILER!!!":
            assert not any(archive[at:])
            return found
        found.append((name, mode, data))


def test_an_archive_holds_what_was_added() -> None:
    overlay = Overlay()
    overlay.file("/etc/a/b", "text\n", mode=0o640)
    overlay.file("/etc/c", b"\0" * 7)
    overlay.mask("x.service")
    overlay.enable("y.service")
    archive = overlay.to_bytes()
    assert len(archive) % 512 == 0
    folder, link = stat.S_IFDIR | 0o755, stat.S_IFLNK | 0o777
    assert entries(archive) == [
        ("etc", folder, b""),
        ("etc/a", folder, b""),
        ("etc/a/b", stat.S_IFREG | 0o640, b"text\n"),
        ("etc/c", stat.S_IFREG | 0o644, b"\0" * 7),
        ("etc/systemd", folder, b""),
        ("etc/systemd/system", folder, b""),
        ("etc/systemd/system/x.service", link, b"/dev/null"),
        ("etc/systemd/system/multi-user.target.wants", folder, b""),
        (
            "etc/systemd/system/multi-user.target.wants/y.service",
            link,
            b"/usr/lib/systemd/system/y.service",
        ),
    ]


def test_what_is_added_last_counts() -> None:
    overlay = Overlay()
    overlay.file("/a", "first")
    overlay.file("/a", "second")
    assert [data for _, _, data in entries(overlay.to_bytes())] == [b"second"]


def test_nothing_is_no_archive() -> None:
    assert Overlay().to_bytes() == b""
