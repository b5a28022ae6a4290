"""A machine made from an image: its client waits for a credential, and then works at once."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from entropy import arrival, client, dial
from entropy.credentials import dump_credential
from entropy.errors import CredentialError
from entropy.wire.codes import DrawKind
from tests.client.test_client import Service

if TYPE_CHECKING:
    from tests.client.conftest import FakeKernel, Fleet


def test_a_client_waits_for_its_credential_and_then_draws_at_once(fleet: Fleet) -> None:
    broker = fleet.broker()
    config = fleet.config_file(credit=False)
    credential = fleet.folder / "credential.json"
    credential.unlink()
    with Service(fleet, "--config", config) as service:
        service.wait_for(b"READY=1")
        service.wait_for(f"STATUS=waiting for {credential}".encode())
        service.wait_for(b"WATCHDOG=1")
        assert not broker.auths
        fleet.write_credential(dump_credential(fleet.credential))
        service.wait_for(b"STATUS=last fed by broker1")
        error = service.stop()
    assert service.process.returncode == 0
    assert [draw.kind for draw in broker.draws] == [DrawKind.SEED]
    assert error.count(f"<5>waiting for {credential}") == 1


def test_a_file_that_is_still_being_written_is_not_an_error(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Provisioning that creates a file, fills it, then closes it to others."""
    steps = [
        lambda: fleet.write_credential("", 0o644),
        lambda: fleet.write_credential(dump_credential(fleet.credential)[:40], 0o644),
        lambda: fleet.write_credential(dump_credential(fleet.credential), 0o644),
        lambda: fleet.write_credential(dump_credential(fleet.credential), 0o640),
    ]
    monkeypatch.setattr(time, "sleep", lambda _: steps.pop(0)())
    fleet.broker()
    config = fleet.config()
    os.unlink(config.credential)
    arrival.wait_for_files((config.credential, config.ca), lambda: dial.check(config))
    assert not steps


def test_a_file_that_stays_wrong_is(
    fleet: Fleet, fake_kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrival, "SETTLE_SECONDS", 0)
    monkeypatch.setattr(time, "sleep", lambda _: fleet.write_credential("{}"))
    fleet.broker()
    config = fleet.config()
    os.unlink(config.credential)
    with pytest.raises(CredentialError):
        client.run(config)


def test_a_single_seed_waits_for_nothing(fleet: Fleet, fake_kernel: FakeKernel) -> None:
    fleet.broker()
    config = fleet.config()
    os.unlink(config.credential)
    with pytest.raises(CredentialError):
        client.run(config, once=True)
