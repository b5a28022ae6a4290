"""The list of credentials that a broker holds: its text, and what of it may be shown.

Standard library only, Python 3.9.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

VERSION = 1
PERMISSIONS = ("draw", "feed", "peer")
LIMITS = ("rate_bytes_per_second", "burst_bytes", "credit_bits_per_second")
NUMBERS = (*LIMITS, "not_after_unix", "expires_after_use_seconds")


class AclDocument(NamedTuple):
    """A list of credentials with its number."""

    site_id: str
    generation: int
    entries: Sequence[Mapping[str, Any]]


def document(site_id: str, generation: int, entries: Sequence[Mapping[str, Any]]) -> AclDocument:
    """Bring entries into the one order that is compared and written; unset limits are left out.

    Raises ValueError when two entries have the same id and key id.
    """
    ordered = sorted((_entry(entry) for entry in entries), key=_name)
    for one, other in zip(ordered, ordered[1:]):
        if _name(one) == _name(other):
            raise ValueError("entries: {} with key {} is there twice".format(*_name(one)))
    return AclDocument(site_id, generation, ordered)


class Handed(NamedTuple):
    """What is handed from the controller to a broker's host: who is valid, and who was revoked."""

    entries: Sequence[Mapping[str, Any]]
    revoked: Sequence[str]


def dump_entries(handed: Handed) -> str:
    """The text of it."""
    return json.dumps(handed._asdict())


def parse_entries(text: str) -> Handed:
    """Read what dump_entries wrote. ValueError, without a word of the text, when it is not that."""
    try:
        data = json.loads(text)
        entries = [_entry(entry) for entry in data["entries"]]
        return Handed(entries, [str(name) for name in data["revoked"]])
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    raise ValueError(
        "entries: this is not what the lookup entropy_acl_entries gives, a JSON text with entries "
        "of id, key_id, public_key, psk and permissions, and the ids that were revoked"
    )


def vanished(before: AclDocument, after: AclDocument, revoked: Sequence[str]) -> list[str]:
    """The ids that leave the list although nobody revoked them."""
    kept = {entry["id"] for entry in after.entries} | set(revoked)
    return sorted({entry["id"] for entry in before.entries} - kept)


def dump(acl: AclDocument) -> str:
    """The text of acl.json, one entry per line."""
    lines = ",\n".join(json.dumps(entry) for entry in acl.entries)
    site_id = json.dumps(acl.site_id)
    return (
        f'{{"version": {VERSION}, "site_id": {site_id}, "generation": {acl.generation}, '
        f'"entries": [\n{lines}\n]}}\n'
    )


def parse(text: bytes) -> AclDocument | None:
    """Read acl.json. None when it is not one: then there is nothing in it to protect."""
    try:
        data = json.loads(text)
        if data["version"] != VERSION:
            return None
        return document(str(data["site_id"]), int(data["generation"]), data["entries"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def shown(acl: AclDocument | None) -> str:
    """What a diff shows: ids, key ids, permissions and limits; never a pre-shared key."""
    if acl is None:
        return ""
    lines = [f"site_id: {acl.site_id}", f"generation: {acl.generation}"]
    for entry in acl.entries:
        limits = "".join(f", {name}: {entry[name]}" for name in NUMBERS if name in entry)
        if "addresses" in entry:
            limits += f", addresses: {' '.join(entry['addresses'])}"
        permissions = ", ".join(entry["permissions"])
        lines.append(f"{entry['id']}: key_id: {entry['key_id']}, [{permissions}]{limits}")
    return "\n".join(lines) + "\n"


def _entry(entry: Mapping[str, Any]) -> dict[str, Any]:
    known = {name: str(entry[name]) for name in ("id", "key_id", "public_key", "psk")}
    given = set(entry["permissions"])
    permissions = [name for name in PERMISSIONS if name in given]
    limits: dict[str, Any] = {
        name: int(entry[name]) for name in NUMBERS if entry.get(name) is not None
    }
    if entry.get("addresses"):
        limits["addresses"] = [str(address) for address in entry["addresses"]]
    return {**known, "permissions": permissions, **limits}


def _name(entry: Mapping[str, Any]) -> tuple[str, str]:
    return entry["id"], entry["key_id"]
