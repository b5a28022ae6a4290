"""One connection: prove, permit, answer.

Until the other side has proved itself it gets HELLO, ten seconds, and one refusal that looks the
same whatever the reason: the same code, sent on a fixed tick of the clock. Then it sends one
request at a time, and each gets one answer.
"""

from __future__ import annotations

import asyncio
from typing import Callable, Protocol

from entropy.broker.access import Access, Key
from entropy.broker.logins import SessionFacts
from entropy.broker.service import SEED_BYTES, PendingDraw, Reply, Service
from entropy.errors import EntropyError, Refused, TransportError, WireError
from entropy.notify import NOTICE
from entropy.transport.pace import HandshakePace
from entropy.transport.plain_stream import PlainStream
from entropy.transport.stream import TlsStream
from entropy.wire.broker import BrokerConnection
from entropy.wire.codes import DrawKind, RefusedCode, Role
from entropy.wire.frames import Auth, Draw, Feed, Message, Recall, Retry
from entropy.wire.keys import Ephemeral

REFUSAL_TICK_SECONDS = 0.25
AUTH_SECONDS = 10.0
IDLE_SECONDS = {Role.CLIENT: 60.0, Role.FEEDER: 600.0, Role.PEER: 600.0}
DRAINING_SECONDS = 5.0  # the same, while the broker is drained
MAX_SESSIONS_OF_ONE_ID = 16
MAX_RETRIES_IN_A_ROW = 100  # who does not heed them is cut
GOODBYE_SECONDS = 1.0
_MESSAGES_A_TURN = 16  # before the loop looks at the others


class Host(Protocol):
    """What a session needs of the broker that it belongs to."""

    service: Service
    access: Access
    broker_id: str
    epoch: bytes
    ephemeral: Ephemeral
    random: Callable[[int], bytes]

    @property
    def pace(self) -> HandshakePace:
        """For what costs much before a proof."""

    def current_epoch(self) -> bytes:
        """The epoch, after looking whether another one has to begin."""

    def note_stranger(self, what: str, address: str) -> None:
        """Somebody was refused before proving who it is."""

    def log(self, text: str, priority: int) -> None:
        """Say one line."""


class Session:
    """One connection to the broker, from its TLS handshake on.

    seeds_only: it is not within TLS, and gets one kind of answer: a seed.
    """

    def __init__(
        self, host: Host, stream: TlsStream | PlainStream, *, seeds_only: bool = False
    ) -> None:
        self._host = host
        self._service = host.service
        self._stream = stream
        self._seeds_only = seeds_only
        self._wire = BrokerConnection(
            broker_id=host.broker_id,
            epoch=host.epoch,
            ephemeral=host.ephemeral,
            nonce=host.random(32),
            certificate_sha256=stream.certificate_sha256,
        )
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._facts: SessionFacts | None = None
        self._pending: PendingDraw | None = None
        self._cut_code = RefusedCode.SHUTDOWN
        self._sending = False
        self._epoch = host.epoch
        self._dropped = False

    @property
    def key(self) -> Key | None:
        """Id and key id, once they are proved."""
        return None if self._facts is None else self._facts.key

    @property
    def role(self) -> Role | None:
        """Once it is proved."""
        return None if self._facts is None else self._facts.role

    def cut(self, code: RefusedCode) -> None:
        """End the session from outside, with this refusal."""
        self._cut_code = code
        self._forget_pending()
        if self._task is not None:
            self._task.cancel()

    def drop(self) -> None:
        """End it at once and without a word: its keys may be in another machine's hands too."""
        self._dropped = True
        self._forget_pending()
        self._stream.abort()
        if self._task is not None:
            self._task.cancel()

    async def run(self) -> None:
        """Serve until either side ends it. Raises nothing but what cancels it."""
        try:
            if await self._open():
                await self._serve()
        except asyncio.CancelledError:
            self._forget_pending()
            if not (self._sending or self._dropped):
                await self._goodbye(self._cut_code)
            raise
        except (EntropyError, TimeoutError) as error:
            self._say_of_feeder(f"its session ended: {str(error) or 'it was silent for too long'}")
        finally:
            self._forget_pending()
            if self._facts is not None:
                self._service.logout(self._facts)
            self._stream.close()

    # Before the proof

    async def _open(self) -> bool:
        """HELLO, AUTH, WELCOME. False if the other side was refused."""
        auth: Auth | None = None
        trouble = "did not say who it is in time"
        try:
            async with asyncio.timeout(AUTH_SECONDS):
                await self._flush()
                while auth is None:
                    data = await self._stream.receive()
                    if not data:
                        return False
                    self._wire.receive_data(data)
                    for event in self._wire.events():
                        assert isinstance(event, Auth)  # the wire lets nothing else through
                        auth = event
            if self._is_of_before():
                return False
            key = (auth.id, auth.key_id)
            trouble = f"claimed to be {auth.id} and did not prove it"
            keys = self._host.access.proof_keys(key)
            await self._host.pace.run(lambda: self._wire.authenticate(*keys))
            trouble = f"used a key of {auth.id} that is not in force"
            if not self._service.logins.admits(key):
                raise Refused(RefusedCode.AUTHENTICATION)
        except (WireError, Refused, TimeoutError) as error:
            if auth is None and isinstance(error, WireError):
                trouble = "does not speak the protocol"
            self._host.note_stranger(trouble, self._stream.peer_address)
            self._service.refusals[RefusedCode.AUTHENTICATION] += 1
            await asyncio.sleep(REFUSAL_TICK_SECONDS - self._loop.time() % REFUSAL_TICK_SECONDS)
            await self._goodbye(RefusedCode.AUTHENTICATION)
            return False
        try:
            if self._seeds_only and auth.role is not Role.CLIENT:
                raise Refused(RefusedCode.PERMISSION)
            self._facts = self._service.logins.login(auth, self._stream.peer_address)
            if self._facts.record.sessions > MAX_SESSIONS_OF_ONE_ID:
                raise Refused(RefusedCode.LIMIT)
            welcome = self._service.welcome(self._facts)
        except Refused as refused:
            await self._refuse(auth.id, refused.code)
            return False
        self._say_of_feeder(f"connected from {self._stream.peer_address}")
        self._wire.welcome(welcome)
        await self._flush()
        return True

    # After it

    async def _serve(self) -> None:
        assert self._facts is not None
        idle_seconds = IDLE_SECONDS[self._facts.role]
        n_messages = retries_in_a_row = 0
        while True:
            seconds = (
                min(idle_seconds, DRAINING_SECONDS) if self._service.draining else idle_seconds
            )
            async with asyncio.timeout(seconds):
                data = await self._stream.receive()
            if self._is_of_before():
                return
            if not data:
                self._wire.receive_eof()
                self._say_of_feeder("disconnected")
                return
            try:
                self._wire.receive_data(data)
                for message in self._wire.events():
                    reply = await self._answer(self._facts, message)
                    if self._is_of_before():
                        return
                    retries_in_a_row = retries_in_a_row + 1 if isinstance(reply, Retry) else 0
                    if retries_in_a_row > MAX_RETRIES_IN_A_ROW:
                        raise Refused(RefusedCode.LIMIT)
                    self._wire.send(reply)
                    await self._flush()
                    n_messages += 1
                    if n_messages % _MESSAGES_A_TURN == 0:
                        await asyncio.sleep(0)
            except Refused as refused:
                await self._refuse(self._facts.record.id, refused.code)
                return
            except WireError:
                self._service.refusals[RefusedCode.PROTOCOL] += 1
                await self._goodbye(RefusedCode.PROTOCOL)
                raise

    def _is_of_before(self) -> bool:
        """Whether this machine was copied since the session began: nothing of it may go on."""
        return self._host.current_epoch() != self._epoch

    async def _answer(self, facts: SessionFacts, message: Message) -> Reply:
        if self._seeds_only and not _is_a_seed(message):
            raise Refused(RefusedCode.PERMISSION)
        if isinstance(message, Draw):
            reply = self._service.draw(facts, message)
            return await self._wait(reply) if isinstance(reply, PendingDraw) else reply
        if isinstance(message, Feed):
            return self._service.feed(facts, message)
        assert isinstance(message, Recall)  # the wire lets nothing else through
        return self._service.recall(facts, message)

    async def _wait(self, draw: PendingDraw) -> Reply:
        """Until the draw is answered or its time is up. Raises if the other side goes away."""
        self._pending = draw
        answered: asyncio.Future[None] = self._loop.create_future()
        draw.answered = lambda: answered.set_result(None)
        receiving = self._loop.create_task(self._stream.receive())
        try:
            await asyncio.wait(
                (answered, receiving),
                timeout=draw.wait_seconds,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if receiving.done():
                self._forget_pending()
        finally:
            receiving.cancel()
            await asyncio.wait((receiving,))
        if not receiving.cancelled():
            data = receiving.result()
            if data:  # nothing may be said now, and the wire raises
                self._wire.receive_data(data)
            raise TransportError("it hung up while its draw was waiting")
        self._pending = None
        return self._service.give_up(draw)

    def _forget_pending(self) -> None:
        """At once when nobody is there to be answered: a block given to it would be lost."""
        if self._pending is not None:
            self._service.cancel(self._pending)
            self._pending = None

    def _say_of_feeder(self, text: str) -> None:
        """Clients and peers come and go all the time; a feeder that does is news."""
        if self._facts is not None and self._facts.role is Role.FEEDER:
            self._host.log(f"{self._facts.record.id}: {text}", NOTICE)

    # Sending

    async def _flush(self) -> None:
        data = self._wire.data_to_send()
        if data:
            self._sending = True
            await self._stream.send(data)
            self._sending = False

    async def _refuse(self, name: str, code: RefusedCode) -> None:
        """Refuse somebody who has proved who it is."""
        self._service.refusals[code] += 1
        if code is not RefusedCode.SHUTDOWN:
            self._host.log(f"{name}: refused ({code.name.lower()})", NOTICE)
        await self._goodbye(code)

    async def _goodbye(self, code: RefusedCode) -> None:
        try:
            self._wire.refuse(code)
            async with asyncio.timeout(GOODBYE_SECONDS):
                await self._flush()
        except (EntropyError, TimeoutError):
            pass  # it is over already


def _is_a_seed(message: Message) -> bool:
    if not isinstance(message, Draw):
        return False
    return message.kind is DrawKind.SEED and message.n_bytes <= SEED_BYTES
