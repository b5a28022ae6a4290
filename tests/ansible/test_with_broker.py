"""What the modules make and install, in the hands of a real broker and of a real client."""

from __future__ import annotations

import asyncio
import grp
import os
import pwd
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from entropy.broker.server import Broker
from entropy.config import AdminConfig, BrokerConfig, LimitsConfig, ReservoirConfig
from entropy.credentials import load_credential
from entropy.errors import Refused
from entropy.transport.aio import AsyncClientConnection
from entropy.transport.tls import client_context
from entropy.wire.codes import Role
from entropy.wire.keys import derive
from library import entropy_acl, entropy_broker_info, entropy_keyfile
from module_utils.entropy_acl_document import dump_entries
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
    (tmp_path / "ca.pem").write_bytes(outcome.ca_pem)
    (tmp_path / "tls.pem").write_bytes(outcome.certificate_pems["b1"])
    host.install("tls.key", "tls:b1")
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
