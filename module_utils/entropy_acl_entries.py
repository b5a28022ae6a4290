"""What the brokers must know of every credential in the ledger. Runs on the controller only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from entropy.credentials import AclEntry, Credential, acl_entry, fingerprint, parse_acl
from entropy.errors import CredentialError
from module_utils.entropy_keys import not_after
from module_utils.entropy_ledger import Key, Ledger, LedgerCredential
from module_utils.entropy_store import ACL, Store
from module_utils.entropy_times import unix_of

Known = Mapping[tuple[str, bytes], AclEntry]
NamedKey = tuple[str, Key]  # an id and one of its keys


def acl_entries(
    store: Store,
    ledger: Ledger,
    known: Known,
    read: Callable[[Sequence[NamedKey]], list[Credential]],
) -> list[AclEntry]:
    """One entry for each valid key, by id, with the terms of the ledger.

    The keys come from `known`, or from the store's own list, when they match the ledger's
    fingerprint; `read` gives the credentials of the keys that are left. CredentialError if they
    are others than the ledger names.
    """
    known = {**_listed(store), **known}
    keys = [
        (name, key)
        for name in sorted(ledger.credentials)
        for key in ledger.credentials[name].valid_keys()
    ]
    unknown = [(name, key) for name, key in keys if not _matches(_of(known, name, key), key)]
    if unknown:
        known |= {(c.id, c.key_id): acl_entry(c) for c in read(unknown)}
    entries = []
    for name, key in keys:
        entry = _of(known, name, key)
        if entry is None or not _matches(entry, key):
            raise CredentialError(
                f"the secret of {name} is not of the key {key.fingerprint} that the ledger names: "
                "restore the secrets and the ledger from the same backup"
            )
        entries.append(as_recorded(entry, ledger.credentials[name], key))
    return entries


def as_recorded(entry: AclEntry, recorded: LedgerCredential, key: Key) -> AclEntry:
    """An entry with what the ledger says of its id and of its key."""
    terms, end = recorded.terms, not_after(recorded, key)
    return entry._replace(
        permissions=frozenset(terms.permissions),
        rate_bytes_per_second=terms.limits.get("rate_bytes_per_second"),
        burst_bytes=terms.limits.get("burst_bytes"),
        credit_bits_per_second=terms.limits.get("credit_bits_per_second"),
        addresses=terms.addresses,
        not_after_unix=unix_of(end) if end else None,
        expires_after_use_seconds=key.bootstrap_seconds or None,
    )


def _of(known: Known, name: str, key: Key) -> AclEntry | None:
    return known.get((name, bytes.fromhex(key.key_id)))


def _matches(entry: AclEntry | None, key: Key) -> bool:
    return entry is not None and fingerprint(entry.public_key) == key.fingerprint


def _listed(store: Store) -> Known:
    """The entries of the store's own list; none when it is absent or cannot be read."""
    try:
        return parse_acl(store.read_secret(ACL).decode(), store.path(ACL)).entries
    except (CredentialError, UnicodeDecodeError):
        return {}
