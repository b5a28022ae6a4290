"""The fleet's authorities in the state directory: one that signs, and while it is being replaced
a second one that is trusted beside it.

    begin a roll   a new one is made and trusted                 `next`
    one step on    it signs, and the one before is trusted still `active`, `retiring`
    one step on    it is the only one again

As with the credentials: `examine_authorities` reads and decides, `commit_authorities` writes, and
the caller records both in the ledger last. Runs on the controller only.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from entropy.authority import Issued, certificate_fingerprint, new_authority
from entropy.errors import CredentialError
from module_utils.entropy_ledger import ACTIVE, NEXT, RETIRING, Authority, Ledger, LedgerCertificate
from module_utils.entropy_request import ROLLED, Request
from module_utils.entropy_store import Store, authority_files
from module_utils.entropy_times import moment_of, text_of

FIRST = "ca"
# Stands in a preview for what will only be known when it has been made.
TO_BE_MADE = LedgerCertificate("", "", "", "")
# How far a roll is.
NO_ROLL, TRUSTING, SIGNING = "none", "trusting", "signing"


class Authorities(NamedTuple):
    """The authorities as they will be. One without a PEM has to be made first."""

    records: tuple[Authority, ...]
    pems: Mapping[str, bytes]

    @property
    def active(self) -> Authority:
        return next(record for record in self.records if record.state == ACTIVE)

    @property
    def active_pem(self) -> bytes:
        """Empty before there is one."""
        return self.pems.get(self.active.name, b"")

    @property
    def bundle_pem(self) -> bytes:
        """What every machine must trust, the one that signs first."""
        ordered = sorted(self.records, key=lambda record: record.state != ACTIVE)
        return b"".join(self.pems.get(record.name, b"") for record in ordered)

    def roll(self, overlap: datetime.timedelta) -> tuple[str, str]:
        """How far a roll is, and when its next step may be taken (empty: at any time)."""
        for record in self.records:
            if record.state in (NEXT, RETIRING):
                after = moment_of(record.since, "the ledger") + overlap
                return (TRUSTING if record.state == NEXT else SIGNING), text_of(after)
        return NO_ROLL, ""


def examine_authorities(
    store: Store, ledger: Ledger | None, request: Request, now: datetime.datetime
) -> Authorities:
    """What is there, moved one step on if that is asked for and due.

    CredentialError when one is lost or was replaced.
    """
    if ledger is None:
        return _found_without_ledger(store, now)
    records, pems = [], {}
    for record in ledger.authorities:
        checked, pems[record.name] = _recorded(store, record)
        records.append(checked)
    if request.state == ROLLED:
        records = _step(records, request.overlap, now)
    return Authorities(tuple(records), {r.name: pems[r.name] for r in records if r.name in pems})


def commit_authorities(
    store: Store, site_id: str, examined: Authorities, now: datetime.datetime
) -> Authorities:
    """Make the authority that is missing, if one is."""
    records, pems = [], dict(examined.pems)
    for record in examined.records:
        if record.name not in pems:
            made = new_authority(site_id)
            pems[record.name] = made.certificate_pem
            key_file, certificate_file = authority_files(record.name)
            digest = store.write_secrets({key_file: made.key_pem})[key_file]
            store.write(certificate_file, made.certificate_pem)
            record = replace(record, certificate=_said_of(made.certificate_pem, digest, now))
        records.append(record)
    return Authorities(tuple(records), pems)


def signer(store: Store, authorities: Authorities) -> Issued:
    """The authority that signs, with its key. CredentialError if the key is another's."""
    return _with_key(store, authorities.active.name, authorities.active_pem)


def key_matches(key_pem: bytes, certificate_pem: bytes) -> bool:
    """Whether a private key belongs to a certificate."""
    try:
        key = load_pem_private_key(key_pem, None)
        certificate = x509.load_pem_x509_certificate(certificate_pem)
    except (ValueError, TypeError):
        return False
    return key.public_key() == certificate.public_key()


def expires(certificate_pem: bytes) -> str:
    """The end of a certificate's validity, as the ledger has it."""
    return text_of(x509.load_pem_x509_certificate(certificate_pem).not_valid_after_utc)


def _found_without_ledger(store: Store, now: datetime.datetime) -> Authorities:
    """What a first run that was interrupted has left, or nothing yet."""
    key_file, certificate_file = authority_files(FIRST)
    found, digest = store.read_certificate(certificate_file), store.digest(key_file)
    if found is None:  # a key alone was left by a run that got no further
        return Authorities((Authority(FIRST, ACTIVE, text_of(now), TO_BE_MADE),), {})
    if digest is None:
        raise _lost(store)
    _with_key(store, FIRST, found[0])
    certificate = _said_of(found[0], digest, now)
    return Authorities((Authority(FIRST, ACTIVE, text_of(now), certificate),), {FIRST: found[0]})


def _recorded(store: Store, record: Authority) -> tuple[Authority, bytes]:
    """One authority of the ledger, with its PEM. The key of one that retires is gone."""
    key_file, certificate_file = authority_files(record.name)
    found, digest = store.read_certificate(certificate_file), store.digest(key_file)
    if found is None or record.certificate.fingerprint != found[1]:
        raise _lost(store)
    if record.state == RETIRING:
        return record, found[0]
    if digest is None:
        raise _lost(store)
    if digest != record.certificate.key_file_sha256:  # encrypted anew by the operator
        _with_key(store, record.name, found[0])
        certificate = replace(record.certificate, key_file_sha256=digest)
        record = replace(record, certificate=certificate)
    return record, found[0]


def _step(
    records: list[Authority], overlap: datetime.timedelta, now: datetime.datetime
) -> list[Authority]:
    """One step of a roll, if the overlap since the last one has passed."""
    for record in records:
        if record.state != ACTIVE and now < moment_of(record.since, "the ledger") + overlap:
            return records
    states = [record.state for record in records]
    if RETIRING in states:
        return [record for record in records if record.state != RETIRING]
    if NEXT in states:
        return [_moved(record, now) for record in records]
    number = 1 + max(_number(record.name) for record in records)
    return [*records, Authority(f"{FIRST}-{number}", NEXT, text_of(now), TO_BE_MADE)]


def _moved(record: Authority, now: datetime.datetime) -> Authority:
    """From next to active, from active to retiring; then its key signs no more and is deleted."""
    if record.state == NEXT:
        return replace(record, state=ACTIVE, since=text_of(now))
    certificate = replace(record.certificate, key_file_sha256="")
    return replace(record, state=RETIRING, since=text_of(now), certificate=certificate)


def _number(name: str) -> int:
    return int(name.rpartition("-")[2]) if "-" in name else 1


def _with_key(store: Store, name: str, certificate_pem: bytes) -> Issued:
    key_file, certificate_file = authority_files(name)
    key_pem = store.read_secret(key_file)
    if not key_matches(key_pem, certificate_pem):
        raise CredentialError(
            f"{store.path(key_file)} is not the key of {store.path(certificate_file)}: restore "
            "both from the newest backup of the state directory"
        )
    return Issued(key_pem, certificate_pem)


def _said_of(certificate_pem: bytes, digest: str, now: datetime.datetime) -> LedgerCertificate:
    fingerprint = certificate_fingerprint(certificate_pem)
    return LedgerCertificate(fingerprint, expires(certificate_pem), text_of(now), digest)


def _lost(store: Store) -> CredentialError:
    return CredentialError(
        f"{store.path('ca')} does not hold the authority of this fleet, with its key: restore "
        "the state directory from its newest backup. Every machine of the fleet trusts that "
        "authority alone"
    )
