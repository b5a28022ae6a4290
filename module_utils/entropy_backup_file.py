"""The whole state directory in one encrypted file, and back.

The file is a tar of the directory as it is, encrypted with the vault password of the run. The same
state gives the same tar, so a backup of what is there already changes nothing. Runs on the
controller only.
"""

from __future__ import annotations

import io
import os
import re
import tarfile
from typing import Any, NamedTuple

from entropy.errors import CredentialError
from module_utils.entropy_ledger import Ledger, parse_ledger
from module_utils.entropy_reports import Report, refuse_if_older, refuse_other_sites
from module_utils.entropy_store import (
    ACL,
    LEDGER,
    Store,
    authority_files,
    credential_file,
    tls_files,
)

_NAME = re.compile(r"ledger\.json|acl\.json|(ca|tls|credentials)/[a-z0-9][a-z0-9._-]*")

Files = dict[str, bytes]


class Moved(NamedTuple):
    """What was saved or restored, and whether that changed anything."""

    changed: bool
    path: str
    ledger: Ledger

    def as_result(self) -> dict[str, Any]:
        """What a task returns."""
        return {
            "changed": self.changed,
            "path": self.path,
            "site_id": self.ledger.site_id,
            "generation": self.ledger.generation,
            "n_ids": len(self.ledger.credentials),
        }


def save(store: Store, path: str, site_id: str, *, check: bool) -> Moved:
    """Write the backup, unless the file holds the same state.

    CredentialError when the state does not agree with itself, or the file is another fleet's or a
    newer one's.
    """
    _check_path(path)
    with store.lock(to_write=False):
        ledger = store.read_ledger()
        if ledger is None:
            raise CredentialError(f"{store.path(LEDGER)} does not exist: there is nothing to save")
        _check_site(ledger, site_id, store.path(LEDGER))
        files = _files(store, ledger)
    before = _read(store, path) if os.path.exists(path) else None
    if before is not None:
        old = parse_ledger(before[LEDGER], path)
        _check_site(old, site_id, path)
        if old.generation > ledger.generation:
            raise CredentialError(
                f"{path} is of generation {old.generation} and {store.path(LEDGER)} is at "
                f"{ledger.generation}: the state directory is an old copy. Restore that backup; a "
                "newer one is not overwritten"
            )
    changed = before != files
    if changed and not check:
        store.replace_elsewhere(path, store.vault.encrypt(_packed(files)))
    return Moved(changed, path, ledger)


def restore(
    store: Store,
    path: str,
    site_id: str,
    reports: list[Report],
    *,
    supersede: bool,
    check: bool,
) -> Moved:
    """Put the state directory back, the ledger last.

    CredentialError when the backup is another fleet's, or older than what is there or than what a
    broker holds; the latter two are allowed with `supersede`.
    """
    _check_path(path)
    files = _read(store, path)
    ledger = parse_ledger(files[LEDGER], path)
    _check_site(ledger, site_id, path)
    refuse_other_sites(reports, site_id)
    if not supersede:
        refuse_if_older(reports, ledger.generation, path)
    there = store.read(LEDGER)
    if there is not None and there != files[LEDGER]:
        present = parse_ledger(there, store.path(LEDGER))
        _check_site(present, site_id, store.path(LEDGER))
        if present.generation >= ledger.generation and not supersede:
            raise CredentialError(
                f"{store.path(LEDGER)} is at generation {present.generation} and {path} at "
                f"{ledger.generation}: what is there is not older than the backup. Nothing was "
                "changed. To go back nevertheless say so with supersede=true"
            )
    changed = [name for name, data in files.items() if store.read(name) != data]
    if changed and not check:
        with store.lock(to_write=True):
            store.write_all({name: files[name] for name in changed if name != LEDGER})
            store.write(LEDGER, files[LEDGER])
    return Moved(bool(changed), path, ledger)


def _files(store: Store, ledger: Ledger) -> Files:
    """Every file that the ledger names. CredentialError if one is not as it says."""
    wanted = {ACL: ledger.acl_file_sha256}
    for name, credential in ledger.credentials.items():
        if credential.valid_keys():
            wanted[credential_file(name)] = credential.file_sha256
    public = []
    for authority in ledger.authorities:
        key_file, certificate_file = authority_files(authority.name)
        public.append(certificate_file)
        if authority.certificate.key_file_sha256:
            wanted[key_file] = authority.certificate.key_file_sha256
    for broker, certificate in ledger.certificates.items():
        key_file, certificate_file = tls_files(broker)
        public.append(certificate_file)
        wanted[key_file] = certificate.key_file_sha256
    files = {}
    for name in (LEDGER, *wanted, *public):
        data = store.read(name)
        if data is None or store.digest_of(data) != wanted.get(name, store.digest_of(data)):
            raise CredentialError(
                f"{store.path(name)} is not what the ledger says: run playbooks/credentials.yml, "
                "which puts right what an interrupted run left, and then save again"
            )
        files[name] = data
    return files


def _packed(files: Files) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in sorted(files.items()):
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o600
            tar.addfile(member, io.BytesIO(data))
    return out.getvalue()


def _read(store: Store, path: str) -> Files:
    try:
        with open(path, "rb") as file:
            encrypted = file.read()
    except FileNotFoundError:
        raise CredentialError(f"{path} does not exist: name the backup to restore") from None
    plain = store.vault.decrypt(encrypted, path)
    files: Files = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(plain), mode="r:") as tar:
            for member in tar:
                content = tar.extractfile(member)
                if content is None or not _NAME.fullmatch(member.name):
                    raise CredentialError(f"{path} holds {member.name!r}, which is no part of it")
                files[member.name] = content.read()
    except tarfile.TarError:
        raise _no_backup(path) from None
    if LEDGER not in files:
        raise _no_backup(path)
    return files


def _check_path(path: str) -> None:
    if not os.path.isabs(path):
        raise CredentialError(f"path: {path} must be an absolute path")


def _check_site(ledger: Ledger, site_id: str, where: str) -> None:
    if ledger.site_id != site_id:
        raise CredentialError(
            f"{where} belongs to the site {ledger.site_id} and {site_id} was asked for: use the "
            "inventory and the state directory of the same fleet"
        )


def _no_backup(path: str) -> CredentialError:
    return CredentialError(f"{path} is not a backup of a state directory: name another file")
