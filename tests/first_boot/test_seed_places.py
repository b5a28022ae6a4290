"""Where sealed seeds are found, and what firmware says."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entropy import seed_places
from entropy.seed_places import PREFIX


def structure(kind: int, formatted: bytes, *strings: bytes) -> bytes:
    """One structure of an SMBIOS table."""
    body = bytes([kind, 4 + len(formatted), 0, 0]) + formatted
    return body + (b"".join(text + b"\0" for text in strings) or b"\0") + b"\0"


END = structure(127, b"")


def put(root: Path, path: str, data: bytes) -> None:
    file = root / path.lstrip("/")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)


def test_oem_strings_of_a_whole_table() -> None:
    table = (
        structure(0, bytes(20), b"SeaBIOS", b"1.16")
        + structure(11, b"\x02", b"first", b"second")
        + structure(1, bytes(23))  # one without any string
        + structure(11, b"\x01", b"third")
        + END
        + structure(11, b"\x01", b"behind the end")
    )
    assert seed_places.oem_strings(table) == ["first", "second", "third"]


@given(st.binary(max_size=300))
def test_no_table_stops_us(table: bytes) -> None:
    seed_places.oem_strings(table)


@given(st.integers(0, 60))
def test_nor_one_that_is_cut(n_bytes: int) -> None:
    table = structure(11, b"\x01", b"a string of the vendor's") + END
    assert seed_places.oem_strings(table[:n_bytes]) in ([], ["a string of the vendor's"])


def test_every_place_is_looked_at(tmp_path: Path) -> None:
    table = structure(11, b"\x02", b"vendor", (PREFIX + "smbios").encode()) + END
    put(tmp_path, seed_places.DMI_TABLE, table)
    put(tmp_path, seed_places.FW_CFG_FILE, (PREFIX + "fw").encode() + b"\0")
    put(tmp_path, seed_places.SEED_FILE, (PREFIX + "file\n").encode())
    put(tmp_path, "/config/seed", (PREFIX + "disk\n").encode())
    found = seed_places.find(str(tmp_path), ("/config/seed",))
    assert [(f.text.removeprefix(PREFIX), f.where, f.is_file) for f in found] == [
        ("smbios", "SMBIOS", False),
        ("fw", "fw_cfg", False),
        ("file", seed_places.SEED_FILE, True),
        ("disk", "/config/seed", True),
    ]


def test_a_seed_in_two_places_is_one(tmp_path: Path) -> None:
    put(tmp_path, seed_places.FW_CFG_FILE, (PREFIX + "same").encode())
    put(tmp_path, seed_places.SEED_FILE, (PREFIX + "same").encode())
    assert len(seed_places.find(str(tmp_path))) == 1


def test_nothing_is_found_where_nothing_is(tmp_path: Path) -> None:
    put(tmp_path, seed_places.SEED_FILE, b"something else")
    (tmp_path / "sys/firmware/dmi/tables/DMI").mkdir(parents=True)
    assert seed_places.find(str(tmp_path)) == []
    assert seed_places.uuids(str(tmp_path)) == []


@pytest.mark.parametrize(
    ("text", "n_found"),
    [
        ("11111111-2222-3333-4444-555555555555\n", 1),
        ("00000000-0000-0000-0000-000000000000\n", 0),
        ("FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF\n", 0),
        ("Not Settable\n", 0),
        ("", 0),
    ],
)
def test_uuids(tmp_path: Path, text: str, n_found: int) -> None:
    put(tmp_path, "/sys/hypervisor/uuid", text.encode())
    assert len(seed_places.uuids(str(tmp_path))) == n_found
