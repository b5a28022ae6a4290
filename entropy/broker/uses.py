"""When each key was first used here, so that a bootstrap credential ends in time.

One line for each key in the file `first-uses` of the state directory, appended at its first use:

    1769853600 0b1f6a2c9d3e4f50 vm1

No secret is in it. A restart reads it, so it extends nothing. Brokers do not tell each other: each
counts from the first use that it saw itself. The controller asks them all, and gives the earliest
end to every broker with its next list.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable

from entropy.broker.access import Key
from entropy.notify import WARNING, Log

FILE = "first-uses"


class FirstUses:
    """The moments by key. Without a state directory they last as long as this process."""

    def __init__(self, state_dir: str, log: Log = lambda text, priority: None) -> None:
        self._path = os.path.join(state_dir, FILE) if state_dir else ""
        self._log = log
        self._complained = False
        self._unix: dict[Key, int] = {}
        self._n_lines = 0
        self._read()

    def unix(self, key: Key) -> int | None:
        """Seconds since 1970; None before its first use."""
        return self._unix.get(key)

    def note(self, key: Key, now_unix: float, *, durably: bool) -> None:
        """Remember a use, if it is the first. `durably`: survive a power cut too."""
        if key not in self._unix:
            self._unix[key] = int(now_unix)
            self._append(key, durably)

    def keep_only(self, keys: Iterable[Key]) -> None:
        """Forget the keys that have left the access list."""
        kept = set(keys)
        self._unix = {key: unix for key, unix in self._unix.items() if key in kept}
        if self._n_lines > 2 * len(self._unix) + 16:
            self._rewrite()

    def _read(self) -> None:
        if not self._path:
            return
        try:
            with open(self._path, encoding="utf-8", errors="replace") as file:
                for line in file:
                    self._n_lines += 1
                    with contextlib.suppress(ValueError):  # a line that a power cut has torn
                        unix, key_id, name = line.split()
                        key = (name, bytes.fromhex(key_id))
                        self._unix[key] = min(int(unix), self._unix.get(key, int(unix)))
        except FileNotFoundError:
            pass
        except OSError as error:
            self._complain(error)

    def _append(self, key: Key, durably: bool) -> None:
        if not self._path or not (durably or os.path.isdir(os.path.dirname(self._path))):
            return
        try:
            # A line that was torn before must not swallow this one.
            text = f"\n{self._line(key)}" if self._is_torn() else self._line(key)
            with open(self._path, "a", encoding="utf-8") as file:
                file.write(text)
                if durably:
                    file.flush()
                    os.fsync(file.fileno())
            self._n_lines += 1
        except OSError as error:
            self._complain(error)

    def _is_torn(self) -> bool:
        with contextlib.suppress(OSError), open(self._path, "rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read() != b"\n"
        return False

    def _rewrite(self) -> None:
        """Without the lines of keys that are gone, in one step."""
        if not self._path:
            return
        temporary = f"{self._path}.new"
        try:
            with open(temporary, "w", encoding="utf-8") as file:
                file.writelines(self._line(key) for key in self._unix)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self._path)
            self._n_lines = len(self._unix)
        except OSError as error:
            self._complain(error)

    def _line(self, key: Key) -> str:
        name, key_id = key
        return f"{self._unix[key]} {key_id.hex()} {name}\n"

    def _complain(self, error: OSError) -> None:
        if not self._complained:
            self._complained = True
            self._log(
                f"{self._path}: {error.strerror}: a restart of this broker forgets when keys were"
                " first used, and a bootstrap credential lives longer than it should",
                WARNING,
            )
