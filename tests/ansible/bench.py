"""What issuing and publishing credentials costs: `make bench-credentials`.

An inventory of so many VMs, the real playbook's role, a real vault, a real disk, and no hosts. For
each size three runs: all VMs are new, nothing is new, one VM is new. Each is a whole
ansible-playbook, from its start to its end. The memory is what its processes take together at
their peak, pages that they share counted once (PSS).
"""

from __future__ import annotations

import argparse
import contextlib
import grp
import json
import os
import pwd
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
MOST_SECONDS, MOST_MIB = 30.0, 200.0  # for the first run of 1,000 VMs
JUDGED_VMS = 1000
LOOK_SECONDS = 0.05


class Cost(NamedTuple):
    """Of one run: seconds by the clock, seconds of processors, MiB at its peak."""

    wall_seconds: float
    cpu_seconds: float
    peak_mib: float


def inventory(directory: Path, n_vms: int) -> Path:
    """Two brokers and so many VMs, with all that the playbooks need to know."""
    here = {"ansible_connection": "local", "ansible_host": "127.0.0.1"}
    groups = {
        "entropy_brokers": {"hosts": {f"broker{n}": here for n in (1, 2)}},
        "entropy_clients": {"hosts": {f"vm{n}": {} for n in range(n_vms)}},
    }
    variables = {
        "ansible_python_interpreter": sys.executable,
        "entropy_site_id": "bench",
        "entropy_state_dir": str(directory / "state"),
        "entropy_bootstrap": True,
        "bench_directory": str(directory),
        "bench_owner": pwd.getpwuid(os.getuid()).pw_name,
        "bench_group": grp.getgrgid(os.getgid()).gr_name,
    }
    path = directory / "inventory.json"
    path.write_text(json.dumps({"all": {"children": groups, "vars": variables}}))
    return path


def run(directory: Path, n_vms: int) -> Cost:
    """One run of ansible-playbook. Fails with what it said."""
    password = directory / "vault-password"
    password.write_text("a password for this alone")
    words = ["-i", str(inventory(directory, n_vms)), "--vault-password-file", str(password)]
    command = [sys.executable, "-m", "ansible", "playbook", *words, str(HERE / "bench.yml")]
    before, began = os.times(), time.monotonic()
    with (directory / "said").open("w") as said:
        process = subprocess.Popen(command, cwd=ROOT, stdout=said, stderr=subprocess.STDOUT)
        peak_kib = 0
        while process.poll() is None:
            peak_kib = max(peak_kib, sum(map(pss_kib, family(process.pid))))
            time.sleep(LOOK_SECONDS)
    after = os.times()
    if process.returncode:
        sys.exit((directory / "said").read_text()[-3000:])
    cpu_seconds = after.children_user + after.children_system
    cpu_seconds -= before.children_user + before.children_system
    return Cost(time.monotonic() - began, cpu_seconds, peak_kib / 1024)


def family(pid: int) -> Iterator[int]:
    """A process and all that descend from it."""
    yield pid
    with contextlib.suppress(OSError):  # it has ended
        for path in Path(f"/proc/{pid}/task").glob("*/children"):
            for child in path.read_text().split():
                yield from family(int(child))


def pss_kib(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, prog="make bench-credentials")
    parser.add_argument("n_vms", nargs="*", type=int, default=[250, JUDGED_VMS, 4000])
    kept = True
    print("   VMs  run           seconds  CPU seconds  MiB at its peak")
    for n_vms in parser.parse_args().n_vms:
        with tempfile.TemporaryDirectory() as name:
            directory = Path(name)
            for what, n in (("all new", n_vms), ("nothing new", n_vms), ("one more", n_vms + 1)):
                cost = run(directory, n)
                print(
                    f"{n_vms:6}  {what:12}  {cost.wall_seconds:7.1f}  {cost.cpu_seconds:11.1f}"
                    f"  {cost.peak_mib:15.0f}",
                    flush=True,
                )
                if n_vms == JUDGED_VMS:
                    kept = kept and cost.wall_seconds < MOST_SECONDS and cost.peak_mib < MOST_MIB
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
