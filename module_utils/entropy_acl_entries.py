"""What the brokers must know of every credential in the ledger. Runs on the controller only."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from entropy.credentials import AclEntry, Credential, acl_entry, fingerprint, parse_acl
from entropy.errors import CredentialError
from module_utils.entropy_ledger import Ledger, LedgerCredential
from module_utils.entropy_store import ACL, Store

Known = Mapping[tuple[str, bytes], AclEntry]


def acl_entries(
    store: Store,
    ledger: Ledger,
    known: Known,
    read: Callable[[str], Credential],
) -> list[AclEntry]:
    """One entry for each active key, by id, with the permissions and limits of the ledger.

    The keys come from `known`, or from the store's own list, when they match the ledger's
    fingerprint; else `read` gives the credential of an id. CredentialError if that is another
    than the ledger names.
    """
    known = {**_listed(store), **known}
    entries = []
    for name in sorted(ledger.credentials):
        recorded = ledger.credentials[name]
        for key in recorded.active_keys():
            entry = known.get((name, bytes.fromhex(key.key_id)))
            if entry is None or fingerprint(entry.public_key) != key.fingerprint:
                entry = acl_entry(read(name))
                if fingerprint(entry.public_key) != key.fingerprint:
                    raise CredentialError(
                        f"the secret of {name} is of the key {fingerprint(entry.public_key)} and "
                        f"the ledger names {key.fingerprint}: restore the secrets and the ledger "
                        "from the same backup"
                    )
            entries.append(_as_recorded(entry, recorded))
    return entries


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
