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


def dump_entries(entries: Sequence[Mapping[str, Any]]) -> str:
    """Entries as the text that is handed from the controller to a broker's host."""
    return json.dumps(entries)


def parse_entries(text: str) -> list[dict[str, Any]]:
    """Read what dump_entries wrote. ValueError, without a word of the text, when it is not that."""
    try:
        data = json.loads(text)
        if isinstance(data, list):
            return [_entry(entry) for entry in data]
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    raise ValueError(
        "entries: this is not what the lookup entropy_acl_entries gives, a JSON list of entries "
        "with id, key_id, public_key, psk and permissions"
    )


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
        limits = "".join(f", {name}: {entry[name]}" for name in LIMITS if name in entry)
        permissions = ", ".join(entry["permissions"])
        lines.append(f"{entry['id']}: key_id: {entry['key_id']}, [{permissions}]{limits}")
    return "\n".join(lines) + "\n"


def _entry(entry: Mapping[str, Any]) -> dict[str, Any]:
    known = {name: str(entry[name]) for name in ("id", "key_id", "public_key", "psk")}
    given = set(entry["permissions"])
    permissions = [name for name in PERMISSIONS if name in given]
    limits = {name: int(entry[name]) for name in LIMITS if entry.get(name) is not None}
    return {**known, "permissions": permissions, **limits}


def _name(entry: Mapping[str, Any]) -> tuple[str, str]:
    return entry["id"], entry["key_id"]
