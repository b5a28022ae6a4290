"""What a broker refuses to start with, and how it says so."""

from __future__ import annotations

import asyncio
import dataclasses
import shutil
from typing import Any

import pytest

from entropy.authority import issue_broker, new_authority
from entropy.broker.server import Broker, check
from entropy.config import BrokerConfig, PeerConfig
from entropy.credentials import dump_credential, new_credential
from entropy.errors import ConfigError, CredentialError, EntropyError, TransportError
from tests.broker.fleet import Fleet


@pytest.fixture
def config(fleet: Fleet) -> BrokerConfig:
    fleet.credential("broker1", "peer")
    peer = PeerConfig("broker2", "127.0.0.1:1", str(fleet.folder / "broker1.json"))
    return fleet.config(peers=(peer,))


def test_good_files_pass_and_nothing_is_made(fleet: Fleet, config: BrokerConfig) -> None:
    before = sorted(fleet.folder.iterdir())
    check(config)
    assert sorted(fleet.folder.iterdir()) == before


@pytest.mark.parametrize(
    ("field", "error"),
    [
        ("acl", CredentialError),
        ("certificate", CredentialError),
        ("key", CredentialError),
        ("ca", ConfigError),
    ],
)
def test_a_missing_file_is_named(
    config: BrokerConfig, field: str, error: type[EntropyError]
) -> None:
    change: dict[str, Any] = {field: f"/nonexistent/{field}"}
    changed = dataclasses.replace(config, **change)
    with pytest.raises(error, match=f"/nonexistent/{field}"):
        check(changed)


@pytest.mark.parametrize("name", ["acl.json", "broker1.key", "broker1.json"])
def test_a_secret_that_everybody_can_read(fleet: Fleet, config: BrokerConfig, name: str) -> None:
    (fleet.folder / name).chmod(0o644)
    with pytest.raises(CredentialError, match=rf"{name} is readable by everybody .*chmod 0640"):
        check(config)


def test_a_certificate_of_another_broker(fleet: Fleet, config: BrokerConfig) -> None:
    fleet.config("broker2")
    for ending in ("pem", "key"):
        shutil.copy(fleet.folder / f"broker2.{ending}", fleet.folder / f"broker1.{ending}")
    with pytest.raises(
        CredentialError,
        match=r"broker1.pem: is for broker2.lab.entropy.internal, not for broker1.lab",
    ):
        check(config)


def test_a_key_that_is_not_the_certificates(fleet: Fleet, config: BrokerConfig) -> None:
    fleet.config("broker2")
    shutil.copy(fleet.folder / "broker2.key", fleet.folder / "broker1.key")
    with pytest.raises(CredentialError, match="are not a certificate and its key"):
        check(config)


def test_a_certificate_of_another_authority(fleet: Fleet, config: BrokerConfig) -> None:
    other = issue_broker(new_authority("lab"), "broker1", "lab")
    (fleet.folder / "broker1.pem").write_bytes(other.certificate_pem)
    fleet.secret("broker1.key", other.key_pem)
    with pytest.raises(CredentialError, match=r"broker1.pem: was not issued by the authority"):
        check(config)


def test_an_access_list_of_another_site(fleet: Fleet, config: BrokerConfig) -> None:
    text = (fleet.folder / "acl.json").read_text().replace('"lab"', '"other"')
    (fleet.folder / "acl.json").write_text(text)
    with pytest.raises(ConfigError, match="access list of site 'other'"):
        check(config)


@pytest.mark.parametrize(
    ("site_id", "permission", "says"),
    [("other", "peer", "is for the site 'other'"), ("lab", "draw", "no permission to draw as")],
)
def test_a_credential_that_is_no_peers(
    fleet: Fleet, config: BrokerConfig, site_id: str, permission: str, says: str
) -> None:
    credential = new_credential("broker1", site_id, [permission])
    fleet.secret("broker1.json", dump_credential(credential).encode())
    with pytest.raises(CredentialError, match=rf"broker1.json: .*{says}"):
        check(config)


def test_an_address_that_cannot_be_had(fleet: Fleet) -> None:
    async def story() -> None:
        async with fleet.broker() as broker:
            taken = broker.addresses[0]
            second = Broker(fleet.config("broker2", listen=(taken,)))
            with pytest.raises(TransportError, match=f"cannot listen on {taken}"):
                await second.start()
            assert not (fleet.folder / "broker2.sock").exists()

    asyncio.run(story())
