"""First uses of keys: remembered over restarts, torn lines and full disks."""

from __future__ import annotations

from pathlib import Path

import pytest

from entropy.broker.uses import FILE, FirstUses

VM1, VM2 = ("vm1", b"\x01" * 8), ("vm2", b"\x02" * 8)


@pytest.mark.parametrize("durably", [True, False])
def test_a_restart_extends_nothing(tmp_path: Path, durably: bool) -> None:
    uses = FirstUses(str(tmp_path))
    assert uses.unix(VM1) is None
    uses.note(VM1, 1000.9, durably=durably)
    uses.note(VM1, 2000, durably=durably)
    again = FirstUses(str(tmp_path))
    again.note(VM1, 3000, durably=durably)
    assert (uses.unix(VM1), again.unix(VM1)) == (1000, 1000)
    assert (tmp_path / FILE).read_text() == "1000 0101010101010101 vm1\n"


def test_a_torn_line_costs_itself_alone(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("1000 0101010101010101 vm1\n10x\n\n1 2 3 4\n2000 02020202")
    uses = FirstUses(str(tmp_path))
    assert (uses.unix(VM1), uses.unix(VM2)) == (1000, None)
    uses.note(VM2, 3000, durably=True)
    again = FirstUses(str(tmp_path))
    assert (again.unix(VM1), again.unix(VM2)) == (1000, 3000)


def test_what_left_the_list_is_forgotten(tmp_path: Path) -> None:
    uses = FirstUses(str(tmp_path))
    for number in range(100):
        uses.note((f"old{number}", bytes(8)), 1, durably=False)
    uses.note(VM1, 1000, durably=False)
    uses.keep_only([VM1, VM2])
    assert (tmp_path / FILE).read_text() == "1000 0101010101010101 vm1\n"
    assert uses.unix(("old1", bytes(8))) is None


def test_a_directory_that_cannot_be_written_is_said_once(tmp_path: Path) -> None:
    said: list[str] = []
    missing = tmp_path / "missing"
    uses = FirstUses(str(missing), lambda text, _: said.append(text))
    uses.note(VM1, 1000, durably=False)
    assert said == []  # nothing depends on it
    uses.note(VM2, 1000, durably=True)
    uses.note(("vm3", bytes(8)), 1000, durably=True)
    assert len(said) == 1
    assert f"{missing / FILE}: No such file or directory: a restart of this broker" in said[0]
    assert uses.unix(VM2) == 1000
    assert not missing.exists()
