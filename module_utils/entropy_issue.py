"""Make the credentials and certificates that a fleet lacks.

Two steps: `_examine` reads and decides, `_commit` writes. The ledger is written last, so whatever
an interrupted run left is either taken up or made anew by the next. Runs on the controller only.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from entropy.credentials import (
    Credential,
    acl_entry,
    dump_credential,
    entry_as_json,
    fingerprint,
    new_credential,
)
from entropy.errors import CredentialError
from entropy.wire.keys import derive
from module_utils.entropy_acl_document import document, dump
from module_utils.entropy_acl_entries import acl_entries
from module_utils.entropy_certificates import (
    Certificates,
    commit_certificates,
    examine_certificates,
)
from module_utils.entropy_ledger import (
    ACTIVE,
    Key,
    Ledger,
    LedgerCertificate,
    LedgerCredential,
)
from module_utils.entropy_request import Request, Wish
from module_utils.entropy_store import ACL, LEDGER, Store, credential_file


class Outcome(NamedTuple):
    """What was done, or in check mode would be done. `before` is None when a fleet begins."""

    before: Ledger | None
    after: Ledger
    issued: list[str]
    updated: list[str]
    orphans: list[str]
    ca_pem: bytes
    certificate_pems: Mapping[str, bytes]

    @property
    def changed(self) -> bool:
        return self.before != self.after

    def as_result(self, brokers: Sequence[str]) -> dict[str, Any]:
        """What a task returns. Nothing in it is secret."""
        before, after = _shown(self.before, self.after), _shown(self.after, self.before)
        return {
            "changed": self.changed,
            "generation": self.after.generation,
            "issued": self.issued,
            "updated": self.updated,
            "orphans": self.orphans,
            "ca_pem": self.ca_pem.decode(),
            "certificates": {
                broker: {
                    "fingerprint": self.after.certificates[broker].fingerprint,
                    "expires": self.after.certificates[broker].expires,
                    "certificate_pem": self.certificate_pems[broker].decode(),
                }
                for broker in brokers
            },
            "diff": {
                "before_header": LEDGER,
                "after_header": LEDGER,
                "before": before,
                "after": after,
            },
        }


@dataclass
class _Plan:
    """What is to be done about the credentials."""

    issue: list[str] = field(default_factory=list)
    # Written by a run that did not reach the ledger.
    adopt: dict[str, Credential] = field(default_factory=dict)
    update: list[str] = field(default_factory=list)
    # Encrypted anew by the operator: the same key in a file with another digest.
    digests: dict[str, str] = field(default_factory=dict)
    acl_file_is_stale: bool = True


def ensure(store: Store, request: Request, *, now: datetime.datetime, check: bool) -> Outcome:
    """Bring the state directory to what is asked for; in check mode only say what that takes.

    Raises CredentialError, with a remedy, when the state directory is missing, damaged, of
    another site, or does not agree with itself.
    """
    if store.read(LEDGER) is None and not request.bootstrap:
        raise CredentialError(
            f"{store.path(LEDGER)} does not exist. If this fleet has been deployed before, its "
            "state directory is lost or the path is wrong: restore the newest backup or correct "
            "the path. To start a new fleet say so with bootstrap=true"
        )
    with store.lock(to_write=not check):
        before = store.read_ledger()
        if before is not None and before.site_id != request.site_id:
            raise CredentialError(
                f"{store.path(LEDGER)} belongs to the site {before.site_id} and {request.site_id} "
                "was asked for: use the inventory and the state directory of the same fleet"
            )
        plan = _examine(store, before, request)
        certificates = examine_certificates(store, before, request, now)
        if check:
            after = _ledger(before, request, plan, certificates, {}, {})
        else:
            certificates = commit_certificates(store, request, certificates, now)
            after = _commit(store, before, request, plan, certificates, now)
    return Outcome(
        before,
        after,
        issued=sorted([*plan.issue, *plan.adopt]),
        updated=sorted(plan.update),
        orphans=sorted(set(after.credentials) - set(request.credentials)),
        ca_pem=certificates.ca_pem,
        certificate_pems=certificates.pems,
    )


def _examine(store: Store, ledger: Ledger | None, request: Request) -> _Plan:
    plan = _Plan()
    recorded = ledger.credentials if ledger else {}
    for name, wish in request.credentials.items():
        if name in recorded:
            if Wish(recorded[name].permissions, recorded[name].limits) != wish:
                plan.update.append(name)
        elif store.digest(credential_file(name)) is None:
            plan.issue.append(name)
        else:
            plan.adopt[name] = store.read_credential(name, request.site_id)
    for name, credential in recorded.items():
        digest = store.digest(credential_file(name))
        if ledger is not None and digest != credential.file_sha256:
            store.read_issued(ledger, name)  # refuses a missing file, and another key
            plan.digests[name] = str(digest)
    if ledger is not None:
        plan.acl_file_is_stale = store.digest(ACL) != ledger.acl_file_sha256
    return plan


def _commit(
    store: Store,
    before: Ledger | None,
    request: Request,
    plan: _Plan,
    certificates: Certificates,
    now: datetime.datetime,
) -> Ledger:
    texts = _credentials_to_write(store, before, request, plan)
    digests = store.write_secrets(
        {credential_file(n): dump_credential(c).encode() for n, c in texts.items()}
    )
    after = _ledger(
        before,
        request,
        plan,
        certificates,
        keys={name: _key(credential, now) for name, credential in texts.items()},
        digests={name: digests[credential_file(name)] for name in texts},
    )
    if not after.acl_file_sha256:
        after = replace(after, acl_file_sha256=_write_acl(store, after, texts))
    if after != before:
        store.write_ledger(after)
    return after


def _credentials_to_write(
    store: Store, ledger: Ledger | None, request: Request, plan: _Plan
) -> dict[str, Credential]:
    """The new credentials, and the old ones whose text changes with their permissions."""
    texts = {}
    for name, wish in request.credentials.items():
        if name in plan.issue:
            texts[name] = new_credential(name, request.site_id, list(wish.permissions))
            continue
        credential = plan.adopt.get(name)
        old = ledger.credentials.get(name) if ledger is not None else None
        if ledger is not None and old is not None and old.permissions != wish.permissions:
            credential = store.read_issued(ledger, name)
        if credential is not None:
            texts[name] = credential._replace(permissions=frozenset(wish.permissions))
    return texts


def _ledger(
    before: Ledger | None,
    request: Request,
    plan: _Plan,
    certificates: Certificates,
    keys: Mapping[str, Key],
    digests: Mapping[str, str],
) -> Ledger:
    """The ledger as it will be. In check mode what was not made yet has no keys and digests."""
    recorded = dict(before.credentials) if before else {}
    for name, digest in plan.digests.items():
        recorded[name] = replace(recorded[name], file_sha256=digest)
    for name in [*plan.issue, *plan.adopt, *plan.update]:
        wish, old = request.credentials[name], recorded.get(name)
        new_keys = (keys[name],) if name in keys else ()
        recorded[name] = LedgerCredential(
            wish.permissions,
            wish.limits,
            old.keys if old else new_keys,
            digests.get(name, old.file_sha256 if old else ""),
        )
    acl_changes = before is None or bool(plan.issue or plan.adopt or plan.update)
    keep_acl_file = before is not None and not acl_changes and not plan.acl_file_is_stale
    return Ledger(
        site_id=request.site_id,
        generation=(before.generation if before else 0) + acl_changes,
        authority=certificates.authority,
        acl_file_sha256=before.acl_file_sha256 if before and keep_acl_file else "",
        credentials=recorded,
        certificates=certificates.recorded,
    )


def _write_acl(store: Store, ledger: Ledger, texts: Mapping[str, Credential]) -> str:
    known = {(c.id, c.key_id): acl_entry(c) for c in texts.values()}

    def read(names: list[str]) -> list[Credential]:
        return [store.read_issued(ledger, name) for name in names]

    entries = [entry_as_json(entry) for entry in acl_entries(store, ledger, known, read)]
    text = dump(document(ledger.site_id, ledger.generation, entries))
    return store.write_secrets({ACL: text.encode()})[ACL]


def _key(credential: Credential, now: datetime.datetime) -> Key:
    public = derive(credential.secret).public
    return Key(credential.key_id.hex(), fingerprint(public), ACTIVE, f"{now:%Y-%m-%dT%H:%M:%SZ}")


def _shown(ledger: Ledger | None, other: Ledger | None) -> str:
    """What a diff shows of a ledger: where it differs from the other, without digests."""
    if ledger is None:
        return ""
    lines = [f"site_id: {ledger.site_id}", f"generation: {ledger.generation}"]
    lines.append(f"authority: {_certificate_line(ledger.authority)}")
    for name, credential in sorted(ledger.credentials.items()):
        if other is None or other.credentials.get(name) != credential:
            lines.append(f"{name}: {_credential_line(credential)}")
    for name, certificate in sorted(ledger.certificates.items()):
        if other is None or other.certificates.get(name) != certificate:
            lines.append(f"certificate of {name}: {_certificate_line(certificate)}")
    return "\n".join(lines) + "\n"


def _credential_line(credential: LedgerCredential) -> str:
    limits = "".join(f", {limit}: {value}" for limit, value in sorted(credential.limits.items()))
    keys = ", ".join(key.fingerprint for key in credential.active_keys()) or "a new key"
    return f"[{', '.join(credential.permissions)}]{limits}, {keys}"


def _certificate_line(certificate: LedgerCertificate) -> str:
    if not certificate.fingerprint:
        return "to be made"
    return f"{certificate.fingerprint}, expires {certificate.expires}"
