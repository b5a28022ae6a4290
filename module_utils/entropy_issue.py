"""Bring the state directory to what a task asks for.

Read, decide, write. Before the ledger nothing is written over that the ledger in force names: an
id's file is given its new key beside the old ones. Then comes the ledger. Then what it has ended
is deleted. So whatever an interrupted run left is either taken up or made anew by the next. Runs
on the controller only.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from entropy.credentials import (
    Credential,
    acl_entry,
    entry_as_json,
    fingerprint,
    new_credential,
)
from entropy.errors import CredentialError
from entropy.wire.keys import derive
from module_utils.entropy_acl_document import document, dump
from module_utils.entropy_acl_entries import NamedKey, acl_entries
from module_utils.entropy_authorities import commit_authorities, examine_authorities
from module_utils.entropy_certificates import commit_certificates, examine_certificates
from module_utils.entropy_keys import not_after
from module_utils.entropy_ledger import Key, Ledger, LedgerCredential
from module_utils.entropy_outcome import Outcome
from module_utils.entropy_plan import NewKey, Plan, make_plan
from module_utils.entropy_reports import refuse_if_lost, refuse_if_older, refuse_other_sites
from module_utils.entropy_request import PRESENT, Request
from module_utils.entropy_store import ACL, LEDGER, Store, credential_file, dump_credentials
from module_utils.entropy_times import text_of


@dataclass
class _Found:
    """What the store holds beside what the ledger says of it."""

    # Written for new ids by a run that did not reach the ledger.
    adopted: dict[str, list[Credential]] = field(default_factory=dict)
    # Encrypted anew by the operator, or with a key that no ledger ever named.
    digests: dict[str, str] = field(default_factory=dict)
    to_prune: list[str] = field(default_factory=list)
    acl_file_is_stale: bool = True


class _Files(NamedTuple):
    """An id's file before the ledger is written (None: as it is), and after (None: as before)."""

    before: list[Credential] | None
    after: list[Credential] | None


def ensure(store: Store, request: Request, *, now: datetime.datetime, check: bool) -> Outcome:
    """Do what the request says; in check mode only say what that takes.

    Raises CredentialError, with a remedy, when the state directory is missing, damaged, of
    another site, older than what a broker holds, or does not agree with itself.
    """
    _refuse_to_begin(store, request)
    with store.lock(to_write=not check):
        before = store.read_ledger()
        _refuse_to_go_on(store, request, before)
        plan = make_plan(before.credentials if before else {}, request, now)
        found = _examine(store, before, plan, request)
        authorities = examine_authorities(store, before, request, now)
        certificates = examine_certificates(store, before, request, authorities, now)
        after = Ledger(
            site_id=request.site_id,
            generation=_generation(before, plan, request),
            authorities=authorities.records,
            acl_file_sha256="",
            credentials=_with_digests(plan.credentials, found.digests),
            certificates=certificates.recorded,
        )
        if not check:
            authorities = commit_authorities(store, request.site_id, authorities, now)
            certificates = commit_certificates(
                store, request.site_id, certificates, authorities, now
            )
            after = replace(
                after, authorities=authorities.records, certificates=certificates.recorded
            )
        if before is not None and after.generation == before.generation:
            kept = "" if found.acl_file_is_stale else before.acl_file_sha256
            after = replace(after, acl_file_sha256=kept)
        if not check:
            after = _commit(store, before, after, plan, found, now)
    return Outcome(before, after, plan, authorities, certificates.pems, request, now)


def _refuse_to_begin(store: Store, request: Request) -> None:
    refuse_other_sites(request.reports, request.site_id)
    if store.read(LEDGER) is not None:
        return
    refuse_if_lost(request.reports, store.path(LEDGER))
    if not request.bootstrap or request.state != PRESENT:
        raise CredentialError(
            f"{store.path(LEDGER)} does not exist. If this fleet has been deployed before, its "
            "state directory is lost or the path is wrong: restore the newest backup or correct "
            "the path. To start a new fleet, once: -e entropy_bootstrap=true"
        )


def _refuse_to_go_on(store: Store, request: Request, ledger: Ledger | None) -> None:
    if ledger is None:
        return
    if ledger.site_id != request.site_id:
        raise CredentialError(
            f"{store.path(LEDGER)} belongs to the site {ledger.site_id} and {request.site_id} "
            "was asked for: use the inventory and the state directory of the same fleet"
        )
    if not request.supersede:
        refuse_if_older(request.reports, ledger.generation, store.path(LEDGER))


def _examine(store: Store, ledger: Ledger | None, plan: Plan, request: Request) -> _Found:
    """Compare the store with the ledger. CredentialError where a secret is lost or another's."""
    found = _Found()
    recorded = ledger.credentials if ledger else {}
    for name in plan.new_keys:
        if name not in recorded and store.digest(credential_file(name)) is not None:
            found.adopted[name] = store.read_credentials(name, request.site_id)[-1:]
    for name, credential in recorded.items():
        if ledger is None or not credential.valid_keys():
            continue
        digest = store.digest(credential_file(name))
        if digest != credential.file_sha256:
            issued = store.read_issued(ledger, name)  # refuses a missing file, and another key
            if len(store.read_credentials(name, request.site_id)) > len(issued):
                found.to_prune.append(name)
            found.digests[name] = str(digest)
    if ledger is not None:
        found.acl_file_is_stale = store.digest(ACL) != ledger.acl_file_sha256
    return found


def _generation(before: Ledger | None, plan: Plan, request: Request) -> int:
    """The number of the brokers' list: one more if anything changes in it."""
    if before is None:
        return 1
    reported = max((report.generation for report in request.reports), default=0)
    if reported > before.generation:  # superseded: the brokers must take ours
        return reported + 1
    changed = bool(plan.new_keys) or _listed(before.credentials) != _listed(plan.credentials)
    return before.generation + changed


def _listed(credentials: Mapping[str, LedgerCredential]) -> list[tuple[Any, ...]]:
    """All that the brokers are told, but for the keys themselves."""
    return [
        (
            name,
            key.key_id,
            credential.terms.permissions,
            credential.terms.limits,
            credential.terms.addresses,
            not_after(credential, key),
        )
        for name, credential in sorted(credentials.items())
        for key in credential.valid_keys()
    ]


def _with_digests(
    credentials: Mapping[str, LedgerCredential], digests: Mapping[str, str]
) -> dict[str, LedgerCredential]:
    """With the digest of each file; none of an id without a key, which has no file."""
    return {
        name: replace(
            credential,
            file_sha256=digests.get(name, credential.file_sha256)
            if credential.valid_keys()
            else "",
        )
        for name, credential in credentials.items()
    }


def _commit(
    store: Store,
    before: Ledger | None,
    after: Ledger,
    plan: Plan,
    found: _Found,
    now: datetime.datetime,
) -> Ledger:
    made = {name: _new_key(name, new, after, found) for name, new in plan.new_keys.items()}
    credentials = dict(after.credentials)
    for name, credential in made.items():
        key = _key(credential, plan.new_keys[name], now)
        old = credentials[name]
        credentials[name] = replace(old, keys=(*old.keys, key))
    after = replace(after, credentials=credentials)
    files = _files(store, before, after, made, found)
    early = {n: f.before for n, f in files.items() if f.before is not None}
    late = {n: f.after for n, f in files.items() if f.after is not None}
    digests = store.write_secrets(_plain(early))
    encrypted = store.encrypt(_plain(late))
    digests |= {name: store.digest_of(data) for name, data in encrypted.items()}
    after = replace(
        after,
        credentials=_with_digests(
            after.credentials,
            {name: digests[credential_file(name)] for name in files},
        ),
    )
    if not after.acl_file_sha256:
        known = [c for file in (*early.values(), *late.values()) for c in file]
        after = replace(after, acl_file_sha256=_write_acl(store, after, known))
    if after != before:
        store.write_ledger(after)
    store.write_all(encrypted)
    store.sweep(after)
    return after


def _files(
    store: Store,
    before: Ledger | None,
    after: Ledger,
    made: Mapping[str, Credential],
    found: _Found,
) -> dict[str, _Files]:
    """The files that change: of ids with other valid keys or other permissions."""
    files = {}
    for name, credential in after.credentials.items():
        valid = credential.valid_keys()
        old = before.credentials.get(name) if before is not None else None
        old_valid = old.valid_keys() if old is not None else []
        same_keys = [key.key_id for key in valid] == [key.key_id for key in old_valid]
        same_text = old is not None and old.terms.permissions == credential.terms.permissions
        if not valid or (same_keys and same_text and name not in found.to_prune):
            continue
        held = store.read_issued(before, name) if before is not None and old_valid else []
        if name in made:
            held = [*held, made[name]]
        permissions = frozenset(credential.terms.permissions)
        held = [c._replace(permissions=permissions) for c in held]
        wanted = {key.key_id for key in valid}
        kept = [c for c in held if c.key_id.hex() in wanted]
        if len(kept) == len(held):
            files[name] = _Files(held, None)
        else:
            files[name] = _Files(held if name in made else None, kept)
    return files


def _plain(files: Mapping[str, Sequence[Credential]]) -> dict[str, bytes]:
    return {credential_file(name): dump_credentials(held) for name, held in files.items()}


def _new_key(name: str, new: NewKey, ledger: Ledger, found: _Found) -> Credential:
    if name in found.adopted:
        return found.adopted[name][0]
    permissions = list(ledger.credentials[name].terms.permissions)
    return new_credential(name, ledger.site_id, permissions)


def _write_acl(store: Store, ledger: Ledger, fresh: Sequence[Credential]) -> str:
    known = {(c.id, c.key_id): acl_entry(c) for c in fresh}

    def read(keys: Sequence[NamedKey]) -> list[Credential]:
        names = dict.fromkeys(name for name, _ in keys)
        return [c for name in names for c in store.read_issued(ledger, name)]

    entries = [entry_as_json(entry) for entry in acl_entries(store, ledger, known, read)]
    text = dump(document(ledger.site_id, ledger.generation, entries))
    return store.write_secrets({ACL: text.encode()})[ACL]


def _key(credential: Credential, new: NewKey, now: datetime.datetime) -> Key:
    public = derive(credential.secret).public
    return Key(
        credential.key_id.hex(),
        fingerprint(public),
        new.state,
        text_of(now),
        bootstrap_seconds=new.bootstrap_seconds,
    )
