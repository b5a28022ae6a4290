"""Two real brokers and real clients: seeds of both, copies of a machine and what brokers see."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from entropy import kernel
from entropy.authority import issue_broker, new_authority
from entropy.credentials import acl_entry, dump_credential, entry_as_json, new_credential
from tests.test_processes import ADMIN, SOURCE, Daemon, daemon, entropy

SITE_ID = "two"


class Site:
    """Two brokers, each with a feeder, and the files of one client."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self.endpoints: list[str] = []
        self.brokers: list[Daemon] = []
        authority = new_authority(SITE_ID)
        self._write("ca.pem", authority.certificate_pem)
        entries = []
        for name, permission in (("feeder", "feed"), ("client", "draw")):
            credential = new_credential(name, SITE_ID, [permission])
            self._write(f"{name}.json", dump_credential(credential).encode())
            entries.append(entry_as_json(acl_entry(credential)))
        acl = {"version": 1, "site_id": SITE_ID, "generation": 1, "entries": entries}
        self._write("acl.json", json.dumps(acl).encode())
        for broker_id in ("broker1", "broker2"):
            issued = issue_broker(authority, broker_id, SITE_ID)
            self._write(f"{broker_id}.pem", issued.certificate_pem)
            self._write(f"{broker_id}.key", issued.key_pem)
            (folder / broker_id).mkdir()
            path = self.toml(
                f"""
                [broker]
                id = "{broker_id}"
                listen = ["127.0.0.1:0"]
                acl = "{folder}/acl.json"
                certificate = "{folder}/{broker_id}.pem"
                key = "{folder}/{broker_id}.key"
                control_socket = "{folder}/{broker_id}.sock"
                state_dir = "{folder}/{broker_id}"
                """,
                ADMIN,
            )
            broker = stack.enter_context(daemon("broker", "--config", path))
            self.brokers.append(broker)
            self.endpoints.append(broker.wait_for(r"listens on (127\.0\.0\.1:\d+)")[1])
            path = self.toml(
                f"""
                [feeder]
                credential = "{folder}/feeder.json"
                brokers = ["{self.endpoints[-1]}"]
                """,
                SOURCE,
            )
            feeder = stack.enter_context(daemon("feeder", "--config", path))
            feeder.wait_for("connected to broker")

    def toml(self, table: str, *tables: str) -> str:
        common = f'site_id = "{SITE_ID}"\nca = "{self.folder}/ca.pem"\n'
        path = self.folder / f"{len(list(self.folder.iterdir()))}.toml"
        path.write_text(table + common + "".join(tables))
        return str(path)

    def client(self, state: str, *tables: str, endpoints: list[str], more: str = "") -> str:
        (self.folder / state).mkdir(exist_ok=True)
        return self.toml(
            f"""
            [client]
            credential = "{self.folder}/client.json"
            brokers = {json.dumps(endpoints)}
            state_dir = "{self.folder}/{state}"
            credit = false
            {more}
            """,
            *tables,
        )

    def status(self, broker_id: str) -> dict[str, Any]:
        control = str(self.folder / f"{broker_id}.sock")
        status: dict[str, Any] = json.loads(
            entropy("status", "--json", "--control", control).stdout
        )
        return status

    def draws(self) -> list[int]:
        """Of the client, at each broker."""
        return [
            sum(c["draws"] for c in self.status(broker_id)["clients"] if c["id"] == "client")
            for broker_id in ("broker1", "broker2")
        ]

    def _write(self, name: str, data: bytes) -> None:
        (self.folder / name).touch(0o600)
        (self.folder / name).write_bytes(data)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with ExitStack() as stack:
        yield Site(tmp_path, stack)


def test_two_brokers_or_none(site: Site) -> None:
    more = "two_brokers = true\ninterval_seconds = 86400\n"
    sign = site.folder / "generation"
    sign.write_text("1")
    tables = f'[clone]\ngeneration_file = "{sign}"\n'
    path = site.client("state", tables, endpoints=site.endpoints, more=more)
    with daemon("client", "--config", path) as client:
        client.wait_for(r"seed: 64 bytes worth 448 bits from broker1\+broker2 \(")
        assert site.draws() == [1, 1]

        sign.write_text("2")
        client.wait_for(r"the VM generation changed: reseeding now\n(.*\n)*seed: 64 bytes")
        assert site.draws() == [2, 2]
        state = json.loads((site.folder / "state" / "state.json").read_text())
        assert state["boot_id"] != kernel.boot_id().hex()
        for broker_id in ("broker1", "broker2"):
            assert site.status(broker_id)["alarms"] == [], "a clone that says so is no alarm"
        assert client.stop() == 0

    assert site.brokers[1].stop() == 0
    with daemon("client", "--config", path) as client:
        client.wait_for(r"these can be had: broker1\n(.*\n)*next try in \d+ s")
        assert client.process.poll() is None
        assert client.stop() == 0
    drawn = [client["draws"] for client in site.status("broker1")["clients"]]
    assert sum(drawn) == 2, "none for half a seed"
    assert b"Traceback" not in client.said


def test_a_copy_that_does_not_know_it_is_one_is_alarmed_of(site: Site) -> None:
    path = site.client("state", endpoints=site.endpoints[:1])
    assert entropy("client", "--once", "--config", path).returncode == 0
    # The copy, as a snapshot of memory and disk is: the same boot id, the same counter.
    shutil.copytree(site.folder / "state", site.folder / "copy")
    copy = site.client("copy", endpoints=site.endpoints[:1])
    assert entropy("client", "--once", "--config", path).returncode == 0
    assert site.status("broker1")["alarms"] == []
    assert entropy("client", "--once", "--config", copy).returncode == 0
    alarms = site.status("broker1")["alarms"]
    assert len(alarms) == 1
    assert "its counter went from" in alarms[0]["text"]
