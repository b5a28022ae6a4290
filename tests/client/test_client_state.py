"""What a client remembers: a counter that never repeats, whoever takes it."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from entropy.client_state import ClientState

BOOT = bytes(range(16))
ROOT = Path(__file__).resolve().parent.parent.parent


def test_the_counter_goes_up_from_what_is_kept(tmp_path: Path) -> None:
    first = ClientState(str(tmp_path)).next_counter(BOOT)
    again = ClientState(str(tmp_path))
    assert [again.next_counter(BOOT) for _ in range(3)] == [first + 1, first + 2, first + 3]
    assert again.read() == {"counter": first + 3, "boot_id": BOOT.hex()}


def test_a_record_keeps_the_counter(tmp_path: Path) -> None:
    state = ClientState(str(tmp_path))
    counter = state.next_counter(BOOT)
    state.record(last_broker="broker1", last_credit_bits=448)
    assert state.next_counter(BOOT) == counter + 1
    assert state.read()["last_broker"] == "broker1"
    assert state.read()["last_credit_bits"] == 448


def test_the_file_is_the_owners_alone(tmp_path: Path) -> None:
    ClientState(str(tmp_path)).next_counter(BOOT)
    for name in ("state.json", "lock"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    assert sorted(os.listdir(tmp_path)) == ["lock", "state.json"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_root_leaves_the_files_to_the_service(tmp_path: Path) -> None:
    os.chown(tmp_path, 65534, 65534)
    ClientState(str(tmp_path)).next_counter(BOOT)
    for name in ("state.json", "lock"):
        assert (tmp_path / name).stat().st_uid == 65534


def test_a_link_in_the_place_of_the_file_is_not_followed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Root draws, too, and must not copy its own files to where the service can read them."""
    directory, elsewhere = tmp_path / "state", tmp_path / "secret.json"
    directory.mkdir()
    elsewhere.write_text('{"token": "of somebody else"}')
    (directory / "state.json").symlink_to(elsewhere)
    state = ClientState(str(directory))
    assert state.next_counter(BOOT) > 10**15
    state.record(last_kind="seed")
    assert (directory / "state.json").is_symlink()
    assert elsewhere.read_text() == '{"token": "of somebody else"}'
    assert "cannot keep the counter here" in capsys.readouterr().err


def test_a_pipe_in_the_place_of_the_file_holds_nobody_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "state.json")
    state = ClientState(str(tmp_path))
    assert state.next_counter(BOOT) + 1 == state.next_counter(BOOT)


def test_where_there_are_no_locks_no_descriptor_is_left_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    state = ClientState(str(tmp_path))
    state.next_counter(BOOT)
    before = os.listdir("/proc/self/fd")
    for _ in range(5):
        state.next_counter(BOOT)
    assert len(os.listdir("/proc/self/fd")) == len(before)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"counter": "x"}', '{"counter": -1}'])
def test_a_broken_file_is_begun_anew(tmp_path: Path, text: str) -> None:
    (tmp_path / "state.json").write_text(text)
    state = ClientState(str(tmp_path))
    first = state.next_counter(BOOT)
    assert first > 10**15  # the clock's nanoseconds: above whatever was counted before
    assert state.next_counter(BOOT) == first + 1


def test_a_directory_that_is_not_there_is_told_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = ClientState(str(tmp_path / "none"))
    counters = [state.next_counter(BOOT) for _ in range(3)]
    state.record(last_kind="seed")
    assert counters == sorted(set(counters))
    assert capsys.readouterr().err.count("the clock stands in for it") == 1


def test_many_processes_take_each_number_once(tmp_path: Path) -> None:
    program = (
        "import sys; from entropy.client_state import ClientState\n"
        "state = ClientState(sys.argv[1])\n"
        "print(*[state.next_counter(bytes(16)) for _ in range(50)])"
    )
    (tmp_path / "state.json").write_text(f'{{"counter": 0, "boot_id": "{bytes(16).hex()}"}}')
    running = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    taken = [int(word) for process in running for word in process.communicate()[0].split()]
    assert sorted(taken) == list(range(1, 201))


def test_another_boot_never_goes_on_from_the_last_ones_counter(tmp_path: Path) -> None:
    """A copy of the disk that is started elsewhere has the same file."""
    state = ClientState(str(tmp_path))
    (tmp_path / "state.json").write_text(f'{{"counter": 7, "boot_id": "{BOOT.hex()}"}}')
    assert state.next_counter(BOOT) == 8
    assert state.next_counter(bytes(16)) > 10**15
    # Nor does a clock that was set back take it below what was used.
    (tmp_path / "state.json").write_text(f'{{"counter": {2**63}, "boot_id": "{BOOT.hex()}"}}')
    assert state.next_counter(bytes(16)) == 2**63 + 1


def test_a_clone_logs_in_under_a_boot_id_of_its_own(tmp_path: Path) -> None:
    state, own = ClientState(str(tmp_path)), bytes(range(100, 116))
    assert state.boot_id(BOOT) == BOOT
    used = state.next_counter(BOOT)
    state.begin_generation(BOOT, own)
    assert state.boot_id(BOOT) == own
    assert state.next_counter(own) > used
    assert ClientState(str(tmp_path)).boot_id(BOOT) == own, "kept with the counter"
    assert state.boot_id(bytes(16)) == bytes(16), "after a reboot it is over"


def test_a_generation_is_kept_although_nobody_logs_in(tmp_path: Path) -> None:
    state, own = ClientState(str(tmp_path)), bytes(range(100, 116))
    state.keep()
    assert not (tmp_path / "state.json").exists(), "there was nothing to keep"
    state.begin_generation(BOOT, own)
    state.keep()
    assert ClientState(str(tmp_path)).boot_id(BOOT) == own


def test_what_dies_halfway_leaves_one_file_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The temporary file has one name, whatever process writes it."""

    def die(*_: object) -> None:
        raise OSError(errno.EIO, "the machine lost its disk")

    state = ClientState(str(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr("os.rename", die)
        patch.setattr("entropy.client_state._remove", lambda _: None)
        patch.setattr("os.getpid", iter(range(1000, 2000)).__next__)
        state.next_counter(BOOT)
    left = [name for name in os.listdir(tmp_path) if name != "lock"]
    assert len(left) == 1
    state.next_counter(BOOT)
    assert sorted(os.listdir(tmp_path)) == ["lock", "state.json"]


@pytest.mark.parametrize("kept", ["7", "{}", '{"kernel_boot_id": 1}', "null"])
def test_a_generation_that_cannot_be_read(tmp_path: Path, kept: str) -> None:
    (tmp_path / "state.json").write_text(f'{{"generation": {kept}}}')
    assert ClientState(str(tmp_path)).boot_id(BOOT) == BOOT
