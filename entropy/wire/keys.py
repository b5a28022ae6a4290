"""The key schedule: what a credential's secret becomes, and what both ends agree on.

The secret s of a credential is on the VM (and in the operator's vault) only. The broker's access
list holds X and p, which neither reveal x nor suffice to compute a session's keys.

    x = Expand(s, "entropy/1 x25519")   X = x*G   p = Expand(s, "entropy/1 psk")
    t1 = SHA256(LP("entropy/1", HELLO, AUTH without proof, SHA256(certificate)))
    prk = Extract(salt = t1, X25519(x, E) | p)
    c proof = HMAC(Expand(prk, "c proof"), t1)
    t2 = SHA256(LP(t1, c proof, WELCOME without proof))
    b proof = HMAC(Expand(prk, "b proof"), t2)
    keys: Expand(prk, "c2b" | t2), Expand(prk, "b2c" | t2)

Extract and Expand are HKDF's (RFC 5869) with SHA-256 and 32 bytes out; X25519 is RFC 7748's; LP
puts 4 bytes of big-endian length before each part. HELLO, AUTH and WELCOME are whole frames with
their headers; "without proof" leaves off the last 32 bytes and changes nothing else.
"""

from __future__ import annotations

import hmac
from hashlib import sha256
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from entropy.errors import AuthenticationError

KEY_BYTES = 32
_PROTOCOL = b"entropy/1"
_BASE_POINT = b"\x09" + bytes(31)  # u = 9, RFC 7748 section 4.1


def length_prefixed(*parts: bytes) -> bytes:
    """LP: the parts in a row, each behind its length (u32), so that no two lists look alike."""
    return b"".join([len(part).to_bytes(4, "big") + part for part in parts])


def extract(salt: bytes, secret: bytes) -> bytes:
    """HKDF-Extract with SHA-256 (RFC 5869 section 2.2). 32 bytes."""
    return hmac.digest(salt, secret, "sha256")


def expand(key: bytes, info: bytes) -> bytes:
    """HKDF-Expand with SHA-256 (RFC 5869 section 2.3) to 32 bytes, which is one round of it."""
    return hmac.digest(key, info + b"\x01", "sha256")


def _exchange(private: X25519PrivateKey, public_key: bytes) -> bytes:
    """X25519, refusing the low-order points whose result would be zero. Never a ValueError."""
    try:
        shared = private.exchange(X25519PublicKey.from_public_bytes(public_key))
    except ValueError:
        shared = bytes(KEY_BYTES)
    if not any(shared):
        raise AuthenticationError("the other side sent a public key that no honest side has")
    return shared


class CredentialKeys(NamedTuple):
    """x, X and p of a credential, 32 bytes each."""

    private: bytes
    public: bytes
    psk: bytes

    def __repr__(self) -> str:
        return "CredentialKeys(...)"


def derive(secret: bytes) -> CredentialKeys:
    """The keys of a credential from its secret (32 bytes)."""
    private = expand(secret, b"entropy/1 x25519")
    # X25519 with the base point is X = x*G; it spares the client an import that costs more.
    public = _exchange(X25519PrivateKey.from_private_bytes(private), _BASE_POINT)
    return CredentialKeys(private, public, expand(secret, b"entropy/1 psk"))


class Ephemeral:
    """A broker's short-lived key pair. It is gone when the last reference to it is dropped."""

    __slots__ = ("_private", "public")

    def __init__(self, private_bytes: bytes) -> None:
        self._private = X25519PrivateKey.from_private_bytes(private_bytes)
        self.public = _exchange(self._private, _BASE_POINT)

    @classmethod
    def new(cls, private_bytes: bytes) -> Ephemeral:
        """A key pair from 32 random bytes."""
        return cls(private_bytes)

    def exchange(self, public_key: bytes) -> bytes:
        """The shared 32 bytes. AuthenticationError if the other's point is of low order."""
        return _exchange(self._private, public_key)


def exchange(private_bytes: bytes, public_key: bytes) -> bytes:
    """X25519 of 32 private and 32 public bytes. AuthenticationError as for Ephemeral."""
    return _exchange(X25519PrivateKey.from_private_bytes(private_bytes), public_key)


class SessionKeys(NamedTuple):
    """What the second half of the schedule gives, 32 bytes each."""

    broker_proof: bytes
    client_to_broker: bytes
    broker_to_client: bytes

    def __repr__(self) -> str:
        return "SessionKeys(...)"


class Agreement:
    """What both ends hold once AUTH is said: t1 and prk."""

    __slots__ = ("client_proof", "prk", "t1")

    def __init__(
        self,
        hello: bytes,
        auth_without_proof: bytes,
        certificate_sha256: bytes,
        shared: bytes,
        psk: bytes,
    ) -> None:
        said = length_prefixed(_PROTOCOL, hello, auth_without_proof, certificate_sha256)
        self.t1 = sha256(said).digest()
        self.prk = extract(self.t1, shared + psk)
        self.client_proof = hmac.digest(expand(self.prk, b"c proof"), self.t1, "sha256")

    def session_keys(self, welcome_without_proof: bytes) -> SessionKeys:
        """The broker's proof and the two keys, bound to WELCOME as well."""
        said = length_prefixed(self.t1, self.client_proof, welcome_without_proof)
        t2 = sha256(said).digest()
        return SessionKeys(
            hmac.digest(expand(self.prk, b"b proof"), t2, "sha256"),
            expand(self.prk, b"c2b" + t2),
            expand(self.prk, b"b2c" + t2),
        )


def client_nonce(
    psk: bytes,
    boot_id: bytes,
    counter: int,
    clocks: bytes,
    vm_generation: bytes,
    random: bytes,
) -> bytes:
    """The 32 bytes that a client says once only.

    A VM whose generator is predictable still does not repeat itself, because any one of boot id,
    counter, clocks, VM generation or random bytes that differs makes another nonce.
    """
    parts = (b"entropy/1 nonce", boot_id, counter.to_bytes(8, "big"), clocks, vm_generation, random)
    return hmac.digest(psk, length_prefixed(*parts), "sha256")
