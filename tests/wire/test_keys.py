"""The key schedule's own properties; test_vectors.py checks its values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entropy.errors import AuthenticationError
from entropy.wire import keys
from entropy.wire.keys import Agreement, Ephemeral, client_nonce, derive, length_prefixed

P = 2**255 - 19
# The points of order 1, 2, 4 and 8 on the curve and its twist (RFC 7748 section 6.1), and the same
# values unreduced: an honest key pair never has one.
LOW_ORDER = [
    0,
    1,
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
    P - 1,
    P,
    P + 1,
]


@pytest.mark.parametrize("point", LOW_ORDER)
@pytest.mark.parametrize("high_bit", [0, 1 << 255])
def test_low_order_points_are_refused(point: int, high_bit: int) -> None:
    public_key = (point | high_bit).to_bytes(32, "little")
    with pytest.raises(AuthenticationError):
        Ephemeral.new(b"e" * 32).exchange(public_key)
    with pytest.raises(AuthenticationError):
        keys.exchange(b"x" * 32, public_key)


@pytest.mark.parametrize("n_bytes", [0, 31, 33])
def test_public_keys_of_another_length_are_refused(n_bytes: int) -> None:
    with pytest.raises(AuthenticationError):
        Ephemeral.new(b"e" * 32).exchange(b"\x09" * n_bytes)


def test_both_ends_share_the_same() -> None:
    own, ephemeral = derive(b"s" * 32), Ephemeral.new(b"e" * 32)
    assert keys.exchange(own.private, ephemeral.public) == ephemeral.exchange(own.public)


def test_hkdf_is_rfc_5869() -> None:
    # Appendix A.1, whose output we need the first 32 bytes of.
    prk = keys.extract(bytes(range(13)), b"\x0b" * 22)
    assert prk.hex() == "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5"
    okm = keys.expand(prk, bytes.fromhex("f0f1f2f3f4f5f6f7f8f9"))
    assert okm.hex() == "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf"


@given(st.lists(st.binary(max_size=6), max_size=4), st.lists(st.binary(max_size=6), max_size=4))
def test_no_two_lists_have_one_transcript(one: list[bytes], other: list[bytes]) -> None:
    assert (length_prefixed(*one) == length_prefixed(*other)) == (one == other)


def test_each_thing_said_changes_every_key() -> None:
    said = [b"hello", b"auth", b"certificate", b"shared", b"psk", b"welcome"]

    def values(parts: list[bytes]) -> set[bytes]:
        agreement = Agreement(parts[0], parts[1], parts[2], parts[3], parts[4])
        return {agreement.client_proof, *agreement.session_keys(parts[5])}

    plain = values(said)
    assert len(plain) == 4
    for at in range(len(said)):
        changed = values([part + b"!" if i == at else part for i, part in enumerate(said)])
        # The client's proof comes before WELCOME and cannot depend on it; all else differs.
        assert len(plain & changed) == (1 if at == 5 else 0)


def test_any_difference_makes_another_nonce() -> None:
    same = (b"p" * 32, b"b" * 16, 1, b"clocks", b"generation", b"random")
    nonces = {client_nonce(*same)}
    nonces.add(client_nonce(b"q" * 32, *same[1:]))
    nonces.add(client_nonce(same[0], b"B" * 16, *same[2:]))
    nonces.add(client_nonce(*same[:2], 2, *same[3:]))
    nonces.add(client_nonce(*same[:3], b"clock", b"sgeneration", b"random"))
    nonces.add(client_nonce(*same[:4], b"generation1", b"random"))
    nonces.add(client_nonce(*same[:5], b"randon"))
    assert len(nonces) == 7
    assert client_nonce(*same) in nonces  # and nothing else goes into it


def test_secrets_are_not_shown() -> None:
    own = derive(b"s" * 32)
    session = Agreement(b"", b"", b"", b"", b"").session_keys(b"")
    for shown in (repr(own), str(own), repr(session), f"{session}"):
        assert "..." in shown
        assert not any(repr(value) in shown for value in (*own, *session))
