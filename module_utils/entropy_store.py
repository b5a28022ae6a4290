"""The files of a fleet's state directory, on the controller.

    ledger.json                without secrets; written last
    ca/NAME.pem  ca/NAME.key   the fleet's authority, `ca` at first; the key is encrypted
    tls/BROKER.pem  .key       each broker's certificate; the key is encrypted
    credentials/ID.json        each id's credential.json, encrypted; while two keys are valid
                               {"version": 1, "keys": [the older one's, the newer one's]}
    acl.json                   what the brokers must know, encrypted: made from all of the above,
                               so that publishing costs one decryption and not one per id

Every file is mode 0600 and replaced in one step. Only one run at a time may write.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol, TypeVar

from entropy.authority import certificate_fingerprint
from entropy.credentials import Credential, dump_credential, fingerprint, parse_credential
from entropy.errors import CredentialError
from entropy.wire.keys import derive
from module_utils.entropy_files import replace, sync_directory
from module_utils.entropy_ledger import RETIRING, Ledger, dump_ledger, parse_ledger

LOCK_WAIT_SECONDS = 60.0
_WRITERS = 16  # threads that wait for the disk
_FEW = 2
_T = TypeVar("_T")
_R = TypeVar("_R")
LEDGER = "ledger.json"
ACL = "acl.json"


class Vault(Protocol):
    """What encrypts and decrypts the files. Both raise CredentialError."""

    def encrypt(self, plain: bytes) -> bytes: ...

    def decrypt(self, encrypted: bytes, where: str) -> bytes: ...


def credential_file(credential_id: str) -> str:
    return f"credentials/{credential_id}.json"


def authority_files(name: str) -> tuple[str, str]:
    """The key and the certificate of an authority."""
    return f"ca/{name}.key", f"ca/{name}.pem"


def tls_files(broker_id: str) -> tuple[str, str]:
    """The key and the certificate of a broker."""
    return f"tls/{broker_id}.key", f"tls/{broker_id}.pem"


class Store:
    """The state directory. Names of files are relative to it."""

    def __init__(self, state_dir: str, vault: Vault) -> None:
        if not os.path.isabs(state_dir):
            raise CredentialError(f"state_dir: {state_dir} must be an absolute path")
        self.directory = Path(state_dir)
        self.vault = vault

    def path(self, name: str) -> str:
        return str(self.directory / name)

    def prepare(self) -> None:
        """Make the directories that are missing, for their owner alone."""
        for directory in (self.directory, *(self.directory / n for n in _DIRECTORIES)):
            if not directory.is_dir():
                os.makedirs(directory, mode=0o700)
                sync_directory(str(directory.parent))

    @contextlib.contextmanager
    def lock(self, *, to_write: bool) -> Iterator[None]:
        """Keep others from writing. Raises CredentialError when another run does not end.

        A reader waits for a writer, and makes no lock where there never was a writer.
        """
        path = self.path(".lock")
        if to_write:
            self.prepare()
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        else:
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
            except FileNotFoundError:
                yield
                return
        try:
            _acquire(descriptor, fcntl.LOCK_EX if to_write else fcntl.LOCK_SH, path)
            yield
        finally:
            os.close(descriptor)

    def read(self, name: str) -> bytes | None:
        """The bytes of a file as it is on the disk, or None."""
        try:
            return (self.directory / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def digest(self, name: str) -> str | None:
        """SHA-256 of a file as it is on the disk, or None."""
        data = self.read(name)
        return None if data is None else self.digest_of(data)

    @staticmethod
    def digest_of(data: bytes) -> str:
        """SHA-256 of what a file holds or will hold, as it is on the disk."""
        return hashlib.sha256(data).hexdigest()

    def write(self, name: str, data: bytes) -> str:
        """Replace a file; its SHA-256."""
        replace(self.path(name), data)
        return self.digest_of(data)

    def read_secret(self, name: str) -> bytes:
        """What an encrypted file holds. CredentialError if it is absent or cannot be decrypted."""
        encrypted = self.read(name)
        if encrypted is None:
            raise CredentialError(f"{self.path(name)} is missing: {_RESTORE}")
        return self.vault.decrypt(encrypted, self.path(name))

    def encrypt(self, plain: Mapping[str, bytes]) -> dict[str, bytes]:
        """What files would hold, encrypted.

        It takes 4 ms of key derivation for each, in C code: threads use every core.
        """
        return dict(zip(plain, _at_once(self.vault.encrypt, plain.values(), os.cpu_count() or 1)))

    def write_all(self, files: Mapping[str, bytes]) -> dict[str, str]:
        """Replace files, in any order; the SHA-256 of each.

        Each waits for the disk. Many that wait at once wait little longer than one.
        """

        def write(name: str) -> str:
            replace(self.path(name), files[name], synced=False)
            return self.digest_of(files[name])

        digests = dict(zip(files, _at_once(write, files, _WRITERS)))
        for directory in {os.path.dirname(self.path(name)) for name in files}:
            sync_directory(directory)
        return digests

    def write_secrets(self, plain: Mapping[str, bytes]) -> dict[str, str]:
        """Encrypt and replace files; the SHA-256 of each as it is on the disk."""
        return self.write_all(self.encrypt(plain))

    def read_ledger(self) -> Ledger | None:
        text = self.read(LEDGER)
        return None if text is None else parse_ledger(text, self.path(LEDGER))

    def write_ledger(self, ledger: Ledger) -> None:
        self.write(LEDGER, dump_ledger(ledger).encode())

    @staticmethod
    def replace_elsewhere(path: str, data: bytes) -> None:
        """Replace a file outside of the state directory, for its owner alone."""
        replace(path, data)

    def delete(self, names: Iterable[str]) -> None:
        """Remove files; those that are not there do not matter."""
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.directory / name)

    def sweep(self, ledger: Ledger) -> None:
        """Delete the secrets that the ledger has ended."""
        self.delete(credential_file(name) for name in ledger.revoked_ids())
        self.delete(authority_files(a.name)[0] for a in ledger.authorities if a.state == RETIRING)

    def read_credentials(self, credential_id: str, site_id: str) -> list[Credential]:
        """All keys in an id's file, which must be this id's and this site's."""
        name = credential_file(credential_id)
        where = self.path(name)
        found = _parse_credentials(self.read_secret(name), where)
        for credential in found:
            if (credential.id, credential.site_id) != (credential_id, site_id):
                raise CredentialError(
                    f"{where} is the credential of {credential.id} of the site "
                    f"{credential.site_id}, not of {credential_id} of {site_id}: {_RESTORE}"
                )
        return found

    def read_issued(self, ledger: Ledger, credential_id: str) -> list[Credential]:
        """The valid keys of an id, the newest last. CredentialError if one is not in its file."""
        found = {
            (credential.key_id.hex(), fingerprint(derive(credential.secret).public)): credential
            for credential in self.read_credentials(credential_id, ledger.site_id)
        }
        issued = []
        for key in ledger.credentials[credential_id].valid_keys():
            credential = found.get((key.key_id, key.fingerprint))
            if credential is None:
                held = " and ".join(there for _, there in found)
                raise CredentialError(
                    f"{self.path(credential_file(credential_id))} holds the key {held} and the "
                    f"ledger names {key.fingerprint}: {_RESTORE}"
                )
            issued.append(credential)
        return issued

    def read_certificate(self, name: str) -> tuple[bytes, str] | None:
        """A certificate and its fingerprint, or None."""
        certificate_pem = self.read(name)
        if certificate_pem is None:
            return None
        try:
            return certificate_pem, certificate_fingerprint(certificate_pem)
        except CredentialError:
            return None


def dump_credentials(credentials: Sequence[Credential]) -> bytes:
    """What is encrypted in an id's file: its credential.json, or both while there are two."""
    texts = [dump_credential(credential) for credential in credentials]
    if len(texts) == 1:
        return texts[0].encode()
    return (json.dumps({"version": 1, "keys": [json.loads(t) for t in texts]}, indent=2)).encode()


def _parse_credentials(text: bytes, where: str) -> list[Credential]:
    try:
        data = json.loads(text)
        keys = data.get("keys", [data])
        return [parse_credential(json.dumps(key), where) for key in keys]
    except (ValueError, TypeError, AttributeError):
        raise CredentialError(f"{where} holds no credential: {_RESTORE}") from None


def _at_once(work: Callable[[_T], _R], items: Collection[_T], n_threads: int) -> list[_R]:
    """What `work` makes of each item; a few are not worth a thread."""
    if len(items) <= _FEW:
        return list(map(work, items))
    with ThreadPoolExecutor(min(n_threads, len(items))) as threads:
        return list(threads.map(work, items))


_DIRECTORIES = ("ca", "tls", "credentials")
_RESTORE = "restore it, and the ledger with it, from the newest backup of the state directory"


def _acquire(descriptor: int, how: int, path: str) -> None:
    deadline = time.monotonic() + LOCK_WAIT_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, how | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise CredentialError(
                    f"another run has held {path} for {LOCK_WAIT_SECONDS:g} s; wait until it has "
                    "ended and run again"
                ) from None
            time.sleep(0.2)
