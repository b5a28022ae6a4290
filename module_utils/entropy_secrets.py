"""What the lookups give: the texts of secrets, and the entries for the brokers.

Runs on the controller only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from entropy.credentials import Credential, dump_credential, entry_as_json, parse_credential
from entropy.errors import CredentialError
from module_utils.entropy_acl_entries import acl_entries
from module_utils.entropy_certificates import key_matches
from module_utils.entropy_ledger import Ledger
from module_utils.entropy_store import LEDGER, Store, tls_files

TLS = "tls:"


def secret_texts(store: Store, terms: Sequence[str], *, check: bool) -> list[str]:
    """The text of each id's credential.json, or with "tls:" in front a broker's TLS key in PEM.

    In check mode what was not issued yet is an empty string. CredentialError otherwise, and when
    a secret is not the one that the ledger names.
    """
    ledger = store.read_ledger()
    return [_secret_text(store, ledger, term, check) for term in terms]


def entries_for_brokers(
    store: Store, read_texts: Callable[[list[str]], list[str]], *, check: bool
) -> list[dict[str, Any]]:
    """The entries of acl.json, by id. In check mode before anything was issued there are none."""
    ledger = store.read_ledger()
    if ledger is None:
        if check:
            return []
        raise CredentialError(
            f"{store.path(LEDGER)} does not exist: run playbooks/credentials.yml first"
        )

    def read(names: list[str]) -> list[Credential]:
        texts = zip(names, read_texts(names))
        return [parse_credential(text, f"the secret of {name}") for name, text in texts]

    return [entry_as_json(entry) for entry in acl_entries(store, ledger, {}, read)]


def _secret_text(store: Store, ledger: Ledger | None, term: str, check: bool) -> str:
    is_tls = term.startswith(TLS)
    name = term[len(TLS) :] if is_tls else term
    if ledger is not None and name in (ledger.certificates if is_tls else ledger.credentials):
        if is_tls:
            return _tls_key(store, ledger, name)
        return dump_credential(store.read_issued(ledger, name))
    if check:
        return ""
    what = "certificate" if is_tls else "credential"
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
