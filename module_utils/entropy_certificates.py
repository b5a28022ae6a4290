"""The fleet's authority and its brokers' certificates in the state directory.

As with the credentials: `examine_certificates` reads and decides, `commit_certificates` writes,
each key before its certificate, and the caller records both in the ledger last. Runs on the
controller only.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from entropy.authority import (
    Issued,
    certificate_fingerprint,
    certificate_names,
    issue_broker,
    new_authority,
    remaining_fraction,
)
from entropy.errors import CredentialError
from entropy.wire.codes import certificate_name
from module_utils.entropy_ledger import Ledger, LedgerCertificate
from module_utils.entropy_request import Request
from module_utils.entropy_store import CA_CERTIFICATE, CA_KEY, Store, tls_files

# A certificate is replaced when less than this fraction of its life is left.
RENEW_BELOW_FRACTION = 1 / 3
# Stands in a preview for what will only be known when it has been made.
TO_BE_MADE = LedgerCertificate("", "", "", "")


class Certificates(NamedTuple):
    """What there is. `missing` are the brokers whose certificate has to be made.

    `ca_pem` is empty, and `authority` TO_BE_MADE, when there is no authority yet.
    """

    authority: LedgerCertificate
    ca_pem: bytes
    recorded: Mapping[str, LedgerCertificate]
    pems: Mapping[str, bytes]
    missing: list[str]


def examine_certificates(
    store: Store, ledger: Ledger | None, request: Request, now: datetime.datetime
) -> Certificates:
    """What is there and may stay. CredentialError when the authority is lost or was replaced."""
    authority, ca_pem = _authority(store, ledger, now)
    recorded = dict(ledger.certificates) if ledger else {}
    pems: dict[str, bytes] = {}
    missing = []
    for broker in request.brokers:
        found = _usable(store, request.site_id, broker, recorded.get(broker), now)
        if found is None:
            missing.append(broker)
            recorded[broker] = TO_BE_MADE
            pems[broker] = b""
        else:
            recorded[broker], pems[broker] = found
    return Certificates(authority, ca_pem, recorded, pems, missing)


def commit_certificates(
    store: Store, request: Request, examined: Certificates, now: datetime.datetime
) -> Certificates:
    """Make the authority if there is none, and the certificates that are missing."""
    authority, ca_pem = examined.authority, examined.ca_pem
    if not ca_pem:
        made = new_authority(request.site_id)
        ca_pem = made.certificate_pem
        authority = _write(store, made, CA_KEY, CA_CERTIFICATE, now)
    recorded, pems = dict(examined.recorded), dict(examined.pems)
    if examined.missing:
        signer = _signer(store, ca_pem)
        for broker in examined.missing:
            key_file, certificate_file = tls_files(broker)
            made = issue_broker(signer, broker, request.site_id)
            recorded[broker] = _write(store, made, key_file, certificate_file, now)
            pems[broker] = made.certificate_pem
    return Certificates(authority, ca_pem, recorded, pems, [])


def key_matches(key_pem: bytes, certificate_pem: bytes) -> bool:
    """Whether a private key belongs to a certificate."""
    try:
        key = load_pem_private_key(key_pem, None)
        certificate = x509.load_pem_x509_certificate(certificate_pem)
    except (ValueError, TypeError):
        return False
    return key.public_key() == certificate.public_key()


def _authority(
    store: Store, ledger: Ledger | None, now: datetime.datetime
) -> tuple[LedgerCertificate, bytes]:
    found = store.read_certificate(CA_CERTIFICATE)
    digest = store.digest(CA_KEY)
    if ledger is None and found is None:
        return TO_BE_MADE, b""  # a key alone was left by a run that got no further
    recorded = ledger.authority if ledger else None
    if found is None or digest is None or (recorded and recorded.fingerprint != found[1]):
        raise CredentialError(
            f"{store.path('ca')} does not hold the authority of this fleet, with its key: restore "
            "the state directory from its newest backup. Every machine of the fleet trusts that "
            "authority alone"
        )
    if recorded and recorded.key_file_sha256 == digest:
        return recorded, found[0]
    _signer(store, found[0])
    created = recorded.created if recorded else _text(now)
    return LedgerCertificate(found[1], _expires(found[0]), created, digest), found[0]


def _signer(store: Store, ca_pem: bytes) -> Issued:
    """The authority with its key. CredentialError if the key is of another certificate."""
    key_pem = store.read_secret(CA_KEY)
    if not key_matches(key_pem, ca_pem):
        raise CredentialError(
            f"{store.path(CA_KEY)} is not the key of {store.path(CA_CERTIFICATE)}: restore both "
            "from the newest backup of the state directory"
        )
    return Issued(key_pem, ca_pem)


def _usable(
    store: Store,
    site_id: str,
    broker: str,
    recorded: LedgerCertificate | None,
    now: datetime.datetime,
) -> tuple[LedgerCertificate, bytes] | None:
    """A broker's certificate, if the one that the ledger names is there, whole and not too old."""
    key_file, certificate_file = tls_files(broker)
    found = store.read_certificate(certificate_file)
    digest = store.digest(key_file)
    if recorded is None or found is None or digest is None or recorded.fingerprint != found[1]:
        return None
    certificate_pem = found[0]
    if certificate_names(certificate_pem) != [certificate_name(broker, site_id)]:
        return None
    if remaining_fraction(certificate_pem, now) < RENEW_BELOW_FRACTION:
        return None
    if digest != recorded.key_file_sha256:
        # Encrypted anew by the operator, or left by a run that wrote the key and got no further.
        if not key_matches(store.read_secret(key_file), certificate_pem):
            return None
        recorded = LedgerCertificate(
            recorded.fingerprint, recorded.expires, recorded.created, digest
        )
    return recorded, certificate_pem


def _write(
    store: Store, made: Issued, key_file: str, certificate_file: str, now: datetime.datetime
) -> LedgerCertificate:
    digest = store.write_secrets({key_file: made.key_pem})[key_file]
    store.write(certificate_file, made.certificate_pem)
    fingerprint = certificate_fingerprint(made.certificate_pem)
    return LedgerCertificate(fingerprint, _expires(made.certificate_pem), _text(now), digest)


def _expires(certificate_pem: bytes) -> str:
    return _text(x509.load_pem_x509_certificate(certificate_pem).not_valid_after_utc)


def _text(moment: datetime.datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
