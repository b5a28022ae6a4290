"""The two units of a boot: early enough, bounded in time, sandboxed, and in nobody's way."""

from __future__ import annotations

import configparser
import shutil
import subprocess
from pathlib import Path

import pytest

from .layout import DEBIAN

EARLY, FIRST = "entropy-early-seed.service", "entropy-first-seed.service"
needs_systemd = pytest.mark.skipif(
    not shutil.which("systemd-analyze"), reason="systemd is not installed here"
)


class _Unit(configparser.RawConfigParser):
    """A unit file; the values of a key that is repeated, in a row."""

    def __init__(self, name: str) -> None:
        super().__init__(strict=False, interpolation=None, delimiters=("=",))
        self.words: dict[str, list[str]] = {}
        text = (DEBIAN / f"entropy-client.{name}").read_text()
        for line in text.splitlines():
            key, equals, value = line.partition("=")
            if equals and not line.startswith("#"):
                self.words.setdefault(key, []).extend(value.split())
        self.read_string(text)

    def optionxform(self, optionstr: str) -> str:
        return optionstr


def _analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    argv = ["systemd-analyze", "--no-pager", *arguments]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)


@needs_systemd
@pytest.mark.parametrize("unit", [EARLY, FIRST])
def test_systemd_understands_it_and_finds_it_sandboxed(unit: str, tmp_path: Path) -> None:
    path = tmp_path / unit
    path.write_bytes((DEBIAN / f"entropy-client.{unit}").read_bytes())
    done = _analyze("security", "--offline=true", "--threshold=20", path)
    assert done.returncode == 0, (done.stdout + done.stderr)[-2000:]
    said = _analyze("verify", path).stderr.splitlines()
    assert [line for line in said if line.startswith(f"{path}:") and "ignoring" in line] == []


@pytest.mark.parametrize("unit", [EARLY, FIRST])
def test_no_boot_fails_or_hangs_on_it(unit: str) -> None:
    service = _Unit(unit)["Service"]
    assert service["Type"] == "oneshot"
    assert service["ExecStart"].startswith("-/")
    assert int(service["TimeoutStartSec"]) <= 30
    for key in ("RequiredBy", "BindsTo", "Requires", "Requisite", "FailureAction", "Restart"):
        assert key not in _Unit(unit).words


@pytest.mark.parametrize("unit", [EARLY, FIRST])
def test_python_does_not_wake_the_kernel(unit: str) -> None:
    words = _Unit(unit).words
    assert "PYTHONHASHSEED=0" in words["Environment"]
    command = words["ExecStart"]
    assert "-S" in command  # no start-up code of other packages
    assert not {"-I", "-E"} & set(command)  # these would ignore the hash seed


def test_the_early_one_is_before_all_that_makes_keys() -> None:
    words = _Unit(EARLY).words
    assert words["DefaultDependencies"] == ["no"]
    assert {"sysinit.target", "systemd-random-seed.service", "cloud-init.service"} <= set(
        words["Before"]
    )
    assert "network" not in " ".join(words["After"])
    assert words["PrivateNetwork"] == ["yes"]
    assert words["CapabilityBoundingSet"] == ["CAP_SYS_ADMIN"]


def test_the_other_is_before_host_keys_and_waits_for_no_network_itself() -> None:
    words = _Unit(FIRST).words
    assert {"ssh.service", "sshd.service", "sshd-keygen.target"} <= set(words["Before"])
    assert "network-online.target" not in [*words["After"], *words.get("Wants", [])]
    assert words["AmbientCapabilities"] == ["CAP_SYS_ADMIN"]
    assert words["User"] == ["entropy-client"]
