"""An attacker with a broker's access list: neither a recording is opened, nor a VM played.

The list holds X and p of every credential. TLS is left out here: the attacker is given what went
over the wire inside of it.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from typing import NamedTuple, Protocol

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from entropy.credentials import AclEntry, acl_entry, load_acl, new_credential
from entropy.errors import AuthenticationError, Refused
from entropy.transport.aio import AsyncClientConnection
from entropy.transport.tls import client_context
from entropy.wire.codes import DrawKind, Role
from entropy.wire.frames import HEADER, Block, Draw, Message
from entropy.wire.keys import Agreement, CredentialKeys, Ephemeral, derive, exchange
from tests.broker.fleet import Fleet
from tests.wire.pair import CERTIFICATE, WELCOME, greet, new_broker, new_client

PROOF_BYTES = 32


class Recording(NamedTuple):
    """All that went over the wire in one session, and what nobody but its ends may know."""

    entry: AclEntry
    hello: bytes
    auth: bytes
    welcome: bytes
    sealed_block: bytes
    ephemeral_public: bytes
    shared: bytes
    data: bytes


class End(Protocol):
    """What a client's and a broker's connection have in common."""

    def data_to_send(self) -> bytes: ...

    def receive_data(self, data: bytes) -> None: ...

    def events(self) -> list[Message]: ...


def tell(sender: End, receiver: End) -> bytes:
    """Carry what one end has to say to the other; those bytes."""
    said = sender.data_to_send()
    receiver.receive_data(said)
    receiver.events()
    return said


def record() -> Recording:
    """One draw of a VM, as it is seen on the wire."""
    credential = new_credential("vm1", "lab", ["draw"])
    entry, keys = acl_entry(credential), derive(credential.secret)
    ephemeral = Ephemeral.new(os.urandom(32))
    client = new_client(keys=keys, nonce=os.urandom(32), key_id=credential.key_id)
    broker = new_broker(ephemeral=ephemeral, nonce=os.urandom(32))
    hello, auth = tell(broker, client), tell(client, broker)
    broker.authenticate(entry.public_key, entry.psk)
    broker.welcome(WELCOME)
    welcome = tell(broker, client)
    client.send(Draw(DrawKind.SEED, 64, 0))
    tell(client, broker)
    data = os.urandom(64)
    broker.send(Block(1, 448, ("rng1",), data))
    block = tell(broker, client)
    shared = exchange(keys.private, ephemeral.public)
    return Recording(entry, hello, auth, welcome, block, ephemeral.public, shared, data)


def opened(recording: Recording, shared: bytes, psk: bytes) -> bytes | None:
    """What the broker's reply says under the keys that follow from `shared` and `psk`."""
    agreement = Agreement(recording.hello, recording.auth[:-PROOF_BYTES], CERTIFICATE, shared, psk)
    keys = agreement.session_keys(recording.welcome[:-PROOF_BYTES])
    header = recording.sealed_block[: HEADER.size]
    sealed = recording.sealed_block[HEADER.size :]
    try:
        return ChaCha20Poly1305(keys.broker_to_client).decrypt(bytes(12), sealed, header)
    except InvalidTag:
        return None


def guesses(recording: Recording) -> Iterator[bytes]:
    """Whatever can be made from the list and the recording in place of the shared secret."""
    entry, own = recording.entry, os.urandom(32)
    yield bytes(32)
    yield entry.public_key
    yield recording.ephemeral_public
    yield entry.psk
    for private in (own, entry.psk, entry.public_key, recording.ephemeral_public):
        yield exchange(private, recording.ephemeral_public)
        yield exchange(private, entry.public_key)


def test_a_recording_stays_closed() -> None:
    recording = record()
    # The test looks in the right place: with the VM's own key it opens.
    plain = opened(recording, recording.shared, recording.entry.psk)
    assert plain is not None
    assert recording.data in plain
    for shared in guesses(recording):
        for psk in (recording.entry.psk, bytes(32)):
            assert opened(recording, shared, psk) is None


def test_each_half_is_needed() -> None:
    """Whoever has the exchange and not p opens nothing either."""
    recording = record()
    assert opened(recording, recording.shared, bytes(32)) is None


def impostors(entry: AclEntry) -> Iterator[CredentialKeys]:
    """Keys with which somebody who has the list might try to be the VM."""
    for private in (os.urandom(32), entry.psk, entry.public_key, bytes(32), b"\xff" * 32):
        yield CredentialKeys(private, entry.public_key, entry.psk)
    yield derive(entry.psk)
    yield derive(entry.public_key)
    yield derive(os.urandom(32))._replace(psk=entry.psk)


def test_a_vm_is_not_played() -> None:
    entry = acl_entry(new_credential("vm1", "lab", ["draw"]))
    for keys in impostors(entry):
        client, broker = new_client(keys=keys, key_id=entry.key_id), new_broker()
        greet(client, broker)
        with pytest.raises(AuthenticationError):
            broker.authenticate(entry.public_key, entry.psk)


def test_nor_against_a_real_broker(fleet: Fleet) -> None:
    async def story() -> None:
        vm1 = fleet.credential("vm1", "draw")
        async with fleet.broker() as broker:
            listed = load_acl(fleet.folder / "acl.json").entries["vm1", vm1.key_id]
            assert vm1.secret not in (listed.public_key, listed.psk)
            assert "secret" not in json.loads((fleet.folder / "acl.json").read_text())["entries"][0]

            async def tries(keys: CredentialKeys) -> None:
                with pytest.raises(Refused):
                    await AsyncClientConnection.connect(
                        broker.addresses[0],
                        context=client_context(str(fleet.folder / "ca.pem"), check_dates=True),
                        credential=vm1._replace(secret=bytes(32)),
                        keys=keys,
                        role=Role.CLIENT,
                        boot_id=bytes(16),
                        counter=1,
                        nonce=os.urandom(32),
                        timeout_seconds=20,
                    )

            await asyncio.gather(*map(tries, impostors(listed)))
            assert list(broker.service.logins.ids) == []

    asyncio.run(story())
