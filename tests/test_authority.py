"""The fleet's authority: what it signs, and that OpenSSL takes it the way that we use TLS."""

from __future__ import annotations

import datetime
import hashlib
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID

from entropy.authority import (
    Issued,
    certificate_fingerprint,
    certificate_names,
    issue_broker,
    new_authority,
    remaining_fraction,
)
from entropy.errors import CredentialError

AUTHORITY = new_authority("lab")
BROKER = issue_broker(AUTHORITY, "broker1", "lab")
NOW = datetime.datetime.now(datetime.timezone.utc)


def test_the_authority_signs_brokers() -> None:
    authority = x509.load_pem_x509_certificate(AUTHORITY.certificate_pem)
    broker = x509.load_pem_x509_certificate(BROKER.certificate_pem)
    broker.verify_directly_issued_by(authority)
    constraints = authority.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (constraints.critical, constraints.value.ca, constraints.value.path_length) == (
        True,
        True,
        0,
    )
    assert not broker.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    usage = broker.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]


def test_the_key_is_the_certificates() -> None:
    for issued in (AUTHORITY, BROKER):
        key = load_pem_private_key(issued.key_pem, None)
        certificate = x509.load_pem_x509_certificate(issued.certificate_pem)
        assert key.public_key() == certificate.public_key()


def test_names() -> None:
    assert certificate_names(BROKER.certificate_pem) == ["broker1.lab.entropy.internal"]
    assert certificate_names(AUTHORITY.certificate_pem) == []


def test_the_longest_names_fit() -> None:
    authority = new_authority("s" * 63)
    issued = issue_broker(authority, "b" * 63, "s" * 63)
    (name,) = certificate_names(issued.certificate_pem)
    assert name == f"{'b' * 63}.{'s' * 63}.entropy.internal"


@pytest.mark.parametrize("name", ["", "a.b", "A", "a_b", "-a", "a" * 64, "*"])
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(CredentialError):
        new_authority(name)
    with pytest.raises(CredentialError):
        issue_broker(AUTHORITY, name, "lab")
    with pytest.raises(CredentialError):
        issue_broker(AUTHORITY, "broker1", name)


def test_life() -> None:
    def left(days: float) -> float:
        return remaining_fraction(BROKER.certificate_pem, NOW + datetime.timedelta(days=days))

    assert 0.99 < left(0) < 1  # it is backdated by one day of 731
    assert left(-1000) == 1
    assert 0.49 < left(365) < 0.51
    assert left(1000) == 0


def test_a_fingerprint_is_as_openssl_prints_it() -> None:
    shown = certificate_fingerprint(BROKER.certificate_pem)
    der = ssl.PEM_cert_to_DER_cert(BROKER.certificate_pem.decode())
    assert shown.replace(":", "").lower() == hashlib.sha256(der).hexdigest()
    assert len(shown.split(":")) == 32


def test_no_key_is_shown() -> None:
    assert "PRIVATE" not in f"{AUTHORITY!r} {AUTHORITY} {[AUTHORITY]}"


def test_what_is_no_certificate() -> None:
    for read in (certificate_names, certificate_fingerprint):
        with pytest.raises(CredentialError):
            read(b"x")
    with pytest.raises(CredentialError):
        issue_broker(Issued(AUTHORITY.key_pem, b"x"), "broker1", "lab")


def _handshake(server: Issued, authority: Issued, tmp_path: Path) -> None:
    (tmp_path / "server.pem").write_bytes(server.key_pem + server.certificate_pem)
    contexts = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    contexts[0].check_hostname = False
    contexts[0].verify_flags |= ssl.VERIFY_X509_STRICT
    contexts[0].load_verify_locations(cadata=authority.certificate_pem.decode())
    contexts[1].load_cert_chain(tmp_path / "server.pem")
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        contexts[0].wrap_bio(to_client, to_server),
        contexts[1].wrap_bio(to_server, to_client, server_side=True),
    ]
    while ends:
        end = ends.pop(0)
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            ends.append(end)


def test_openssl_accepts_it_even_when_strict(tmp_path: Path) -> None:
    _handshake(BROKER, AUTHORITY, tmp_path)


def test_another_authority_of_the_same_name_is_not_accepted(tmp_path: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        _handshake(BROKER, new_authority("lab"), tmp_path)


def test_a_broker_cannot_sign(tmp_path: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        _handshake(issue_broker(BROKER, "broker2", "lab"), BROKER, tmp_path)
