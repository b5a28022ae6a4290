"""The command line: one line for each mistake, the right exit status, and no traceback."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from entropy import __version__, cli, status
from entropy.errors import ControlError, CredentialError, EntropyError

ROOT = Path(__file__).resolve().parent.parent


def entropy(*arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "entropy", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        **more,
    )


def test_the_version() -> None:
    done = entropy("--version")
    assert (done.returncode, done.stdout) == (0, f"entropy {__version__}\n")


WRONG = [
    ((), "COMMAND"),
    (("brew",), "brew"),
    (("client",), "--config"),
    (("client", "--config", "c.toml", "--twice"), "--twice"),
    (("client", "--config", "/nonexistent/c.toml"), "/nonexistent/c.toml: cannot be read"),
    (("broker", "--config", "/nonexistent/b.toml"), "/nonexistent/b.toml: cannot be read"),
    (("feeder", "--config", "/nonexistent/f.toml"), "/nonexistent/f.toml: cannot be read"),
    (("draw", "--config", "/nonexistent/c.toml", "--bytes", "8"), "cannot be read"),
    (("draw", "--config", "c.toml", "--bytes", "many"), "'many' is not a number of bytes"),
    (("draw", "--config", "c.toml", "--bytes", "0"), "'0' is not a number of bytes"),
    (("sample", "--source", "file:x", "--bytes", "8", "--credit", "9"), "'9' is not a number of"),
    (("sample", "--source", "dice:", "--bytes", "8"), "dice:"),
    (("sample", "--source", "serial:/dev/null?model=truerng"), "--bytes"),
    (("status", "--control"), "--control"),
    (("status", "--state-dir", "/tmp"), "it goes with --client"),
    (("drain", "--wait", "soon"), "'soon' is not a number of seconds"),
    (("gateway", "egd", "--config", "/nonexistent/g.toml"), "/nonexistent/g.toml: cannot be read"),
    (("credential", "export", "--id", "vm1", "--json"), "--state-dir"),
    (("seed", "issue", "--id", "vm1", "--uuid", "x", "--broker", "b:1"), "'x' is not the UUID"),
]


@pytest.mark.parametrize(("arguments", "says"), WRONG, ids=[" ".join(a) for a, _ in WRONG])
def test_wrong_input_gets_one_line(
    arguments: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert says in captured.err
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "result", "says"),
    [
        (EntropyError("it broke"), 1, "entropy: it broke\n"),
        (CredentialError("too open"), 2, "entropy: too open\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_how_errors_end(
    error: BaseException,
    result: int,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: object, **__: object) -> int:
        raise error

    monkeypatch.setattr("entropy.status.run", fail)
    assert cli.main(["status"]) == result
    assert capsys.readouterr().err == says


def test_a_reader_that_leaves_is_no_error() -> None:
    """As in `entropy ... | head -c 1`: the pipe is closed before the first byte."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        arguments = ["sample", "--raw", "--source", "kernel:", "--bytes", "100000"]
        done = subprocess.run(
            [sys.executable, "-m", "entropy", *arguments],
            cwd=ROOT,
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    finally:
        os.close(writer)
    assert done.stderr == ""
    assert done.returncode == 1


@pytest.mark.parametrize("n_bytes", [100, 100_000])  # at the last flush, and on the way
def test_output_that_cannot_be_written_gets_one_line(n_bytes: int) -> None:
    arguments = ["sample", "--raw", "--source", "kernel:", "--bytes", str(n_bytes)]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "entropy", *arguments],
            cwd=ROOT,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    assert done.stderr == "entropy: cannot write the output: No space left on device\n"
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("arguments", "closed", "result", "says"),
    [
        (("sources",), ">&-", 1, "entropy: cannot write the output: No space left on device\n"),
        (("sample", "--raw", "--source", "kernel:", "--bytes", "9"), ">&-", 1, "cannot write"),
        (("client", "--config", "/nonexistent"), ">&- <&-", 2, "/nonexistent: cannot be read"),
        (("client", "--config", "/nonexistent"), "2>&-", 2, ""),
    ],
    ids=["sources", "sample", "client", "messages"],
)
def test_closed_standard_files_get_one_line_at_most(
    arguments: tuple[str, ...], closed: str, result: int, says: str
) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", f'"$0" -m entropy "$@" {closed}', sys.executable, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert says in done.stderr
    assert done.stderr.count("\n") == bool(says)
    assert (done.returncode, done.stdout) == (result, "")


EVERY = [
    *("broker", "feeder", "client", "early-seed", "first-seed", "gateway egd", "draw", "sample"),
    *("assess", "sources", "status", "drain", "credential export", "seed issue", "demo"),
]


@pytest.mark.parametrize("command", EVERY)
def test_every_option_of_every_command_is_explained(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([*command.split(), "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out.partition("options:\n")[2].splitlines()
    assert shown
    for line, following in zip(shown, [*shown[1:], ""]):
        words = line.split()
        if words and words[0].startswith("-"):
            explained = "  " in line.strip() or following.startswith(" " * 8)
            assert explained, line


def test_an_interrupt_while_python_still_loads_us_is_silent() -> None:
    """Before `main` there is nobody who could say it better than the shell."""
    program = (
        "import runpy, sys\n"
        "class Finder:\n"
        "    def find_spec(self, name, *more):\n"
        "        if name == 'entropy.cli': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Finder())\n"
        "runpy.run_module('entropy', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_a_daemon_loads_only_its_own() -> None:
    """`entropy client` must not pay for what the broker needs; see tests/test_walls.py too."""
    program = (
        "import sys; from entropy import cli\n"
        "cli.main(['client', '--config', '/nonexistent'])\n"
        "print(*sorted(m for m in sys.modules if m.startswith('entropy.')"
        " and ('broker' in m or 'sources' in m or 'aio' in m)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []


STATUS: dict[str, Any] = {
    "version": "0.1.0",
    "broker_id": "broker1",
    "site_id": "lab",
    "epoch": "00" * 16,
    "uptime_seconds": 7500,
    "ready": True,
    "acl_generation": 7,
    "reservoir": {
        "held_blocks": 50,
        "imported_blocks": 3,
        "capacity_blocks": 100,
        "held_bits": 25600,
        "low_mark_blocks": 10,
        "high_mark_blocks": 50,
    },
    "accounting": {
        "fed_bits": 30000,
        "imported_bits": 1500,
        "held_bits": 25600,
        "delivered_bits": 5000,
        "exported_bits": 400,
        "spent_bits": 500,
        "lost_bits": 0,
    },
    "feeders": [
        {
            "id": "rng1",
            "connected": True,
            "fed_bits": 30000,
            "lost_bits": 0,
            "recalled_bits": 0,
            "last_feed_unix": 995,
        }
    ],
    "peers": [
        {
            "id": "broker2",
            "endpoint": "10.0.0.12:25226",
            "state": "idle",
            "imported_bits": 1500,
            "last_import_unix": None,
            "last_error": None,
        }
    ],
    "clients": [
        {
            "id": "vm1",
            "connected": False,
            "draws": 2,
            "delivered_bytes": 96,
            "delivered_bits": 704,
            "last_draw_unix": 400,
            "last_credit_bits": 256,
            "last_kind": "topup",
        }
    ],
    "sessions": 1,
    "waiting_draws": 0,
    "refusals": {"authentication": 2, "permission": 0},
    "alarms": [{"unix": 940, "text": "vm2: its counter did not increase"}],
}


def test_the_status_as_people_read_it() -> None:
    text = "\n".join(status.as_text(STATUS, now=1000))
    for words in (
        "broker broker1 of lab: ready, up 2 h 5 min",
        "50 of 100 blocks [##########..........] 25600 bits",
        "refused     authentication 2\n",
        "rng1    connected",
        "vm1                2     96   704  10 min 0 s ago  topup, 256 bits",
        "broker2  10.0.0.12:25226  idle            1500  never",
        "ALARM 1 min 0 s ago: vm2: its counter did not increase",
    ):
        assert words in text
    assert not any(line.endswith(" ") for line in text.splitlines())


@pytest.fixture
def control(tmp_path: Path) -> Iterator[list[bytes]]:
    """A control socket at tmp_path/control; the list holds what it answers."""
    answers: list[bytes] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "control"))
        listener.listen()

        def serve() -> None:
            with listener.accept()[0] as channel:
                assert json.loads(channel.recv(1000)) == {"command": "status"}
                channel.sendall(answers[0])

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield answers
    thread.join(5)


def test_status_asks_the_control_socket(
    control: list[bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    control.append(json.dumps({"ok": True, "status": STATUS}).encode() + b"\n")
    assert cli.main(["status", "--json", "--control", str(tmp_path / "control")]) == 0
    assert json.loads(capsys.readouterr().out) == STATUS


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b'{"ok": false, "error": "not now"}\n', "the broker says: not now"),
        (b"what?\n", "not a broker's"),
        (b'{"ok": true}', "not a status that this version understands"),
        (b'{"ok": true, "status": {}}', "not a status that this version understands"),
        (b"", "not a broker's"),
    ],
)
def test_answers_that_are_none(
    control: list[bytes], tmp_path: Path, answer: bytes, says: str
) -> None:
    control.append(answer)
    with pytest.raises(ControlError, match=says):
        status.run(str(tmp_path / "control"), as_json=False)


def test_no_broker_here(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["status", "--control", str(tmp_path / "none")]) == 1
    assert "does a broker run on this machine?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.9, "59 s"), (61, "1 min 1 s"), (7199, "1 h 59 min"), (90000, "1 d 1 h")],
)
def test_durations(seconds: float, text: str) -> None:
    assert status.duration(seconds) == text
