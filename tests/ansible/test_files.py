"""One file in place of another: attributes, interruptions, what is refused."""

from __future__ import annotations

import grp
import os
import pwd
from pathlib import Path
from typing import Any

import pytest

from module_utils.entropy_files import FileProblem, Wanted, examine, install, parse_secret_mode

ME = pwd.getpwuid(os.getuid()).pw_name
MY_GROUP = grp.getgrgid(os.getgid()).gr_name


def wanted(path: Path, mode: int = 0o640) -> Wanted:
    return Wanted(str(path), ME, MY_GROUP, mode)


def test_a_new_file_has_content_and_mode(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    assert examine(wanted(path), b"one").any
    install(wanted(path), b"one")
    assert path.read_bytes() == b"one"
    assert path.stat().st_mode & 0o7777 == 0o640
    assert not examine(wanted(path), b"one").any
    assert os.listdir(tmp_path) == ["secret"]


def test_each_attribute_alone_is_a_difference(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    install(wanted(path), b"one")
    assert examine(wanted(path), b"two").content
    assert examine(wanted(path, 0o600), b"one")[:2] == (False, True)
    assert examine(wanted(path)._replace(owner="no-such-user"), b"one").attributes
    assert examine(wanted(path)._replace(group="no-such-group"), b"one").attributes


def test_owner_and_group_may_be_numbers(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    install(wanted(path), b"one")
    numbers = wanted(path)._replace(owner=str(os.getuid()), group=str(os.getgid()))
    assert not examine(numbers, b"one").any


def test_a_symbolic_link_is_replaced_and_its_target_left_alone(tmp_path: Path) -> None:
    target, path = tmp_path / "target", tmp_path / "secret"
    target.write_bytes(b"one")
    path.symlink_to(target)
    assert examine(wanted(path), b"one").content
    install(wanted(path), b"two")
    assert not path.is_symlink()
    assert (target.read_bytes(), path.read_bytes()) == (b"one", b"two")


@pytest.mark.parametrize("step", ["fsync", "replace", "fchmod"])
def test_an_interruption_leaves_the_old_file_and_the_next_run_the_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    class PowerLost(BaseException):
        pass

    def lose(*_: object) -> None:
        raise PowerLost

    path = tmp_path / "secret"
    install(wanted(path), b"one")
    with monkeypatch.context() as patch:
        patch.setattr(os, step, lose)
        with pytest.raises(PowerLost):
            install(wanted(path), b"two")
    assert path.read_bytes() == b"one"
    for left in set(os.listdir(tmp_path)) - {"secret"}:
        assert (tmp_path / left).stat().st_mode & 0o137 == 0
    install(wanted(path), b"two")
    assert path.read_bytes() == b"two"
    assert os.listdir(tmp_path) == ["secret"]


def test_a_full_disk_leaves_no_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "secret"
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FileProblem, match="cannot be written: No space left on device"):
        install(wanted(path), b"one")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"owner": "no-such-user"}, "the user no-such-user does not exist"),
        ({"group": "no-such-group"}, "the group no-such-group does not exist"),
        ({"path": "/no-such-directory/secret"}, "the directory /no-such-directory is missing"),
    ],
)
def test_what_is_missing_on_the_host_is_named(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    file = wanted(tmp_path / "secret")._replace(**changes)
    assert examine(file, b"one").any
    with pytest.raises(FileProblem, match=message):
        install(file, b"one")


def test_a_directory_in_its_place_is_a_problem(tmp_path: Path) -> None:
    with pytest.raises(FileProblem, match="is a directory"):
        examine(wanted(tmp_path), b"one")


@pytest.mark.parametrize("value", ["0640", "640", 0o640, "0600", "0400", 0o440])
def test_modes_that_suit_a_secret(value: object) -> None:
    assert parse_secret_mode(value) & 0o137 == 0


@pytest.mark.parametrize("value", ["0644", "0660", "0750", 640, "0", "u=rw", "", True, -1])
def test_modes_that_do_not(value: object) -> None:
    with pytest.raises(FileProblem, match="mode: "):
        parse_secret_mode(value)
