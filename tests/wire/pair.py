"""Two ends of a session, joined in memory."""

from __future__ import annotations

from typing import Any

from entropy.wire.broker import BrokerConnection
from entropy.wire.client import ClientConnection
from entropy.wire.codes import Role
from entropy.wire.frames import Auth, Welcome
from entropy.wire.keys import CredentialKeys, Ephemeral, derive

KEYS = derive(b"s" * 32)
OTHER_KEYS = derive(b"o" * 32)
EPHEMERAL = Ephemeral.new(b"e" * 32)
CERTIFICATE = b"c" * 32
WELCOME = Welcome(frozenset({"draw"}), 600, 32, 64, 4096, 1000000, 10, 16384)


def new_client(**changed: Any) -> ClientConnection:
    fields: dict[str, Any] = {
        "role": Role.CLIENT,
        "site_id": "lab",
        "id": "vm1",
        "key_id": b"k" * 8,
        "keys": KEYS,
        "boot_id": b"b" * 16,
        "counter": 7,
        "nonce": b"n" * 32,
        "certificate_sha256": CERTIFICATE,
        "certificate_names": ["broker1.lab.entropy.internal"],
    }
    return ClientConnection(**{**fields, **changed})


def new_broker(**changed: Any) -> BrokerConnection:
    fields: dict[str, Any] = {
        "broker_id": "broker1",
        "epoch": b"E" * 16,
        "ephemeral": EPHEMERAL,
        "nonce": b"N" * 32,
        "certificate_sha256": CERTIFICATE,
    }
    return BrokerConnection(**{**fields, **changed})


def greet(client: ClientConnection, broker: BrokerConnection) -> Auth:
    """Takes both to the point where the broker has the proof to check."""
    client.receive_data(broker.data_to_send())
    broker.receive_data(client.data_to_send())
    (auth,) = broker.events()
    assert isinstance(auth, Auth)
    return auth


def open_pair(keys: CredentialKeys = KEYS) -> tuple[ClientConnection, BrokerConnection]:
    """Two ends with an open session between them."""
    client, broker = new_client(keys=keys), new_broker()
    greet(client, broker)
    broker.authenticate(keys.public, keys.psk)
    broker.welcome(WELCOME)
    client.receive_data(broker.data_to_send())
    (welcome,) = client.events()
    assert isinstance(welcome, Welcome)
    return client, broker
