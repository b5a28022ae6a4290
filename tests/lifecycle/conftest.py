"""One deployed fleet for the whole story, and all that its playbooks said and showed."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible.parsing.vault import VaultLib, VaultSecret

from entropy.wire.keys import derive
from lab.names import CHECKOUT, STATE
from tests.fleet.conftest import BROKERS, INVENTORY, Fleet, Run

CONTROLLER = STATE / "controller"
CREDENTIAL = "/etc/entropy/credential.json"


# Draws for as long as a file is there; says how often, and how often there was nothing.
LOAD = """
touch /run/entropy-load
nohup bash -c 'while [ -e /run/entropy-load ]; do
  n_bytes=$(entropy draw --config /etc/entropy/client.toml --bytes 4 | wc -c)
  if [ "$n_bytes" = 4 ]; then echo drawn; else echo NOT; fi
  sleep {pause_seconds}
done' >/run/entropy-load.log 2>/run/entropy-load.err </dev/null &
"""


class Story:
    """Runs playbooks as an operator who wants to know everything, and keeps what they said."""

    def __init__(self, fleet: Fleet, folder: Path) -> None:
        self.fleet = fleet
        self.folder = folder
        self.said: list[str] = []
        self.secrets: dict[str, str] = {}  # every form of a secret, and whose it is
        self.shown_by_processes: set[str] = set()

    def play(self, playbook: str, *arguments: str, inventory: Path = INVENTORY) -> Run:
        """A run at -vvv --diff, with the process list watched."""
        self.keep_secrets()
        with _ProcessWatch() as watch:
            run = self.fleet.play(
                "-vvv", "--diff", *arguments, playbook=playbook, inventory=inventory
            )
        self.shown_by_processes |= watch.seen
        self.said.append(run.output)
        self.keep_secrets()
        return run

    def play_until(self, line: str, playbook: str, *arguments: str) -> None:
        """Begin a run and kill it, with all of its processes, when it says `line`."""
        command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(INVENTORY)]
        with subprocess.Popen(
            [*command, playbook, *arguments],
            cwd=CHECKOUT,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        ) as process:
            assert process.stdout is not None
            said = []
            for text in process.stdout:
                said.append(text)
                if line in text:
                    break
            os.killpg(process.pid, signal.SIGKILL)
        self.said.append("".join(said))
        assert any(line in text for text in said), "".join(said)[-2000:]
        self.keep_secrets()

    def keep_secrets(self) -> None:
        """Note every secret that the store holds now, in the forms in which it could be shown."""
        password = (STATE / "vault_password").read_text().strip()
        self.secrets[password] = "the vault"
        vault = VaultLib([("default", VaultSecret(password.encode()))])
        for path in sorted((CONTROLLER / "credentials").glob("*")):
            # An id has two keys while one replaces the other.
            text = vault.decrypt(path.read_text()).decode()
            for encoded in re.findall(r'"secret": *"([^"]+)"', text):
                keys = derive(base64.b64decode(encoded))
                for secret in (base64.b64decode(encoded), keys.private, keys.psk):
                    self.secrets[secret.hex()] = path.name
                    self.secrets[base64.b64encode(secret).decode()] = path.name
        for path in [*(CONTROLLER / "tls").glob("*.key"), *(CONTROLLER / "ca").glob("*.key")]:
            # The first line of a key's body is the same for all; the second is its own.
            self.secrets[vault.decrypt(path.read_text()).decode().splitlines()[2]] = path.name

    def owners_of_secrets_in(self, text: str) -> set[str]:
        """Whose secrets stand in a text. Names alone: what a test says ends in logs as well."""
        return {whose for secret, whose in self.secrets.items() if secret in text}

    def inventory_without(self, *names: str) -> Path:
        """An inventory of the same fleet that lost some VMs."""
        folder = self.folder / "inventories/lab"
        if not folder.exists():
            shutil.copytree(INVENTORY, folder)
            (self.folder / ".lab").symlink_to(STATE)
        lines = (INVENTORY / "hosts.yml").read_text().splitlines(keepends=True)
        left = [line for line in lines if line.strip().rstrip(":") not in names]
        (folder / "hosts.yml").write_text("".join(left))
        return folder

    def key_id(self, host: str, path: str = CREDENTIAL) -> str:
        return str(json.loads(self.fleet.ssh(host, f"cat {path}").stdout)["key_id"])

    def draws(self, host: str, config: str = "/etc/entropy/client.toml") -> bool:
        """Whether a host is given bytes."""
        done = self.fleet.ssh(host, f"entropy draw --config {config} --bytes 8 | wc -c")
        return done.stdout.strip() == "8"

    def is_refused(self, host: str, config: str) -> bool:
        """Whether the broker does not know the key; not, whether it has nothing to give."""
        command = f"entropy draw --config {config} --bytes 8 >/dev/null"
        done = self.fleet.ssh(host, command, check=False)
        return "did not accept this credential" in done.stderr

    @contextlib.contextmanager
    def load(self, *hosts: str, pause_seconds: float = 0) -> Iterator[dict[str, list[str]]]:
        """Hosts that draw one time after the other; for each draw `drawn` or `NOT`, at the end.

        Without a pause they take more than the lab's sources give, for as long as there is a store.
        """
        drawn: dict[str, list[str]] = {}
        for host in hosts:
            self.fleet.ssh(host, LOAD.format(pause_seconds=pause_seconds))
        try:
            yield drawn
        finally:
            for host in hosts:
                self.fleet.ssh(host, "rm /run/entropy-load")
                drawn[host] = self.fleet.ssh(host, "cat /run/entropy-load.log").stdout.split()

    def keys_of_feeder(self, name: str) -> set[str]:
        """The ids of the keys with which a feeder is logged in."""
        feeders = [f for broker in BROKERS for f in self.fleet.status(broker)["feeders"]]
        return {f["key_id"] for f in feeders if f["id"] == name and f["connected"]}

    def with_copied_key(self, host: str, *endpoints: str) -> str:
        """The path of a configuration that uses a copy of the host's credential of now.

        It knows the endpoints that are given, else those of the host.
        """
        others = f"s#^brokers = .*#brokers = {json.dumps(list(endpoints))}#;" if endpoints else ""
        self.fleet.ssh(
            host,
            f"cp -p {CREDENTIAL} /run/entropy-copy.json && sed '{others}s#^credential = .*##;"
            's#^\\[client\\]#[client]\\ncredential = "/run/entropy-copy.json"#\''
            " /etc/entropy/client.toml >/run/entropy-copy.toml",
        )
        return "/run/entropy-copy.toml"


class _ProcessWatch:
    """Every command line on this machine, the containers' processes among them, while it runs."""

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> _ProcessWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._end.wait(0.2):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                with contextlib.suppress(OSError):  # it has ended
                    self.seen.add(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))


@pytest.fixture(scope="session")
def fleet() -> Fleet:
    return Fleet()


@pytest.fixture(scope="session")
def story(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Story:
    for host in fleet.state["hosts"]:
        fleet.ssh(host, "journalctl --rotate --quiet; journalctl --vacuum-time=1s --quiet")
    return Story(fleet, tmp_path_factory.mktemp("lifecycle"))
