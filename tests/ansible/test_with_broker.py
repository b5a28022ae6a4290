"""What the modules make and install, in the hands of a real broker and of a real client."""

from __future__ import annotations

import asyncio
import grp
import os
import pwd
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from entropy.broker.server import Broker
from entropy.config import AdminConfig, BrokerConfig, LimitsConfig, ReservoirConfig
from entropy.credentials import load_credential
from entropy.errors import AuthenticationError, CredentialError, Refused
from entropy.transport.aio import AsyncClientConnection
from entropy.transport.tls import client_context
from entropy.wire.codes import Role
from entropy.wire.keys import derive
from library import entropy_acl, entropy_broker_info, entropy_keyfile
from module_utils.entropy_acl_document import dump_entries
from module_utils.entropy_outcome import Outcome
from module_utils.entropy_store import Vault
from tests.ansible.fleet import LARGER, SMALL, Fleet

RunModule = Callable[..., dict[str, Any]]


class Host:
    """A broker's host and a VM's in one directory, given their files as the roles do it."""

    def __init__(self, directory: Path, vault: Vault, run_module: RunModule) -> None:
        self.directory = directory
        self.issued = Fleet(directory / "state", vault)
        self._run = run_module
        self._owned = {
            "owner": pwd.getpwuid(os.getuid()).pw_name,
            "group": grp.getgrgid(os.getgid()).gr_name,
        }
        self._socket = {"control_socket": self.path("control.sock")}

    def path(self, name: str) -> str:
        return str(self.directory / name)

    def install(self, name: str, term: str) -> None:
        self._run(
            entropy_keyfile, path=self.path(name), content=self.issued.text(term), **self._owned
        )

    def publish(self) -> dict[str, Any]:
        return self._run(
            entropy_acl,
            path=self.path("acl.json"),
            site_id="lab",
            generation=self.issued.ledger().generation,
            entries=dump_entries(self.issued.handed()),
            **self._owned,
            **self._socket,
        )

    def info(self) -> dict[str, Any]:
        return self._run(entropy_broker_info, **self._socket)

    def report(self) -> dict[str, Any]:
        """What the broker tells of the credentials, as a play hands it on."""
        found = self._run(
            entropy_broker_info, report=True, acl_path=self.path("acl.json"), **self._socket
        )
        report: dict[str, Any] = found["report"]
        return report

    def trust(self, outcome: Outcome) -> None:
        """Install the CA and the broker's certificate."""
        (self.directory / "ca.pem").write_bytes(outcome.ca_pem)
        (self.directory / "tls.pem").write_bytes(outcome.certificate_pems["b1"])
        self.install("tls.key", "tls:b1")

    def broker(self) -> Broker:
        return Broker(
            BrokerConfig(
                id="b1",
                site_id="lab",
                listen=("127.0.0.1:0",),
                acl=self.path("acl.json"),
                certificate=self.path("tls.pem"),
                key=self.path("tls.key"),
                ca=self.path("ca.pem"),
                reservoir=ReservoirConfig(64, 8, 16),
                limits=LimitsConfig(max_wait_seconds=10),
                state_dir=self.path("broker-state"),
                admin=AdminConfig(""),
                control_socket=self._socket["control_socket"],
            )
        )

    async def connect(self, broker: Broker, credential_file: str) -> frozenset[str]:
        """One session of a VM; the permissions that the broker grants it."""
        credential = load_credential(self.path(credential_file))
        connection = await AsyncClientConnection.connect(
            broker.addresses[0],
            context=client_context(self.path("ca.pem"), check_dates=True),
            credential=credential,
            keys=derive(credential.secret),
            role=Role.CLIENT,
            boot_id=bytes(16),
            counter=1,
            nonce=os.urandom(32),
            timeout_seconds=20,
        )
        connection.close()
        return connection.welcome.permissions


@pytest.fixture
def host(tmp_path: Path, vault: Vault, run_module: RunModule) -> Host:
    host = Host(tmp_path, vault, run_module)
    outcome = host.issued.ensure(SMALL, "b1")
    host.trust(outcome)
    host.install("vm1.json", "vm1")
    return host


def test_a_running_broker_takes_what_is_issued(host: Host) -> None:
    async def story() -> None:
        assert host.publish()["confirmed_generation"] is None
        assert not host.info()["running"]
        broker = host.broker()
        await broker.start()
        try:
            assert await host.connect(broker, "vm1.json") == {"draw"}
            assert not (await asyncio.to_thread(host.publish))["changed"]

            host.issued.ensure(LARGER, "b1")
            host.install("vm2.json", "vm2")
            with pytest.raises(Refused):
                await host.connect(broker, "vm2.json")
            published = await asyncio.to_thread(host.publish)
            assert (published["changed"], published["confirmed_generation"]) == (True, 2)
            assert await host.connect(broker, "vm2.json") == {"draw"}
            assert await host.connect(broker, "vm1.json") == {"draw", "peer"}

            status = (await asyncio.to_thread(host.info))["status"]
            assert (status["broker_id"], status["acl_generation"]) == ("b1", 2)
        finally:
            await broker.stop()

    asyncio.run(story())


def test_a_rotation_from_end_to_end(host: Host) -> None:
    """Both keys work; the broker's own report ends the old one when the new one is in use."""

    async def story() -> None:
        host.publish()
        broker = host.broker()
        await broker.start()
        try:
            report = await asyncio.to_thread(host.report)
            assert host.issued.do("rotated", ids=["vm1"], reports=[report]).plan.rotated == ["vm1"]
            await asyncio.to_thread(host.publish)
            host.install("new.json", "vm1")
            await host.connect(broker, "vm1.json")  # it was not reached yet

            async def run_again() -> Outcome:
                report = await asyncio.to_thread(host.report)
                outcome = host.issued.ensure(SMALL, "b1", reports=[report])
                await asyncio.to_thread(host.publish)
                return outcome

            assert not (await run_again()).changed
            await host.connect(broker, "vm1.json")
            await host.connect(broker, "new.json")
            while broker.sessions:  # both have hung up, and the broker will have noticed
                await asyncio.sleep(0.002)
            assert (await run_again()).plan.retired == ["vm1"]
            await host.connect(broker, "new.json")
            with pytest.raises(Refused):
                await host.connect(broker, "vm1.json")
            assert not (await run_again()).changed

            host.issued.do("revoked", ids=["vm1"], reports=[await asyncio.to_thread(host.report)])
            await asyncio.to_thread(host.publish)
            with pytest.raises(Refused):
                await host.connect(broker, "new.json")
        finally:
            await broker.stop()

    (host.directory / "broker-state").mkdir()
    asyncio.run(story())


def test_a_restored_old_ledger_is_found_out(host: Host) -> None:
    """By a broker that runs, and by the list on the disk of one that does not."""
    host.publish()
    old = host.directory / "old"
    shutil.copytree(host.issued.state_dir, old)
    host.issued.ensure(LARGER, "b1")
    host.publish()
    restored = Fleet(old, host.issued.store.vault)

    def is_refused(report: dict[str, Any]) -> bool:
        with pytest.raises(CredentialError, match=r"and .* holds generation 2: it is an old copy"):
            restored.ensure(LARGER, "b1", reports=[report])
        return True

    async def story() -> None:
        broker = host.broker()
        await broker.start()
        try:
            assert is_refused(await asyncio.to_thread(host.report))
        finally:
            await broker.stop()

    assert is_refused(host.report())
    asyncio.run(story())


def test_the_authority_is_replaced_under_the_clients(host: Host) -> None:
    """At every step of a roll, each with the files of the step before on one side."""

    async def reaches(ca: bytes) -> bool:
        broker = host.broker()
        await broker.start()
        try:
            (host.directory / "ca.pem").write_bytes(ca)
            await host.connect(broker, "vm1.json")
        except AuthenticationError:
            return False
        finally:
            await broker.stop()
        return True

    host.publish()
    bundles = [(host.directory / "ca.pem").read_bytes()]
    for _ in range(3):
        outcome = host.issued.do("authority_rolled", "b1", overlap="0s")
        bundles.append(outcome.ca_pem)
        host.trust(outcome)
        # The client has what it was given one step before, and then what is new.
        assert asyncio.run(reaches(bundles[-2]))
        host.trust(outcome)
        assert asyncio.run(reaches(bundles[-1]))
    host.trust(outcome)
    assert not asyncio.run(reaches(bundles[0]))
