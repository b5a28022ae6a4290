"""Logging in at a broker as a daemon of this machine: a feeder, a gateway, another broker.

The client has its own way, on sockets that block (dial.py).
"""

from __future__ import annotations

import os
import time
from typing import Callable

from entropy import kernel
from entropy.credentials import Credential
from entropy.errors import EntropyError
from entropy.transport.aio import AsyncClientConnection
from entropy.transport.tls import client_context
from entropy.wire.codes import Role
from entropy.wire.keys import client_nonce, derive


async def log_in(
    endpoint: str,
    credential: Credential,
    ca: str,
    role: Role,
    *,
    timeout_seconds: float,
    broker_id: str | None = None,
) -> AsyncClientConnection:
    """Open a session at `endpoint`, trusting the CA in the file `ca`. Raises EntropyError.

    broker_id: the only broker that will do, if there is one.
    """
    keys = derive(credential.secret)
    boot_id = kernel.boot_id()
    # Never the same twice in one boot, also when the wall clock is set back.
    counter = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    nonce = client_nonce(
        keys.psk, boot_id, counter, kernel.clocks(), kernel.vm_generation(), kernel.random_bytes(32)
    )
    return await AsyncClientConnection.connect(
        endpoint,
        # A daemon that starts with a wrong clock tries again; nobody waits for it. (Whether the
        # clock is right it could not ask: its sandbox forbids adjtimex.)
        context=client_context(ca, check_dates=True),
        credential=credential,
        keys=keys,
        role=role,
        boot_id=boot_id,
        counter=counter,
        nonce=nonce,
        timeout_seconds=timeout_seconds,
        broker_id=broker_id,
    )


class CredentialWatch:
    """Whether a credential's file holds another key than when `begin` was called last.

    A session outlives the file that it was opened with: without this one a rotated key would stay
    in use for as long as nothing breaks. read: reads the file; what it raises is no new key.
    """

    def __init__(self, path: str, read: Callable[[], Credential]) -> None:
        self.path = path
        self._read_file = read
        self._file: tuple[int, ...] | None = None
        self._key_id: bytes | None = None

    def begin(self) -> None:
        """A session is about to be opened."""
        self._file, self._key_id = self._look(), self._read()

    def has_new_key(self) -> bool:
        """One stat(2) as long as nothing changed. A file that is no good is no new key."""
        file = self._look()
        key_id = self._key_id if file == self._file else self._read()
        if key_id is None or key_id == self._key_id:
            self._file = file
            return False
        return True

    def _look(self) -> tuple[int, ...] | None:
        try:
            found = os.stat(self.path)
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_ctime_ns

    def _read(self) -> bytes | None:
        try:
            return self._read_file().key_id
        except EntropyError:
            return None
