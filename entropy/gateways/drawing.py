"""A gateway as a client of the brokers: it draws whenever its buffer has room."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable

from entropy import errors
from entropy.credentials import Credential, load_credential
from entropy.errors import ConfigError, CredentialError, EntropyError
from entropy.gateways.buffer import Buffer
from entropy.gateways.config import GatewayConfig
from entropy.gateways.supply import Event, State, Supply
from entropy.login import CredentialWatch, log_in
from entropy.notify import INFO, NOTICE, WARNING, Log
from entropy.transport.aio import AsyncClientConnection
from entropy.wire.codes import DrawKind, RetryReason, Role
from entropy.wire.frames import Block, Draw, Retry
from entropy.wire.frames import Refused as RefusedMessage

# One block for each draw: of several together it could not be told what each is worth.
DRAW_BYTES = 64
WAIT_MS = 2000  # in a broker's queue, before the next broker is asked
REPLY_SECONDS = 5.0
IDLE_SECONDS = 20.0  # a broker ends sessions that are silent for a minute


def own_credential(config: GatewayConfig) -> Credential:
    """The gateway's credential. Raises CredentialError; ConfigError if it is another site's."""
    credential = load_credential(config.credential)
    if credential.site_id != config.site_id:
        raise ConfigError(
            f"{config.credential}: is for the site {credential.site_id!r},"
            f" but gateway.site_id says {config.site_id!r}"
        )
    if "draw" not in credential.permissions:
        raise CredentialError(
            f"{config.credential}: {credential.id!r} may not draw; its permissions are:"
            f" {', '.join(sorted(credential.permissions)) or 'none'}"
        )
    return credential


async def connect(config: GatewayConfig, endpoint: str) -> AsyncClientConnection:
    """Open a session as this gateway. Every file is read anew: rotation needs no restart."""
    return await log_in(
        endpoint, own_credential(config), config.ca, Role.CLIENT, timeout_seconds=REPLY_SECONDS
    )


class Drawing:
    """Keeps `buffer` filled. `run` until cancelled.

    before_use: called when a reply is there and before it is kept; it may call `drop`.
    changed: called when bytes were added, and when a session began or ended.
    """

    def __init__(
        self,
        config: GatewayConfig,
        buffer: Buffer,
        *,
        before_use: Callable[[], object],
        changed: Callable[[], object],
        say: Log,
    ) -> None:
        self._config = config
        self._buffer = buffer
        self._before_use = before_use
        self._changed = changed
        self._say = say
        self._supply = Supply(len(config.brokers), lambda s: s * random.uniform(0.8, 1.2))
        self._connection: AsyncClientConnection | None = None
        self._step: asyncio.Future[float] | None = None
        self._wanted = asyncio.Event()
        self._wanted.set()
        self._must_log_in = False
        self._credential = CredentialWatch(config.credential, lambda: own_credential(config))
        self._credential.begin()
        self._troubles: dict[str, str] = {}  # by endpoint, to say each once
        self._last_said = ""
        self.last_error: str | None = None  # why the last try brought nothing
        self.last_delivery_unix: float | None = None

    @property
    def broker_id(self) -> str | None:
        """Whom there is a session with."""
        return None if self._connection is None else self._connection.broker_id

    def wake(self) -> None:
        """The buffer has room."""
        self._wanted.set()

    def drop(self) -> None:
        """End the session, and use nothing of what is on its way: this machine was cloned."""
        self._close()
        self._supply.happened(Event.DROPPED)
        if self._step is not None:
            self._step.cancel()

    def look_at_credential(self) -> None:
        """If it is another, use it soon, wanted or not, so that the old one can end."""
        if not self._credential.has_new_key():
            return
        self._credential.begin()
        self._say(f"{self._credential.path} was replaced: logging in anew", NOTICE)
        self._must_log_in = True
        self.drop()
        self.wake()

    async def run(self) -> None:
        try:
            while True:
                self._step = asyncio.ensure_future(self._one_step())
                await asyncio.wait({self._step})
                if not self._step.cancelled():
                    await asyncio.sleep(self._step.result())
        finally:
            if self._step is not None:
                self._step.cancel()
            self._close()

    async def _one_step(self) -> float:
        """Connect, draw once, or wait for room. Returns how long to rest, in seconds."""
        if not self._buffer.has_room and not self._must_log_in:
            await self._await_room()
            return 0.0
        endpoint = self._config.brokers[self._supply.position]
        try:
            if self._connection is None:
                self._credential.begin()
                connection = await connect(self._config, endpoint)
                self._connection = connection
                self._supply.happened(Event.CONNECTED)
                self._must_log_in = False
                self._changed()
                return 0.0
            reply = await self._connection.request(Draw(DrawKind.TOPUP, DRAW_BYTES, WAIT_MS))
            if isinstance(reply, RefusedMessage):
                raise errors.Refused(reply.code)
        except (EntropyError, OSError) as error:
            self._close()
            self._trouble(endpoint, str(error))
            return self._supply.happened(Event.BROKEN)
        if isinstance(reply, Retry):
            return self._not_now(endpoint, errors.RetryLater(reply.after_ms / 1000, reply.why))
        assert isinstance(reply, Block)  # nothing else answers a draw
        self._before_use()
        if self._supply.state is State.AWAY:  # dropped a moment ago
            return 0.0
        if not self._buffer.add(reply.data, reply.credit_bits):
            return self._not_now(endpoint, errors.RetryLater(1.0, RetryReason.EMPTY))
        self._delivered(endpoint)
        return self._supply.happened(Event.DELIVERED)

    async def _await_room(self) -> None:
        """Until the buffer has room; a session that idles meanwhile is ended."""
        self._wanted.clear()
        if self._connection is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(IDLE_SECONDS):
                    await self._wanted.wait()
                    return
            self._close()
            self._supply.happened(Event.IDLE)
        await self._wanted.wait()

    def _delivered(self, endpoint: str) -> None:
        connection = self._connection
        assert connection is not None
        self._troubles.clear()
        self.last_error = None
        self.last_delivery_unix = time.time()
        said = f"drawing from {connection.broker_id} at {endpoint}"
        if said != self._last_said:
            self._last_said = said
            self._say(said, INFO)
        self._changed()

    def _not_now(self, endpoint: str, why: errors.RetryLater) -> float:
        self._close()
        self._trouble(endpoint, str(why), priority=NOTICE)
        return self._supply.happened(Event.NOT_NOW, why.after_seconds)

    def _trouble(self, endpoint: str, text: str, *, priority: int = WARNING) -> None:
        if endpoint not in text:
            text = f"{endpoint}: {text}"
        self.last_error = text
        if endpoint not in self._troubles:  # one line for each, until something comes again
            self._troubles[endpoint] = text
            self._last_said = ""
            self._say(text, priority)
        self._changed()

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
