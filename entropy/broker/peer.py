"""Tops this broker's reservoir up from other brokers' surplus.

Below the low mark each link connects and draws, until the high mark is reached or its peer has no
surplus; then it waits, always some time and with jitter. They draw in turn, 64 blocks at most each
time, so that the load is spread over all that have something. What comes was debited at the peer,
is credited here and keeps its origins; the reservoir never exports it again.

The classic way is there too, off by default: bytes of this machine's kernel are pushed to the
peer, which stirs them in. They earn no credit anywhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from typing import Callable

from entropy.broker.service import Service
from entropy.config import BrokerConfig, PeerConfig
from entropy.credentials import Credential, load_credential
from entropy.errors import CredentialError, EntropyError, Refused, RetryLater
from entropy.login import CredentialWatch, log_in
from entropy.notify import NOTICE, WARNING, Log
from entropy.reservoir import BLOCK_BYTES
from entropy.transport.aio import AsyncClientConnection
from entropy.wire.codes import DrawKind, Role
from entropy.wire.frames import DRAW_LIMIT_BYTES, Accepted, Block, Draw, Feed, Retry
from entropy.wire.frames import Refused as RefusedMessage

CONNECT_SECONDS = 10.0
DRAW_SECONDS = 3.0  # the others wait for their turn meanwhile
STIR_BYTES = 64
LEAST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0
LOOK_SECONDS = 2.0  # between two looks whether the credential was replaced


class PeerLink:
    """The other broker as this one sees it; `run` for as long as this one lives."""

    def __init__(
        self,
        peer: PeerConfig,
        config: BrokerConfig,
        service: Service,
        current_epoch: Callable[[], bytes],
        turn: asyncio.Lock,
        kernel_bytes: Callable[[int], bytes],
        log: Log,
    ) -> None:
        self.id = peer.id
        self.endpoint = peer.endpoint
        self.state = "idle"  # or drawing, unreachable, refused
        self.imported_bits = 0
        self.last_import_unix: float | None = None
        self.last_import_seconds = float("-inf")  # of the monotonic clock
        self.last_error: str | None = None
        self._credential = CredentialWatch(peer.credential, self._load_credential)
        self._config = config
        self._service = service
        self._current_epoch = current_epoch
        self._turn = turn  # of all links of this broker: first come, first served
        self._stir_seconds = peer.stir_interval_seconds
        self.stirred_bytes = 0  # pushed there
        self.stir_error: str | None = None
        self._random = kernel_bytes
        self._log = log
        self._pause_seconds = LEAST_PAUSE_SECONDS  # doubles with each failure
        self._low = asyncio.Event()
        self._opening = asyncio.Lock()
        self._credential.begin()

    def nudge(self) -> None:
        """The reservoir is below its low mark."""
        self._low.set()

    async def run(self) -> None:
        """Never returns; ends by being cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._low.wait()
            # A new key is shown to the peer at once, so that the old one can end; and a peer that
            # failed is asked until it answers: what is said of it is of now.
            wanted = self._low.is_set() or self.state != "idle" or self._credential.has_new_key()
            if not wanted:
                continue
            pause_seconds = await self._top_up()
            await asyncio.sleep(pause_seconds * random.uniform(0.75, 1.25))
            enough = self._held_blocks() >= self._config.reservoir.low_mark_blocks
            if enough and self.state == "idle":
                self._low.clear()

    async def _top_up(self) -> float:
        """One session. Returns how long to leave the peer alone, in seconds."""
        before, self.state = self.state, "drawing"
        pause_seconds = LEAST_PAUSE_SECONDS
        try:
            await self._draw_all()
        except RetryLater as retry:  # it has no surplus: that is no fault
            pause_seconds = max(pause_seconds, min(retry.after_seconds, LONGEST_PAUSE_SECONDS))
        except (EntropyError, ValueError) as error:
            self.state = "refused" if isinstance(error, Refused) else "unreachable"
            self.last_error = str(error)
            if before != self.state:
                self._log(f"peer {self.id}: {self.state}: {error}", WARNING)
            pause_seconds = self._pause_seconds
            self._pause_seconds = min(2 * pause_seconds, LONGEST_PAUSE_SECONDS)
            return pause_seconds
        self._pause_seconds = LEAST_PAUSE_SECONDS
        self.state, self.last_error = "idle", None
        if before in ("refused", "unreachable"):
            self._log(f"peer {self.id}: reached again", NOTICE)
        return pause_seconds

    async def _draw_all(self) -> None:
        epoch = self._current_epoch()
        connection = await self._connect()
        try:
            while self._missing_blocks() > 0:
                async with self._turn:
                    if not await self._draw_once(connection, epoch):
                        return
        finally:
            connection.close()

    async def _draw_once(self, connection: AsyncClientConnection, epoch: bytes) -> bool:
        """One turn. False if what came is not to be used, nor more to be drawn."""
        missing_blocks = self._missing_blocks()  # the others have drawn meanwhile
        if missing_blocks <= 0:
            return False
        n_bytes = min(DRAW_LIMIT_BYTES, BLOCK_BYTES * missing_blocks)
        reply = await connection.request(Draw(DrawKind.PEER, n_bytes, 0), DRAW_SECONDS)
        if self._current_epoch() != epoch:
            return False  # this machine was copied: another may have drawn the same bytes
        if isinstance(reply, Retry):
            raise RetryLater(reply.after_ms / 1000, reply.why)
        if isinstance(reply, RefusedMessage):
            raise Refused(reply.code)
        assert isinstance(reply, Block)  # the wire lets nothing else through
        self._service.imported(reply.data, reply.credit_bits, reply.origins)
        self.imported_bits += reply.credit_bits
        self.last_import_unix = time.time()
        self.last_import_seconds = time.monotonic()
        return True

    async def stir(self) -> None:
        """Push bytes of our kernel to the peer, for ever, if that is wanted."""
        while self._stir_seconds:
            await asyncio.sleep(self._stir_seconds * random.uniform(0.75, 1.25))
            try:
                await self._stir_once()
                self.stir_error = None
            except (EntropyError, ValueError) as error:
                if self.stir_error is None:
                    self._log(f"peer {self.id}: cannot stir: {error}", WARNING)
                self.stir_error = str(error)

    async def _stir_once(self) -> None:
        connection = await self._connect()
        try:
            reply = await connection.request(Feed(0, 0, (self._random(STIR_BYTES),)))
            if isinstance(reply, RefusedMessage):
                raise Refused(reply.code)
            if isinstance(reply, Accepted):
                self.stirred_bytes += STIR_BYTES
        finally:
            connection.close()

    async def _connect(self) -> AsyncClientConnection:
        # One at a time: a number that arrives after a later one is taken for a clone's.
        async with self._opening:
            return await self._log_in()

    async def _log_in(self) -> AsyncClientConnection:
        # Read anew each time: a rotated credential needs no restart.
        self._credential.begin()
        return await log_in(
            self.endpoint,
            self._load_credential(),
            self._config.ca,
            Role.PEER,
            timeout_seconds=CONNECT_SECONDS,
            broker_id=self.id,
        )

    def _load_credential(self) -> Credential:
        return load_peer_credential(self._credential.path, self._config.site_id)

    def _held_blocks(self) -> int:
        return self._service.reservoir.held_blocks

    def _missing_blocks(self) -> int:
        if self._service.draining:
            return 0
        return self._config.reservoir.high_mark_blocks - self._held_blocks()


def load_peer_credential(path: str, site_id: str) -> Credential:
    """The credential that a broker draws with from its peer. Raises CredentialError."""
    credential = load_credential(path)
    if credential.site_id != site_id:
        raise CredentialError(
            f"{path}: is for the site {credential.site_id!r}, but broker.site_id says {site_id!r}"
        )
    if "peer" not in credential.permissions:
        raise CredentialError(f"{path}: {credential.id!r} has no permission to draw as a peer")
    return credential
