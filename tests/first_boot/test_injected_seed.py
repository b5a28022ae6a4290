"""The sealed format: what it keeps, what it refuses, and that it is what its page says."""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entropy.credentials import Credential
from entropy.errors import CredentialError
from entropy.injected_seed import InjectedSeed, seal, unseal
from entropy.seed_places import LONGEST_TEXT, PREFIX, is_an_identity

CREDENTIAL = Credential("lab", "vm1", bytes(range(8)), bytes(range(32)), frozenset({"draw"}))
SEED = InjectedSeed(b"U" * 16, 1_700_000_000, 1_700_003_600, 448, b"N" * 32, bytes(range(64)))


@given(
    st.binary(min_size=16, max_size=16),
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**64 - 1),
    st.binary(min_size=32, max_size=32),
    st.binary(min_size=1, max_size=64),
)
def test_what_was_sealed_comes_out(
    uuid: bytes, issued: int, expires: int, nonce: bytes, data: bytes
) -> None:
    seed = InjectedSeed(uuid, issued, expires, 8 * len(data), nonce, data)
    text = seal(CREDENTIAL, seed)
    assert text.isascii()
    assert not set(text) & set(', "\\\n')  # for command lines and XML
    assert len(text) <= LONGEST_TEXT
    assert unseal(text, CREDENTIAL) == seed


def test_the_bytes_are_those_of_the_description() -> None:
    """Computed a second time, from the description alone."""

    def mac(key: bytes, said: bytes, kind: str) -> bytes:
        return hmac.new(key, said, kind).digest()

    header = (
        b"\x01"
        + CREDENTIAL.key_id
        + SEED.uuid
        + SEED.issued_unix.to_bytes(8, "big")
        + SEED.expires_unix.to_bytes(8, "big")
        + SEED.credit_bits.to_bytes(2, "big")
        + SEED.nonce
    )
    k1 = mac(CREDENTIAL.secret, b"entropy/1 injected seed stream\x01", "sha256")
    k2 = mac(CREDENTIAL.secret, b"entropy/1 injected seed tag\x01", "sha256")
    stream = mac(k1, header, "sha512")
    sealed = bytes(a ^ b for a, b in zip(SEED.data, stream))
    tag = mac(k2, header + sealed, "sha512")[:32]
    text = PREFIX + base64.urlsafe_b64encode(header + sealed + tag).decode()
    assert seal(CREDENTIAL, SEED) == text
    assert len(text) == 243
    # Published, so that others can write these too.
    assert hashlib.sha256(text.encode()).hexdigest().startswith(FIRST_DIGITS)


FIRST_DIGITS = "6f7be4e2af690263"


@given(st.data())
def test_no_altered_text_is_opened(data: st.DataObject) -> None:
    text = seal(CREDENTIAL, SEED)
    body = bytearray(base64.urlsafe_b64decode(text.removeprefix(PREFIX)))
    at = data.draw(st.integers(0, len(body) - 1))
    body[at] ^= data.draw(st.integers(1, 255))
    altered = PREFIX + base64.urlsafe_b64encode(body).decode()
    with pytest.raises(CredentialError):
        unseal(altered, CREDENTIAL)


@given(st.integers(0, 242))
def test_no_cut_text_is_opened(n_characters: int) -> None:
    with pytest.raises(CredentialError):
        unseal(seal(CREDENTIAL, SEED)[:n_characters], CREDENTIAL)


@given(st.text(max_size=300))
def test_no_other_text_is_opened(text: str) -> None:
    for guess in (text, PREFIX + text):
        with pytest.raises(CredentialError):
            unseal(guess, CREDENTIAL)


def test_another_credential_opens_nothing() -> None:
    text = seal(CREDENTIAL, SEED)
    with pytest.raises(CredentialError, match="sealed for the key 0001020304050607"):
        unseal(text, CREDENTIAL._replace(key_id=b"otherkey"))
    with pytest.raises(CredentialError, match="another secret"):
        unseal(text, CREDENTIAL._replace(secret=b"s" * 32))


@pytest.mark.parametrize(
    "wrong",
    [
        {"data": b""},
        {"data": b"x" * 65},
        {"credit_bits": 513},
        {"uuid": b"short"},
        {"nonce": b"short"},
    ],
)
def test_what_cannot_be_sealed(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"seed|worth|UUID"):
        seal(CREDENTIAL, SEED._replace(**wrong))


def test_a_seed_does_not_show_itself() -> None:
    assert SEED.data.hex() not in repr(SEED)
    assert repr(SEED).startswith("InjectedSeed(64 bytes")


def test_firmware_without_a_uuid_is_nobody() -> None:
    assert not is_an_identity(bytes(16))
    assert not is_an_identity(b"\xff" * 16)
    assert not is_an_identity(b"short")
    assert is_an_identity(b"U" * 16)
