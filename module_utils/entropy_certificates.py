"""The brokers' certificates in the state directory.

As with the credentials: `examine_certificates` reads and decides, `commit_certificates` writes,
each key before its certificate, and the caller records both in the ledger last. Runs on the
controller only.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from entropy.authority import (
    certificate_fingerprint,
    certificate_names,
    issue_broker,
    issued_by,
    remaining_fraction,
)
from entropy.wire.codes import certificate_name
from module_utils.entropy_authorities import (
    TO_BE_MADE,
    Authorities,
    expires,
    key_matches,
    signer,
)
from module_utils.entropy_ledger import Ledger, LedgerCertificate
from module_utils.entropy_request import Request
from module_utils.entropy_store import Store, tls_files
from module_utils.entropy_times import text_of

# A certificate is replaced when less than this fraction of its life is left.
RENEW_BELOW_FRACTION = 1 / 3


class Certificates(NamedTuple):
    """What there is. `missing` are the brokers whose certificate has to be made."""

    recorded: Mapping[str, LedgerCertificate]
    pems: Mapping[str, bytes]
    missing: list[str]


def examine_certificates(
    store: Store,
    ledger: Ledger | None,
    request: Request,
    authorities: Authorities,
    now: datetime.datetime,
) -> Certificates:
    """What is there and may stay: by the authority that signs, whole and not too old."""
    recorded = dict(ledger.certificates) if ledger else {}
    pems: dict[str, bytes] = {}
    missing = []
    for broker in request.brokers:
        found = _usable(store, request.site_id, broker, recorded.get(broker), now)
        if found is None or not issued_by(found[1], authorities.active_pem):
            missing.append(broker)
            recorded[broker] = TO_BE_MADE
            pems[broker] = b""
        else:
            recorded[broker], pems[broker] = found
    return Certificates(recorded, pems, missing)


def commit_certificates(
    store: Store,
    site_id: str,
    examined: Certificates,
    authorities: Authorities,
    now: datetime.datetime,
) -> Certificates:
    """Make the certificates that are missing."""
    if not examined.missing:
        return examined
    recorded, pems = dict(examined.recorded), dict(examined.pems)
    authority = signer(store, authorities)
    for broker in examined.missing:
        key_file, certificate_file = tls_files(broker)
        made = issue_broker(authority, broker, site_id)
        digest = store.write_secrets({key_file: made.key_pem})[key_file]
        store.write(certificate_file, made.certificate_pem)
        pems[broker] = made.certificate_pem
        recorded[broker] = LedgerCertificate(
            certificate_fingerprint(made.certificate_pem),
            expires(made.certificate_pem),
            text_of(now),
            digest,
        )
    return Certificates(recorded, pems, [])


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
        recorded = replace(recorded, key_file_sha256=digest)
    return recorded, certificate_pem
