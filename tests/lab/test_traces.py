"""A lab that is gone has left nothing behind on the machine."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.names import CHECKOUT

pytestmark = pytest.mark.lab

RUN = Path("/run/entropy-lab-of-tests")

# Values in /proc/sys that change by themselves, and those of links that come and go.
RESTLESS = re.compile(
    r"fs/(dentry-state|file-nr|inode-nr|inode-state|aio-nr|quota/.*)"
    r"|kernel/(ns_last_pid|random/.*|pty/nr|perf_event_max_sample_rate)"
    r"|net/netfilter/nf_conntrack_count"
)

# What a firewall has counted, as iptables-save and nft print it.
COUNTERS = re.compile(r"\[\d+:\d+\]|counter packets \d+ bytes \d+")


def printed(*argv: str) -> str:
    """What a program prints, sorted where the order means nothing; nothing if it is missing."""
    if shutil.which(argv[0]) is None:
        return ""
    sudo = [] if os.geteuid() == 0 else ["sudo"]
    done = subprocess.run([*sudo, *argv], capture_output=True, text=True, check=True)
    return done.stdout


def sysctls() -> dict[str, str]:
    found = {}
    top = Path("/proc/sys")
    for path in top.rglob("*"):
        name = str(path.relative_to(top))
        if path.is_file() and os.access(path, os.R_OK) and not RESTLESS.fullmatch(name):
            try:
                found[name] = path.read_text()
            except OSError:
                continue
    return found


def links() -> list[str]:
    return sorted(link["ifname"] for link in json.loads(printed("ip", "-json", "link")))


def mounts() -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return sorted(line.split(" ", 3)[3] for line in lines)


def machine() -> dict[str, object]:
    """All that a lab touches on the machine, as it is now."""
    return {
        "links": links(),
        "routes": sorted(printed("ip", "-4", "route", "show", "table", "all").splitlines()),
        "mounts": mounts(),
        "folders": sorted(path.name for path in RUN.glob("entropy-*")),
        "networks": sorted(os.listdir("/etc/containers/networks"))
        if Path("/etc/containers/networks").is_dir()
        else [],
    } | ({} if SHARED else firewall())


def firewall() -> dict[str, object]:
    return {
        "iptables": without_counters(printed("iptables-save")),
        "ip6tables": without_counters(printed("ip6tables-save")),
        "nft": COUNTERS.sub("", printed("nft", "list", "ruleset")),
    }


def monitors() -> set[int]:
    """Processes of podman's that watch over a container."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            program = path.read_bytes().split(b"\0")[0]
        except OSError:
            continue
        if program.endswith(b"/conmon"):
            found.add(int(path.parent.name))
    return found


# Whether there are foreign containers: what they may need stays as it is until they have gone.
SHARED = bool(monitors())


def await_end(pids: set[int]) -> None:
    """A monitor outlives its container by the blink that its last task takes."""
    deadline = time.monotonic() + 30
    while pids & monitors():
        assert time.monotonic() < deadline, f"conmon still runs: {pids & monitors()}"
        time.sleep(0.05)


def without_counters(text: str) -> list[str]:
    return [COUNTERS.sub("", line) for line in text.splitlines() if line[:1] != "#"]


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A checkout of its own, whose lab keeps its books apart from any other on this machine."""
    monkeypatch.setenv("ENTROPY_LAB_RUN", str(RUN))
    shutil.copytree(CHECKOUT / "lab", tmp_path / "lab")
    lab(tmp_path, "down")
    forget()
    yield tmp_path
    lab(tmp_path, "down")
    forget()


def forget() -> None:
    """A lab beside a foreign one leaves what the machine was like for the last one to put back."""
    printed("rm", "-rf", "--one-file-system", str(RUN))


def lab(checkout: Path, *words: str, timeout_seconds: float = 300) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "lab", *words],
        cwd=checkout,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=timeout_seconds,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def changed(before: dict[str, str], after: dict[str, str]) -> dict[str, tuple[str, str]]:
    return {k: (v, after[k]) for k, v in before.items() if k in after and after[k] != v}


def test_up_and_down_leave_the_machine_as_it_was(checkout: Path) -> None:
    lab(checkout, "image")  # its making is not what is tested; the image stays
    lab(checkout, "down")
    before, sysctls_before, monitors_before = machine(), sysctls(), monitors()

    lab(checkout, "up")
    state = json.loads((checkout / ".lab" / "state.json").read_text())
    assert state["bridge"] in links()
    assert len(monitors() - monitors_before) >= len(state["hosts"])

    lab(checkout, "down")
    await_end(monitors() - monitors_before)
    assert machine() == before
    if not SHARED:
        assert changed(sysctls_before, sysctls()) == {}
    assert not (checkout / ".lab").exists()

    lab(checkout, "down")  # and once more, with nothing there
    assert machine() == before


def test_a_second_up_changes_nothing(checkout: Path) -> None:
    lab(checkout, "up")
    files = {path: path.read_bytes() for path in (checkout / ".lab").iterdir() if path.is_file()}
    containers = lab(checkout, "podman", "ps", "--no-trunc", "--format", "{{.ID}} {{.StartedAt}}")
    lab(checkout, "up")
    assert files == {path: path.read_bytes() for path in files}
    again = lab(checkout, "podman", "ps", "--no-trunc", "--format", "{{.ID}} {{.StartedAt}}")
    assert again == containers


def test_down_after_an_up_that_was_cut_short(checkout: Path) -> None:
    before, monitors_before = machine(), monitors()
    with subprocess.Popen(
        [sys.executable, "-m", "lab", "up"],
        cwd=checkout,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as up:
        assert up.stderr is not None
        for line in up.stderr:
            if "starting" in line:
                up.kill()
                break
    lab(checkout, "down")
    await_end(monitors() - monitors_before)
    assert machine() == before


def test_what_a_deleted_checkout_left_is_swept_away(checkout: Path, tmp_path: Path) -> None:
    before, monitors_before = machine(), monitors()
    other = tmp_path / "other"
    shutil.copytree(CHECKOUT / "lab", other / "lab")
    lab(other, "up")
    prefix = json.loads((other / ".lab" / "state.json").read_text())["prefix"]
    lab(checkout, "down")
    assert (RUN / prefix).is_dir(), "a lab that is in use was taken for a stray"

    shutil.rmtree(other)
    lab(checkout, "down")
    await_end(monitors() - monitors_before)
    assert machine() == before


def test_what_another_boot_left_is_not_believed(checkout: Path) -> None:
    printed("mkdir", "-p", f"{RUN}/entropy-00000000")
    printed("sh", "-c", f"echo another >{RUN}/boot_id; echo cut sho >{RUN}/before.json")
    lab(checkout, "down")
    assert not (RUN / "entropy-00000000").exists()
    books = RUN / "before.json"  # gone, unless a foreign lab is up
    assert not books.exists() or json.loads(books.read_text())


def test_up_brings_back_what_was_stopped_or_paused(checkout: Path) -> None:
    lab(checkout, "up")
    state = json.loads((checkout / ".lab" / "state.json").read_text())
    names = [state["hosts"][host]["container"] for host in ("vm1", "broker1", "rng2")]
    lab(checkout, "podman", "stop", "--time", "0", names[0])
    lab(checkout, "podman", "pause", names[1])
    lab(checkout, "podman", "rm", "--force", "--time", "0", names[2])
    lab(checkout, "up")
    lab(checkout, "status")
    for host in state["hosts"]:
        ssh = ["ssh", "-F", ".lab/ssh_config", host, "true"]
        done = subprocess.run(ssh, cwd=checkout, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{host}: {done.stderr}"


def test_secrets_are_private(checkout: Path) -> None:
    lab(checkout, "up")
    folder = checkout / ".lab"
    assert folder.stat().st_mode & 0o777 == 0o700
    for name in ("ssh_key", "vault_password", "state.json", "known_hosts"):
        assert (folder / name).stat().st_mode & 0o077 == 0, name
