"""What the brokers must know of every credential in the ledger. Runs on the controller only."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from entropy.credentials import AclEntry, Credential, acl_entry, fingerprint, parse_acl
from entropy.errors import CredentialError
from module_utils.entropy_ledger import Key, Ledger, LedgerCredential
from module_utils.entropy_store import ACL, Store

Known = Mapping[tuple[str, bytes], AclEntry]


def acl_entries(
    store: Store,
    ledger: Ledger,
    known: Known,
    read: Callable[[list[str]], list[Credential]],
) -> list[AclEntry]:
    """One entry for each active key, by id, with the permissions and limits of the ledger.

    The keys come from `known`, or from the store's own list, when they match the ledger's
    fingerprint; `read` gives the credentials of the ids that are left. CredentialError if they
    are others than the ledger names.
    """
    known = {**_listed(store), **known}
    keys = [
        (name, key)
        for name in sorted(ledger.credentials)
        for key in ledger.credentials[name].active_keys()
    ]
    unknown = {name for name, key in keys if not _matches(_of(known, name, key), key)}
    if unknown:
        known |= {(c.id, c.key_id): acl_entry(c) for c in read(sorted(unknown))}
    entries = []
    for name, key in keys:
        entry = _of(known, name, key)
        if entry is None or not _matches(entry, key):
            raise CredentialError(
                f"the secret of {name} is not of the key {key.fingerprint} that the ledger names: "
                "restore the secrets and the ledger from the same backup"
            )
        entries.append(_as_recorded(entry, ledger.credentials[name]))
    return entries


def _of(known: Known, name: str, key: Key) -> AclEntry | None:
    return known.get((name, bytes.fromhex(key.key_id)))


def _matches(entry: AclEntry | None, key: Key) -> bool:
    return entry is not None and fingerprint(entry.public_key) == key.fingerprint


def _as_recorded(entry: AclEntry, recorded: LedgerCredential) -> AclEntry:
    return entry._replace(
        permissions=frozenset(recorded.permissions),
        rate_bytes_per_second=recorded.limits.get("rate_bytes_per_second"),
        burst_bytes=recorded.limits.get("burst_bytes"),
        credit_bits_per_second=recorded.limits.get("credit_bits_per_second"),
    )


def _listed(store: Store) -> Known:
    """The entries of the store's own list; none when it is absent or cannot be read."""
    try:
        return parse_acl(store.read_secret(ACL).decode(), store.path(ACL)).entries
    except (CredentialError, UnicodeDecodeError):
        return {}
