"""What is carried over to the next boot: used once, never credited."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from entropy import client, kernel
from entropy.client_seed import SEED_BYTES, SavedSeed

if TYPE_CHECKING:
    from tests.client.conftest import FakeKernel, Fleet


def test_a_seed_is_saved_for_the_owner_alone(tmp_path: Path) -> None:
    SavedSeed(str(tmp_path)).save()
    path = tmp_path / "seed"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(path.read_bytes()) == SEED_BYTES
    assert os.listdir(tmp_path) == ["seed"]


def test_what_a_process_left_that_was_ended_is_removed(tmp_path: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    living = os.getppid()
    for left in (ended.pid, os.getpid(), 10**30, living, "backup"):
        (tmp_path / f"seed.{left}").write_bytes(bytes(SEED_BYTES))
    SavedSeed(str(tmp_path)).save()
    assert sorted(os.listdir(tmp_path)) == sorted(["seed", f"seed.{living}", "seed.backup"])


def test_it_is_mixed_in_without_credit_and_replaced(
    tmp_path: Path, fake_kernel: FakeKernel
) -> None:
    saved = SavedSeed(str(tmp_path))
    assert not saved.use(), "there is none on a first boot"
    before = (tmp_path / "seed").read_bytes()
    assert saved.use()
    assert fake_kernel.mixed == [before]
    assert fake_kernel.added == []
    assert fake_kernel.n_reseeds == 1
    assert (tmp_path / "seed").read_bytes() != before


def test_it_is_destroyed_on_the_disk_before_it_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read, overwritten, unlinked, directory synced, and only then mixed in."""
    saved, path = SavedSeed(str(tmp_path)), tmp_path / "seed"
    saved.save()
    seen, steps = path.read_bytes(), []
    kept = os.open(path, os.O_RDONLY)  # the blocks that were the file's

    def fsync(descriptor: int) -> None:
        is_directory = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        steps.append("directory" if is_directory else "file")

    def mix(data: bytes) -> None:
        assert data == seen
        assert steps == ["file", "directory"]
        assert not path.exists()
        assert os.pread(kept, 100, 0) == bytes(SEED_BYTES)
        steps.append("mixed")

    monkeypatch.setattr("os.fsync", fsync)
    monkeypatch.setattr(kernel, "mix", mix)
    monkeypatch.setattr(kernel, "reseed", lambda: True)
    assert saved.use()
    os.close(kept)
    assert steps == ["file", "directory", "mixed", "file", "directory"]


def test_a_kernel_that_is_not_ready_still_leaves_a_seed_that_is_secret(
    tmp_path: Path, fake_kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel, "random_bytes", lambda _: b"")
    monkeypatch.setattr(kernel, "clocks", lambda: bytes(24))
    after = []
    for before in (b"a" * SEED_BYTES, b"b" * SEED_BYTES):
        (tmp_path / "seed").write_bytes(before)
        SavedSeed(str(tmp_path)).use()
        after.append((tmp_path / "seed").read_bytes())
    assert after[0] != after[1], "the last seed is in it"


def test_no_place_for_it_is_told_and_no_more(
    tmp_path: Path, fake_kernel: FakeKernel, capsys: pytest.CaptureFixture[str]
) -> None:
    SavedSeed(str(tmp_path / "none")).use()
    assert "cannot keep a seed for the next boot" in capsys.readouterr().err
    (tmp_path / "seed").mkdir()
    assert not SavedSeed(str(tmp_path)).use()
    assert fake_kernel.mixed == []


def test_a_link_is_not_followed(
    tmp_path: Path, fake_kernel: FakeKernel, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere, directory = tmp_path / "elsewhere", tmp_path / "state"
    elsewhere.write_bytes(b"somebody's")
    directory.mkdir()
    (directory / "seed").symlink_to(elsewhere)
    assert not SavedSeed(str(directory)).use()
    assert elsewhere.read_bytes() == b"somebody's"
    assert fake_kernel.mixed == []


def test_every_draw_leaves_a_new_one(fleet: Fleet, fake_kernel: FakeKernel) -> None:
    fleet.broker()
    path = fleet.folder / "state" / "seed"
    seeds = set()
    for _ in range(3):
        assert client.run(fleet.config(), once=True) == 0
        seeds.add(path.read_bytes())
    assert len(seeds) == 3
    # Only the first of these runs is the first of its boot.
    assert len(fake_kernel.mixed) == 0
    assert [credit_bits for _, credit_bits in fake_kernel.added] == [448, 256, 256]
