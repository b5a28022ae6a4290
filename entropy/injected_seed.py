"""A seed that is carried to a VM before it has a network: sealed for one credential, used once.

As text, in one line, so that it fits where firmware carries strings:

    "entropy-seed-1:" + base64url(header | sealed | tag)

    header  version u8 = 1, key id (8), instance UUID (16), issued u64, expires u64 (seconds since
            1970, UTC), credit bits u16, nonce (32): 75 bytes, big-endian
    sealed  the seed, 1 to 64 bytes, XOR the first bytes of HMAC-SHA-512(k1, header)
    tag     the first 32 bytes of HMAC-SHA-512(k2, header | sealed)

    k1 = Expand(s, "entropy/1 injected seed stream")   s: the credential's secret
    k2 = Expand(s, "entropy/1 injected seed tag")      Expand: HKDF's, as in wire/keys.py

Encrypt, then MAC. HMAC-SHA-512 is a pseudorandom function: under k1 each header has 64 bytes of
its own, no header comes twice because of its nonce, and a seed is not longer than those 64 bytes.
Nothing but HMAC, because the library of the wire's AEAD asks the kernel for randomness when it is
loaded, and this is opened while the kernel has none.
"""

from __future__ import annotations

import base64
import hmac
import struct
from typing import NamedTuple

from entropy.credentials import Credential
from entropy.errors import CredentialError
from entropy.seed_places import LONGEST_TEXT, PREFIX, UUID_BYTES

MOST_SEED_BYTES = 64
NONCE_BYTES = 32
_VERSION = 1
_HEADER = struct.Struct(f"!B8s{UUID_BYTES}sQQH{NONCE_BYTES}s")
_TAG_BYTES = 32


class InjectedSeed(NamedTuple):
    """What was sealed. It may be credited with credit_bits, once, on the machine of that UUID."""

    uuid: bytes
    issued_unix: int
    expires_unix: int
    credit_bits: int
    nonce: bytes
    data: bytes

    def __repr__(self) -> str:
        return f"InjectedSeed({len(self.data)} bytes, {self.nonce.hex()[:16]})"


def seal(credential: Credential, seed: InjectedSeed) -> str:
    """The text to inject. ValueError for fields that cannot be."""
    if not 1 <= len(seed.data) <= MOST_SEED_BYTES:
        raise ValueError(f"a seed has 1 to {MOST_SEED_BYTES} bytes")
    if not 0 <= seed.credit_bits <= 8 * len(seed.data):
        raise ValueError(f"{len(seed.data)} bytes cannot be worth {seed.credit_bits} bits")
    if len(seed.uuid) != UUID_BYTES or len(seed.nonce) != NONCE_BYTES:
        raise ValueError("a UUID has 16 bytes and a nonce 32")
    header = _HEADER.pack(
        _VERSION,
        credential.key_id,
        seed.uuid,
        seed.issued_unix,
        seed.expires_unix,
        seed.credit_bits,
        seed.nonce,
    )
    sealed = _xor(seed.data, _stream(credential.secret, header))
    body = header + sealed + _tag(credential.secret, header + sealed)
    return PREFIX + base64.urlsafe_b64encode(body).decode()


def unseal(text: str, credential: Credential) -> InjectedSeed:
    """What is in an injected text. CredentialError if it was not sealed for this credential."""
    body = _body(text)
    said, tag = body[:-_TAG_BYTES], body[-_TAG_BYTES:]
    header, sealed = said[: _HEADER.size], said[_HEADER.size :]
    version, key_id, uuid, issued_unix, expires_unix, credit_bits, nonce = _HEADER.unpack(header)
    if version != _VERSION:
        raise CredentialError(f"its version is {version}: this release cannot open it")
    if key_id != credential.key_id:
        raise CredentialError(
            f"it was sealed for the key {key_id.hex()},"
            f" and {credential.id} has {credential.key_id.hex()}"
        )
    if not hmac.compare_digest(tag, _tag(credential.secret, said)):
        raise CredentialError("it was altered, or sealed with another secret")
    if credit_bits > 8 * len(sealed):
        raise CredentialError("it claims more bits than it has")
    data = _xor(sealed, _stream(credential.secret, header))
    return InjectedSeed(uuid, issued_unix, expires_unix, credit_bits, nonce, data)


def _body(text: str) -> bytes:
    text = text.strip()
    body = b""
    if text.startswith(PREFIX) and len(text) <= LONGEST_TEXT:
        encoded = text[len(PREFIX) :].encode("ascii", "replace")
        try:
            body = base64.b64decode(encoded, altchars=b"-_", validate=True)
        except ValueError:
            body = b""
    n_seed_bytes = len(body) - _HEADER.size - _TAG_BYTES
    if not 1 <= n_seed_bytes <= MOST_SEED_BYTES:
        raise CredentialError("it is cut short or damaged")
    return body


def _stream(secret: bytes, header: bytes) -> bytes:
    return hmac.digest(_expand(secret, b"entropy/1 injected seed stream"), header, "sha512")


def _tag(secret: bytes, said: bytes) -> bytes:
    key = _expand(secret, b"entropy/1 injected seed tag")
    return hmac.digest(key, said, "sha512")[:_TAG_BYTES]


def _expand(secret: bytes, info: bytes) -> bytes:
    # keys.expand, which cannot be imported without the wire's cryptography.
    return hmac.digest(secret, info + b"\x01", "sha256")


def _xor(data: bytes, stream: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(data, stream))
