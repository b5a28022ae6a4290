"""Who may come in: the access list, and how a stranger is told nothing by our timing."""

from __future__ import annotations

import sys
from typing import Callable

from entropy.credentials import Acl, AclEntry, load_acl
from entropy.errors import ConfigError
from entropy.wire.keys import derive

Key = tuple[str, bytes]  # id, key id
# How long the thread that reads may keep the interpreter from the loop; Python's own 0.005 would
# come before every system call of the loop.
_SWITCH_SECONDS = 0.0005


class Access:
    """The access list as it stands now. Raises what reading it raises."""

    def __init__(self, path: str, site_id: str, random: Callable[[int], bytes]) -> None:
        self._path = path
        self._site_id = site_id
        # A credential that nobody holds: an unknown id is checked against it, and takes as long.
        self._nobody = derive(random(32))
        self.acl = self._read()

    def reload(self) -> set[Key]:
        """Read the list anew; the old one stays if that fails. Returns what is no longer valid.

        For a thread, too: a list of 30,000 takes a third of a second to read, and the one in
        force is replaced in one step, at the end.
        """
        usual_seconds = sys.getswitchinterval()
        sys.setswitchinterval(_SWITCH_SECONDS)
        try:
            before, after = self.acl, self._read()
            gone = {
                key
                for key, entry in before.entries.items()
                if (now := after.entries.get(key)) is None
                or (now.public_key, now.psk) != (entry.public_key, entry.psk)
            }
        finally:
            sys.setswitchinterval(usual_seconds)
        self.acl = after
        return gone

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
