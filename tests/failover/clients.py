"""The load: 8 clients on 4 VMs, two ids each, that draw through the virtual address alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lab.names import STATE
from tests.failover.reach import Reach
from tests.failover.records import Record, record_of
from tests.fleet.conftest import VMS, wait_until

FOLDER = "/run/entropy-load"
UNIT = "entropy-load-{name}"
_MARK = "== next client"
CLIENTS = {vm: (vm, f"load{number}") for number, vm in enumerate(VMS, 1)}  # ids, by host

# The second client of a VM draws as another id: its credential comes from the controller.
# A load that was cut off before is ended first.
_SETUP = """
set -eu
systemctl stop entropy-load-{own} entropy-load-{other} 2>/dev/null || true
rm -rf {folder}; mkdir -m 0700 {folder} {folder}/state-{own} {folder}/state-{other}
umask 077
tar -xf - -C {folder}
for name in {own} {other}; do
  credential=/etc/entropy/credential.json
  test $name = {own} || credential={folder}/{other}.json
  printf '%s\\n' '[client]' 'site_id = "{site_id}"' "credential = \\"$credential\\"" \
    'ca = "/etc/entropy/ca.pem"' 'brokers = ["{vip}:25226"]' 'credit = false' \
    "state_dir = \\"{folder}/state-$name\\"" >{folder}/$name.toml
  systemd-run --quiet --collect --unit=entropy-load-$name /usr/bin/python3 {folder}/load.py $name \
    {folder}/$name.toml {folder}
done
"""


class Load:
    """Begins at `start`; `stop` ends it and leaves nothing on the hosts."""

    def __init__(self, fleet: Reach, folder: Path) -> None:
        self._fleet = fleet
        self._folder = folder
        self._read_bytes: dict[str, int] = {}
        self.records: list[Record] = []

    def start(self) -> None:
        site_id = "lab"
        script = Path(__file__).with_name("load.py")
        for host, (own, other) in CLIENTS.items():
            folder = self._folder / host
            folder.mkdir()
            _export(other, folder / f"{other}.json")
            (folder / "load.py").write_bytes(script.read_bytes())
            archive = subprocess.run(
                ["tar", "-cf", "-", "-C", str(folder), f"{other}.json", "load.py"],
                capture_output=True,
                check=True,
            ).stdout
            setup = _SETUP.format(
                folder=FOLDER, own=own, other=other, site_id=site_id, vip=self._fleet.vip
            )
            self._fleet.ssh_bytes(host, setup, archive)
        begin = time.monotonic()
        wait_until(lambda: self.all_answered_since(begin), "every client of the load draws")

    def stop(self) -> None:
        for host, names in CLIENTS.items():
            units = " ".join(UNIT.format(name=name) for name in names)
            self._fleet.ssh(
                host,
                f"systemctl stop {units}; rm -rf {FOLDER}",
                check=False,
            )

    def read(self) -> list[Record]:
        """Every record so far."""
        with ThreadPoolExecutor(4) as pool:
            for new in pool.map(self._read_host, CLIENTS):
                self.records += new
        return self.records

    def since(self, begin: float) -> list[Record]:
        """Of draws that were answered after `begin`, read now."""
        return [record for record in self.read() if record.end >= begin]

    def all_answered_since(self, begin: float) -> bool:
        answered = {record.client for record in self.since(begin)}
        return answered == {name for names in CLIENTS.values() for name in names}

    def rest(self) -> float:
        """No client draws from here to `resume`. Returns since when (CLOCK_MONOTONIC)."""
        self._everywhere(f"touch {FOLDER}/rest")
        wait_until(
            lambda: self._everywhere(f"ls {FOLDER}/*.rests 2>/dev/null | wc -l") == ["2"] * 4,
            "the load rests",
        )
        self.read()
        return time.monotonic()

    def resume(self) -> None:
        """Draw again, and wait until every client was answered."""
        begin = time.monotonic()
        self._everywhere(f"rm {FOLDER}/*.rests {FOLDER}/rest")
        wait_until(lambda: self.all_answered_since(begin), "every client draws again")

    def _everywhere(self, command: str) -> list[str]:
        def one(host: str) -> str:
            return self._fleet.ssh(host, command).stdout.strip()

        with ThreadPoolExecutor(4) as pool:
            return list(pool.map(one, CLIENTS))

    def _read_host(self, host: str) -> list[Record]:
        names = CLIENTS[host]
        wanted = [
            f"tail -c +{self._read_bytes.get(n, 0) + 1} {FOLDER}/{n}.jsonl; echo" for n in names
        ]
        # An empty line ends what is of one client, and the draw that it is writing down.
        text = self._fleet.ssh(host, f"; echo {_MARK}; ".join(wanted)).stdout
        found = []
        for name, part in zip(names, text.split(_MARK + "\n")):
            whole = part[: part[:-1].rfind("\n") + 1]
            self._read_bytes[name] = self._read_bytes.get(name, 0) + len(whole.encode())
            found += [record_of(name, json.loads(line)) for line in whole.splitlines()]
        return found


def _export(credential_id: str, path: Path) -> None:
    subprocess.run(
        [
            *(sys.executable, "-m", "entropy", "credential", "export", "--id", credential_id),
            *("--state-dir", str(STATE / "controller"), "--json", "--output", str(path)),
            *("--vault-password-file", str(STATE / "vault_password")),
        ],
        check=True,
        capture_output=True,
        env=os.environ,
    )
