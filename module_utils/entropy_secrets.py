"""What the lookups give: the texts of secrets, and the entries for the brokers.

Runs on the controller only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from entropy.credentials import Credential, dump_credential, entry_as_json, parse_credential
from entropy.errors import CredentialError
from module_utils.entropy_acl_entries import NamedKey, acl_entries
from module_utils.entropy_authorities import key_matches
from module_utils.entropy_ledger import Ledger
from module_utils.entropy_store import LEDGER, Store, tls_files

TLS = "tls:"  # a broker's id follows
KEY = "key:"  # KEY_ID:ID follows, for another key than the newest


def secret_texts(store: Store, terms: Sequence[str], *, check: bool) -> list[str]:
    """The text of each id's credential.json, or with "tls:" in front a broker's TLS key in PEM.

    In check mode what was not issued yet is an empty string. CredentialError otherwise, and when
    a secret is not the one that the ledger names.
    """
    with store.lock(to_write=False):  # a run that is writing must not be read half way
        ledger = store.read_ledger()
        return [_secret_text(store, ledger, term, check) for term in terms]


def entries_for_brokers(
    store: Store, read_texts: Callable[[list[str]], list[str]], *, check: bool
) -> tuple[list[dict[str, Any]], list[str]]:
    """The entries of acl.json, by id, and the ids that were revoked.

    In check mode before anything was issued there are none.
    """
    with store.lock(to_write=False):
        ledger = store.read_ledger()
        if ledger is None:
            if check:
                return [], []
            raise CredentialError(
                f"{store.path(LEDGER)} does not exist: run playbooks/credentials.yml first"
            )
        entries = acl_entries(store, ledger, {}, _reader(ledger, read_texts))
        return [entry_as_json(entry) for entry in entries], ledger.revoked_ids()


def _reader(
    ledger: Ledger, read_texts: Callable[[list[str]], list[str]]
) -> Callable[[Sequence[NamedKey]], list[Credential]]:
    """Reads keys with a function that gives the texts of terms."""
    newest = {name: c.valid_keys()[-1:] for name, c in ledger.credentials.items()}

    def read(keys: Sequence[NamedKey]) -> list[Credential]:
        # Only in a rotation is there another key than the newest: other stores need no more.
        terms = [
            name if [key] == newest[name] else f"{KEY}{key.key_id}:{name}" for name, key in keys
        ]
        return [
            parse_credential(text, f"the secret of {term}")
            for term, text in zip(terms, read_texts(terms))
        ]

    return read


def _secret_text(store: Store, ledger: Ledger | None, term: str, check: bool) -> str:
    if term.startswith(TLS):
        broker = term[len(TLS) :]
        if ledger is not None and broker in ledger.certificates:
            return _tls_key(store, ledger, broker)
        return _absent(store, "certificate", broker, check)
    key_id, name = "", term
    if term.startswith(KEY):
        key_id, _, name = term[len(KEY) :].partition(":")
    if ledger is None or name not in ledger.credentials:
        return _absent(store, "credential", name, check)
    credential = ledger.credentials[name]
    if not credential.valid_keys():
        ended = credential.keys[-1].ended if credential.keys else ""
        raise CredentialError(
            f"{name} was revoked on {ended}, so there is no credential to install. To admit it "
            "again, with a new key, name it in reissue of entropy_credential"
        )
    issued = store.read_issued(ledger, name)
    chosen = [c for c in issued if c.key_id.hex() == key_id] if key_id else issued[-1:]
    if not chosen:
        return _absent(store, "credential", f"{name} with the key {key_id}", check)
    return dump_credential(chosen[0])


def _absent(store: Store, what: str, name: str, check: bool) -> str:
    if check:
        return ""
    raise CredentialError(
        f"{store.path(LEDGER)} has no {what} for {name}: run playbooks/credentials.yml with an "
        "inventory that names it"
    )


def _tls_key(store: Store, ledger: Ledger, broker: str) -> str:
    key_file, certificate_file = tls_files(broker)
    key_pem = store.read_secret(key_file)
    found = store.read_certificate(certificate_file)
    named = ledger.certificates[broker].fingerprint
    if found is None or found[1] != named or not key_matches(key_pem, found[0]):
        raise CredentialError(
            f"{store.path(key_file)} and {store.path(certificate_file)} are not the key and the "
            f"certificate {named} of the ledger: run playbooks/credentials.yml, which makes both "
            "anew"
        )
    return key_pem.decode()
