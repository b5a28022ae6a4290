"""Sessions on asyncio, for the daemons: the broker serves, feeders and peers connect."""

from __future__ import annotations

import asyncio
import ssl

from entropy import errors
from entropy.credentials import Credential
from entropy.errors import TransportError
from entropy.transport.listener import Server, serve
from entropy.transport.stream import TlsStream, connect
from entropy.wire.client import ClientConnection
from entropy.wire.codes import Role
from entropy.wire.frames import (
    Accepted,
    Block,
    Draw,
    Feed,
    Message,
    Recall,
    Refused,
    Retry,
    Welcome,
)
from entropy.wire.keys import CredentialKeys

__all__ = ["AsyncClientConnection", "Server", "TlsStream", "connect", "serve"]

Reply = Block | Accepted | Retry | Refused


class AsyncClientConnection:
    """An open session with a broker. Made by `connect`; closes itself after any error."""

    __slots__ = ("_pending", "_stream", "_timeout_seconds", "_wire", "broker_id", "endpoint")

    def __init__(
        self, endpoint: str, stream: TlsStream, wire: ClientConnection, timeout_seconds: float
    ) -> None:
        self._stream = stream
        self._wire = wire
        self._timeout_seconds = timeout_seconds
        self._pending: list[Message] = []
        self.endpoint = endpoint
        self.broker_id: str

    @classmethod
    async def connect(
        cls,
        endpoint: str,
        *,
        context: ssl.SSLContext,
        credential: Credential,
        keys: CredentialKeys,
        role: Role,
        boot_id: bytes,
        counter: int,
        nonce: bytes,
        timeout_seconds: float,
        broker_id: str | None = None,
    ) -> AsyncClientConnection:
        """Connects, proves itself and checks the broker's proof, all within `timeout_seconds`.

        broker_id: the only broker that will do, if there is one. Raises TransportError,
        AuthenticationError, RemoteProtocolError, Refused.
        """
        deadline = asyncio.get_running_loop().time() + timeout_seconds
        stream = await connect(endpoint, context, timeout_seconds)
        try:
            wire = ClientConnection(
                role=role,
                site_id=credential.site_id,
                id=credential.id,
                key_id=credential.key_id,
                keys=keys,
                boot_id=boot_id,
                counter=counter,
                nonce=nonce,
                certificate_sha256=stream.certificate_sha256,
                certificate_names=stream.certificate_names,
                broker_id=broker_id,
            )
            self = cls(endpoint, stream, wire, timeout_seconds)
            message = await self._exchange(deadline)
            if isinstance(message, Refused):
                raise errors.Refused(message.code)
            assert wire.broker_id is not None  # Welcome came
            self.broker_id = wire.broker_id
        except asyncio.CancelledError:
            stream.abort()  # perhaps since this machine was copied: not a word with its keys
            raise
        except BaseException:
            stream.close()
            raise
        return self

    @property
    def welcome(self) -> Welcome:
        """What the broker said when the session opened."""
        assert self._wire.welcome is not None
        return self._wire.welcome

    @property
    def closed(self) -> bool:
        """Whether the session is over."""
        return self._stream.closed

    async def request(
        self, message: Draw | Feed | Recall, timeout_seconds: float | None = None
    ) -> Reply:
        """Sends a request and returns its answer; Refused too, after which the session is over.

        timeout_seconds: by default connect's, and for a Draw what it would wait on top. Raises
        TransportError and WireError, after which the session is over. One request at a time.
        """
        if timeout_seconds is None:
            wait_seconds = message.wait_ms / 1000 if isinstance(message, Draw) else 0.0
            timeout_seconds = self._timeout_seconds + wait_seconds
        deadline = asyncio.get_running_loop().time() + timeout_seconds
        try:
            # The broker may have said goodbye after the last answer.
            if not self._wire.closed:
                self._wire.send(message)
            reply = await self._exchange(deadline)
        except BaseException:
            self.close()
            raise
        if isinstance(reply, Refused):
            self.close()
        assert isinstance(reply, (Block, Accepted, Retry, Refused))  # what the wire lets through
        return reply

    def close(self) -> None:
        """Closes the connection."""
        self._stream.close()

    def abort(self) -> None:
        """Closes it without a word; what the system has not sent yet is thrown away."""
        self._stream.abort()

    async def __aenter__(self) -> AsyncClientConnection:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    async def _exchange(self, deadline: float) -> Message:
        """Sends what is to be sent and returns the next message."""
        try:
            async with asyncio.timeout_at(deadline):
                while not self._pending:
                    data = self._wire.data_to_send()
                    if data:
                        await self._stream.send(data)
                    data = await self._stream.receive()
                    if data:
                        self._wire.receive_data(data)
                    else:
                        self._wire.receive_eof()
                    self._pending += self._wire.events()
                    if not data and not self._pending:
                        raise TransportError(f"{self.endpoint} closed the connection")
        except TimeoutError:
            raise TransportError(f"talking to {self.endpoint}: timed out") from None
        return self._pending.pop(0)
