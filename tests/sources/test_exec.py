"""Another program's output as a source, and how often it is started again."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from entropy.errors import ConfigError, SourceError, SourceGone
from entropy.sources import exec as exec_module
from entropy.sources.exec import ExecSource
from entropy.sources.uri import source_for


def program(tmp_path: Path, text: str) -> ExecSource:
    path = tmp_path / "tool.py"
    path.write_text(text)
    source = source_for(f"exec:{sys.executable} -S {path} 'two words'")
    assert isinstance(source, ExecSource)
    return source


def read_all(source: ExecSource) -> bytes:
    samples = b""
    try:
        while True:
            samples += source.read(1024)
    except SourceGone:
        return samples


def await_end(pid: int) -> None:
    """Until it has gone, or is a zombie that nobody has reaped yet."""
    status = Path(f"/proc/{pid}/stat")
    deadline = time.monotonic() + 20
    with suppress(OSError):  # it may go while we look
        while status.read_text().rpartition(")")[2].split()[0] != "Z":
            assert time.monotonic() < deadline
            time.sleep(0.01)


def refused(source: ExecSource) -> str:
    """Why it cannot be opened now, or ""."""
    try:
        source.open()
    except SourceGone as gone:
        return str(gone)
    return ""


def test_words_are_split_as_a_shell_does_and_no_shell_runs(tmp_path: Path) -> None:
    source = program(tmp_path, "import sys; sys.stdout.write('$HOME;' + repr(sys.argv[1:]))")
    source.open()
    assert read_all(source) == b"$HOME;['two words']"
    source.close()


def test_its_end_says_how(tmp_path: Path) -> None:
    for text, message in (
        ("raise SystemExit(3)", "the program ended with status 3"),
        ("import os; os.kill(os.getpid(), 9)", r"was ended by signal 9 \(SIGKILL\)"),
    ):
        source = program(tmp_path, text)
        source.open()
        with pytest.raises(SourceGone, match=message):
            source.read(10)
        source.close()


def test_it_is_started_again_ever_more_slowly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(exec_module.time, "monotonic", lambda: now)
    source = program(tmp_path, "print('x')")
    waits = []
    for _ in range(9):
        source.open()
        read_all(source)
        waited = 0.0
        while why := refused(source):
            assert "the program ended with status 0" in why
            waited += 0.5
            now += 0.5
        waits.append(waited)
        source.close()
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]

    source.open()
    now += 61  # a long run: at once again, and after the next short one soon
    read_all(source)
    assert not refused(source)
    read_all(source)
    assert refused(source)
    now += 1
    assert not refused(source)
    source.close()


def test_a_program_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exec_module, "SILENCE_SECONDS", 0.05)
    source = program(tmp_path, "import time; time.sleep(1000)")
    source.open()
    process = source._process
    assert process is not None
    with pytest.raises(SourceGone, match=r"gave nothing for 0\.05 s"):
        source.read(10)
    source.close()
    assert process.poll() is not None


def test_what_it_started_ends_with_it(tmp_path: Path) -> None:
    source = program(
        tmp_path,
        "import subprocess, sys\n"
        "child = subprocess.Popen(['sleep', '1000'])\n"
        "print(child.pid, flush=True)\n"
        "child.wait()\n",
    )
    source.open()
    pid = int(source.read(100))
    source.close()
    await_end(pid)


def test_what_it_started_ends_with_it_also_when_it_does_not_listen(tmp_path: Path) -> None:
    """The program ends when it is asked to, its child does not."""
    source = program(
        tmp_path,
        "import os, signal, time\n"
        "if os.fork() == 0:\n"
        "    signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "    print(os.getpid(), flush=True)\n"
        "time.sleep(1000)\n",
    )
    source.open()
    pid = int(source.read(100))
    source.close()
    await_end(pid)


def test_systemd_speaks_to_us_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/somewhere")
    source = program(tmp_path, "import os; print('NOTIFY_SOCKET' in os.environ)")
    source.open()
    assert read_all(source) == b"False\n"
    source.close()


def test_a_program_that_is_not_there() -> None:
    source = source_for("exec:/nowhere/tool --fast")
    with pytest.raises(SourceError, match="/nowhere/tool cannot be run: No such file"):
        source.open()


@pytest.mark.parametrize(
    ("uri", "message"),
    [("exec:", "names no program"), ("exec:'", "cannot be split into words: No closing quotation")],
)
def test_what_is_no_command(uri: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        source_for(uri)


def test_it_earns_nothing_unless_told() -> None:
    assert source_for("exec:camera").figures.credit_bits_per_byte == 0
