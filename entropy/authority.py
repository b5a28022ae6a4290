"""The fleet's own certificate authority, on the controller (and in the demo).

It signs nothing but brokers' certificates: ECDSA P-256, for TLS servers, with the broker's name
`<broker>.<site>.entropy.internal` as the only subject alternative name.
"""

from __future__ import annotations

import datetime
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from entropy.errors import CredentialError
from entropy.wire.codes import certificate_name, is_broker_id, is_site_id

_BACKDATED = datetime.timedelta(days=1)  # clocks of a fleet differ
_COMMON_NAME_LIMIT = 64  # X.520's bound


class Issued(NamedTuple):
    """A private key (PKCS 8) and its certificate, both PEM."""

    key_pem: bytes
    certificate_pem: bytes

    def __repr__(self) -> str:
        return f"Issued({certificate_fingerprint(self.certificate_pem)})"


def new_authority(site_id: str, *, days: int = 3650) -> Issued:
    """A new authority for a site. CredentialError if the name is not one."""
    _check_site(site_id)
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(f"entropy {site_id}")
    key_id = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    builder = (
        _builder(name, name, key.public_key(), days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(key_id, critical=False)
        .add_extension(_issued_by(key_id), critical=False)
    )
    return _issued(key, builder.sign(key, SHA256()))


def issue_broker(authority: Issued, broker_id: str, site_id: str, *, days: int = 730) -> Issued:
    """A new key and certificate for a broker. CredentialError if a name is not one."""
    if not is_broker_id(broker_id):
        raise CredentialError(
            f"{broker_id!r} cannot be a broker's id: 1 to 63 of a-z 0-9 and -, "
            "with a letter or digit first and last"
        )
    _check_site(site_id)
    issuer = _certificate(authority.certificate_pem)
    issuer_key = load_pem_private_key(authority.key_pem, None)
    if not isinstance(issuer_key, ec.EllipticCurvePrivateKey):
        raise CredentialError("the authority's key is not an ECDSA key")
    issuer_key_id = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    key = ec.generate_private_key(ec.SECP256R1())
    names = x509.SubjectAlternativeName([x509.DNSName(certificate_name(broker_id, site_id))])
    builder = (
        _builder(_name(broker_id), issuer.subject, key.public_key(), days)
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(_issued_by(issuer_key_id), critical=False)
    )
    return _issued(key, builder.sign(issuer_key, SHA256()))


def remaining_fraction(certificate_pem: bytes, now: datetime.datetime) -> float:
    """How much of a certificate's life is left at `now` (with a time zone): 1 new, 0 expired."""
    start, end = _validity(_certificate(certificate_pem))
    return min(1.0, max(0.0, (end - now) / (end - start)))


def certificate_names(certificate_pem: bytes) -> list[str]:
    """The DNS names in a certificate."""
    extensions = _certificate(certificate_pem).extensions
    try:
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return list(names.get_values_for_type(x509.DNSName))


def issued_by(certificate_pem: bytes, authority_pem: bytes) -> bool:
    """Whether a certificate names this authority's key as the one that signed it."""
    try:
        named = _certificate(certificate_pem).extensions.get_extension_for_class(
            x509.AuthorityKeyIdentifier
        )
        own = _certificate(authority_pem).extensions.get_extension_for_class(
            x509.SubjectKeyIdentifier
        )
    except x509.ExtensionNotFound:
        return False
    return named.value.key_identifier == own.value.digest


def certificate_fingerprint(certificate_pem: bytes) -> str:
    """SHA-256 of the DER form, as `openssl x509 -fingerprint -sha256` shows it (AB:CD:...)."""
    return _certificate(certificate_pem).fingerprint(SHA256()).hex(":").upper()


def _check_site(site_id: str) -> None:
    if not is_site_id(site_id):
        raise CredentialError(
            f"{site_id!r} cannot be a site's id: 1 to 63 of a-z 0-9 and -, "
            "with a letter or digit first and last"
        )


def _certificate(certificate_pem: bytes) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(certificate_pem)
    except ValueError:
        raise CredentialError("this is not a certificate in PEM") from None


def _validity(certificate: x509.Certificate) -> tuple[datetime.datetime, datetime.datetime]:
    # cryptography 42 renamed both and warns about the old names; Debian 12 has 38.
    utc = datetime.timezone.utc
    try:
        return certificate.not_valid_before_utc, certificate.not_valid_after_utc
    except AttributeError:
        return (
            certificate.not_valid_before.replace(tzinfo=utc),
            certificate.not_valid_after.replace(tzinfo=utc),
        )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:_COMMON_NAME_LIMIT])])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.timezone.utc)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _issued_by(key_id: x509.SubjectKeyIdentifier) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(key_id)


def _issued(key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> Issued:
    return Issued(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        certificate.public_bytes(Encoding.PEM),
    )
