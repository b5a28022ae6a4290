"""Who may come in: the access list, and how a stranger is told nothing by our timing."""

from __future__ import annotations

from typing import Callable

from entropy.credentials import Acl, AclEntry, load_acl
from entropy.errors import ConfigError
from entropy.wire.keys import derive

Key = tuple[str, bytes]  # id, key id


class Access:
    """The access list as it stands now. Raises what reading it raises."""

    def __init__(self, path: str, site_id: str, random: Callable[[int], bytes]) -> None:
        self._path = path
        self._site_id = site_id
        # A credential that nobody holds: an unknown id is checked against it, and takes as long.
        self._nobody = derive(random(32))
        self.acl = self._read()

    def reload(self) -> set[Key]:
        """Read the list anew; the old one stays if that fails. Returns what is no longer valid."""
        before, self.acl = self.acl, self._read()
        return {
            key
            for key, entry in before.entries.items()
            if (now := self.acl.entries.get(key)) is None
            or (now.public_key, now.psk) != (entry.public_key, entry.psk)
        }

    def entry(self, key: Key) -> AclEntry | None:
        return self.acl.entries.get(key)

    def proof_keys(self, key: Key) -> tuple[bytes, bytes]:
        """X and p to check a proof against; of nobody for an id or key that is unknown."""
        entry = self.entry(key)
        if entry is None:
            return self._nobody.public, self._nobody.psk
        return entry.public_key, entry.psk

    def ids(self) -> dict[str, frozenset[str]]:
        """Every id with the permissions of all its keys."""
        found: dict[str, frozenset[str]] = {}
        for (name, _), entry in self.acl.entries.items():
            found[name] = found.get(name, frozenset()) | entry.permissions
        return found

    def _read(self) -> Acl:
        acl = load_acl(self._path)
        if acl.site_id != self._site_id:
            raise ConfigError(
                f"{self._path}: is the access list of site {acl.site_id!r},"
                f" but broker.site_id says {self._site_id!r}"
            )
        return acl
