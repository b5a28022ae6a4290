"""A session without TLS, for a VM whose kernel has no randomness yet: the brokers' port for seeds.

TLS waits for the kernel's generator, and the seed is what that waits for. The frames, the proofs
and the keys inside are the same as ever: a reply is as secret, and as fresh. What is lost is what
TLS alone gave: anybody on the way sees which id draws and when; and no certificate names the
broker, so a thief of a broker's access list who also sits on the way could answer in its place.
Brokers give seeds there and nothing else.
"""

from __future__ import annotations

import time

from entropy.credentials import Credential
from entropy.transport.blocking import BlockingConnection, connect_tcp
from entropy.wire.client import ClientConnection
from entropy.wire.codes import Role
from entropy.wire.keys import CredentialKeys

NO_CERTIFICATE_SHA256 = bytes(32)  # stands in the key schedule where a certificate's hash does


class PlainConnection(BlockingConnection):
    """An open session with a broker's port for seeds. Made by `connect_plain`."""

    __slots__ = ()

    @classmethod
    def connect_plain(
        cls,
        endpoint: str,
        *,
        credential: Credential,
        keys: CredentialKeys,
        boot_id: bytes,
        counter: int,
        nonce: bytes,
        timeout_seconds: float,
    ) -> PlainConnection:
        """Connects, proves itself and checks the broker's proof, all within `timeout_seconds`.

        Raises TransportError, AuthenticationError, RemoteProtocolError, Refused.
        """
        deadline = time.monotonic() + timeout_seconds
        sock = connect_tcp(endpoint, f"connecting to {endpoint}", deadline)
        self = cls(endpoint, sock, timeout_seconds)
        wire = ClientConnection(
            role=Role.CLIENT,
            site_id=credential.site_id,
            id=credential.id,
            key_id=credential.key_id,
            keys=keys,
            boot_id=boot_id,
            counter=counter,
            nonce=nonce,
            certificate_sha256=NO_CERTIFICATE_SHA256,
            certificate_names=None,
        )
        self._open(wire, deadline)
        return self
