"""A file as a source: once through, then gone."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest

from entropy.errors import SourceError, SourceGone
from entropy.sources.uri import source_for


def test_a_file_is_read_once_and_then_gone(tmp_path: Path) -> None:
    path = tmp_path / "noise"
    path.write_bytes(b"0123456789")
    source = source_for(f"file:{path}")
    source.open()
    assert source.read(4) == b"0123"
    assert source.read(100) == b"456789"
    with pytest.raises(SourceGone, match="ended after 10 bytes"):
        source.read(1)
    source.close()
    source.close()
    with pytest.raises(SourceError, match="is not open"):
        source.read(1)


def test_no_byte_counts_twice(tmp_path: Path) -> None:
    """Opened again, a file goes on where it ended; another file is read from its beginning."""
    path = tmp_path / "noise"
    path.write_bytes(b"0123")
    source = source_for(f"file:{path}")
    for _ in range(2):
        source.open()
        with contextlib.suppress(SourceGone):
            assert source.read(100) == b"0123"
        with pytest.raises(SourceGone, match="ended after 4 bytes"):
            source.read(100)
    with path.open("ab") as file:
        file.write(b"45")
    source.open()
    assert source.read(100) == b"45"
    another = tmp_path / "another"
    another.write_bytes(b"abc")
    another.replace(path)
    source.open()
    assert source.read(100) == b"abc"
    source.close()


def test_a_pipe_gives_what_it_has(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    # Opened for both ends, a pipe lets itself be opened for one without waiting.
    keep = os.open(path, os.O_RDWR)
    try:
        source = source_for(f"file:{path}")
        source.open()
        os.write(keep, b"abc")
        assert source.read(100) == b"abc"
        source.close()
    finally:
        os.close(keep)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(SourceGone, match="No such file"):
        source_for(f"file:{tmp_path}/none").open()


def test_a_folder_is_no_source(tmp_path: Path) -> None:
    source = source_for(f"file:{tmp_path}")
    source.open()
    with pytest.raises(SourceError, match="Is a directory"):
        source.read(1)
    source.close()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_is_not_ours_to_read(tmp_path: Path) -> None:
    path = tmp_path / "noise"
    path.write_bytes(b"0123456789")
    path.chmod(0)
    with pytest.raises(SourceError, match="the right to read it"):
        source_for(f"file:{path}").open()
