"""The units, users and folders, as systemd itself reads them. Needs no running systemd."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from entropy.open_signs import SIGNS

from .layout import CHECKOUT, DEBIAN, MODULES, SERVICES, UNITS

needs_systemd = pytest.mark.skipif(
    not shutil.which("systemd-analyze"), reason="systemd is not installed here"
)


class _Unit(configparser.RawConfigParser):
    """A unit file; of a key that is repeated, the last value."""

    def __init__(self, name: str) -> None:
        super().__init__(strict=False, interpolation=None, delimiters=("=",))
        self.read(DEBIAN / name)

    def optionxform(self, optionstr: str) -> str:
        return optionstr


def _run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def _analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return _run("systemd-analyze", "--no-pager", *arguments)


@needs_systemd
@pytest.mark.parametrize(("unit", "most"), UNITS.items())
def test_exposure(unit: str, most: float) -> None:
    threshold = f"--threshold={most * 10:.0f}"
    done = _analyze("security", "--offline=true", threshold, DEBIAN / unit)
    assert done.returncode == 0, (done.stdout + done.stderr)[-2000:]
    assert "Overall exposure level" in done.stdout


@needs_systemd
def test_a_service_without_a_sandbox_would_be_noticed(tmp_path: Path) -> None:
    (tmp_path / "bare.service").write_text("[Service]\nExecStart=/bin/true\n")
    done = _analyze("security", "--offline=true", "--threshold=20", tmp_path / "bare.service")
    assert done.returncode != 0


@needs_systemd
@pytest.mark.parametrize("unit", UNITS)
def test_systemd_understands_every_line(unit: str) -> None:
    assert _not_understood(DEBIAN / unit) == []


@needs_systemd
def test_a_line_that_systemd_does_not_understand_would_be_noticed(tmp_path: Path) -> None:
    lines = (DEBIAN / "entropy-feeder@.service").read_text().splitlines()
    lines[-3:-3] = ["RestrictEverything=yes", "SystemCallFilter=@nothing", "WatchdogSec=soon"]
    (tmp_path / "entropy-feeder@.service").write_text("\n".join(lines))
    assert len(_not_understood(tmp_path / "entropy-feeder@.service")) == 3


def _not_understood(unit: Path) -> list[str]:
    # systemd also finds that the command and the manual are not installed here: not asked.
    said = _analyze("verify", unit).stderr.splitlines()
    return [line for line in said if line.startswith(f"{unit}:") and "ignoring" in line]


@pytest.mark.parametrize("unit", UNITS)
def test_how_a_service_runs(unit: str) -> None:
    service = _Unit(unit)["Service"]
    name = unit.removesuffix(".service").removesuffix("@")
    assert service["Type"] == "notify"
    assert service["Restart"] == "always"
    assert service["RestartPreventExitStatus"] == "2"  # a wrong configuration
    assert 10 <= int(service["WatchdogSec"]) <= 120
    assert service["User"] == service["Group"] == name
    assert service["LimitCORE"] == service["MemorySwapMax"] == "0"  # nothing reaches a disk


def test_no_boot_waits_for_the_client() -> None:
    unit = _Unit("entropy-client.service")
    assert int(unit["Service"]["TimeoutStartSec"]) <= 30
    for key in ("Before", "RequiredBy", "BindsTo", "Requires", "Requisite", "FailureAction"):
        assert key not in unit["Unit"]
    assert dict(unit["Install"]) == {"WantedBy": "multi-user.target"}


def test_who_may_have_which_capability() -> None:
    held = {unit: set(_Unit(unit)["Service"]["CapabilityBoundingSet"].split()) for unit in UNITS}
    assert held.pop("entropy-client.service") == {"CAP_SYS_ADMIN"}  # to credit the kernel
    assert set().union(*held.values()) == set()


@pytest.mark.parametrize("unit", UNITS)
def test_a_service_hears_of_clones_without_a_right_to_it(unit: str) -> None:
    service = _Unit(unit)["Service"]
    # With this one /dev/kmsg cannot be opened, also where /dev is the machine's own: a feeder's.
    assert service["ProtectKernelLogs"] == "yes"
    assert service.get("PrivateDevices", "yes") == "yes"
    command = service["ExecStartPre"].split()
    assert command[:-1] == ["+-/usr/bin/python3", "-I", "-S"]
    assert command[-1] == f"/{MODULES}entropy/open_signs.py"
    assert (CHECKOUT / "entropy" / "open_signs.py").exists()
    assert service["NotifyAccess"] == "exec"  # systemd listens to that command as well
    assert int(service["FileDescriptorStoreMax"]) == len(SIGNS)
    allowed = re.findall(r"^DeviceAllow=(\S+) r$", (DEBIAN / unit).read_text(), re.MULTILINE)
    own = {"/dev/hwrng"} if "feeder" in unit else set()
    assert sorted(allowed) == sorted(own.union(SIGNS.values()))
    assert ("PrivateDevices" in service) == (not own)


@needs_systemd
@pytest.mark.parametrize("package", SERVICES)
def test_users_and_folders(package: str, tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    done = _run("systemd-sysusers", f"--root={tmp_path}", DEBIAN / f"{package}.sysusers")
    if done.returncode:  # without root it may not set the owner of what it makes
        pytest.skip(f"systemd-sysusers: {done.stderr.strip()}")
    users = (tmp_path / "etc/passwd").read_text()
    assert users.startswith(f"{package}:")
    assert users.endswith(":/usr/sbin/nologin\n")
    folders = DEBIAN / f"{package}.tmpfiles"
    if not folders.exists():
        return
    # Everything is excluded, so it is only read. A line that cannot be read is status 65.
    with (tmp_path / "etc/passwd").open("a") as passwd:
        passwd.write("root:x:0:0::/root:/bin/sh\n")
    root = f"--root={tmp_path}"
    done = _run("systemd-tmpfiles", root, "--create", "--exclude-prefix=/", folders)
    assert (done.returncode, done.stderr) == (0, "")
