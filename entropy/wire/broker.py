"""The broker's end of a session."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import ClassVar

from entropy.errors import AuthenticationError, LocalProtocolError
from entropy.wire.codes import FrameType, RefusedCode
from entropy.wire.connection import Connection, State, Table
from entropy.wire.frames import (
    PROOF_BYTES,
    Accepted,
    Auth,
    Block,
    Hello,
    Message,
    Refused,
    Retry,
    Welcome,
    encode,
    header,
)
from entropy.wire.keys import Agreement, Ephemeral

_REFUSE: Mapping[FrameType, State] = {FrameType.REFUSED: State.CLOSED}


class BrokerConnection(Connection):
    """The broker's end: HELLO is queued at once, Auth is the first event.

    After Auth call `authenticate`, then `welcome` or `refuse`; then answer every Draw with a Block
    or a Retry, and every Feed or Recall with an Accepted or a Retry. `refuse` is possible until
    the end, once, and also after an error: sealed when the keys exist, plain before.

    epoch (16 bytes): this run of the broker. nonce (32): fresh for each connection.
    certificate_sha256 (32): of the certificate that this broker shows in TLS.
    """

    __slots__ = ("_agreement", "_auth_frame", "_certificate_sha256", "_ephemeral", "_hello_frame")

    MAY_COME: ClassVar[Table] = {
        State.NEW: {},
        State.AWAIT_AUTH: {FrameType.AUTH: State.AUTHENTICATING},
        State.AUTHENTICATING: {},
        State.PROVEN: {},
        State.OPEN: {
            FrameType.DRAW: State.DRAWING,
            FrameType.FEED: State.FEEDING,
            FrameType.RECALL: State.FEEDING,
        },
        State.DRAWING: {},
        State.FEEDING: {},
        State.FAILED: {},
        State.CLOSED: {},
    }
    MAY_SEND: ClassVar[Table] = {
        State.NEW: {FrameType.HELLO: State.AWAIT_AUTH},
        State.AWAIT_AUTH: _REFUSE,
        State.AUTHENTICATING: _REFUSE,
        State.PROVEN: {FrameType.WELCOME: State.OPEN, **_REFUSE},
        State.OPEN: _REFUSE,
        State.DRAWING: {FrameType.BLOCK: State.OPEN, FrameType.RETRY: State.OPEN, **_REFUSE},
        State.FEEDING: {FrameType.ACCEPTED: State.OPEN, FrameType.RETRY: State.OPEN, **_REFUSE},
        State.FAILED: _REFUSE,
        State.CLOSED: {},
    }
    MAY_END = frozenset(State)  # a client may leave at any time, but not within a frame

    def __init__(
        self,
        *,
        broker_id: str,
        epoch: bytes,
        ephemeral: Ephemeral,
        nonce: bytes,
        certificate_sha256: bytes,
    ) -> None:
        super().__init__(State.NEW)
        self._ephemeral: Ephemeral | None = ephemeral
        self._certificate_sha256 = certificate_sha256
        self._agreement: Agreement | None = None
        self._auth_frame = b""
        self._send(Hello(broker_id, epoch, ephemeral.public, nonce))
        self._hello_frame = self._outbox[0]

    def authenticate(self, public_key: bytes, psk: bytes) -> None:
        """Checks the proof in AUTH against X and p of the credential that it names.

        AuthenticationError if it does not fit; only `refuse` is left then. For an unknown id pass
        the X and p of a credential that nobody holds, so that it takes the same path and time.
        """
        if self.state is not State.AUTHENTICATING:
            raise LocalProtocolError(f"there is no proof to check: {self.state.value}")
        assert self._ephemeral is not None  # kept until here
        try:
            shared = self._ephemeral.exchange(public_key)
            agreement = Agreement(
                self._hello_frame,
                self._auth_frame[:-PROOF_BYTES],
                self._certificate_sha256,
                shared,
                psk,
            )
            proof = self._auth_frame[-PROOF_BYTES:]
            if not hmac.compare_digest(agreement.client_proof, proof):
                raise AuthenticationError("the other side did not prove that it is who it says")
        except AuthenticationError:
            self._fail()
            raise
        self._receiving_ends()
        self._agreement = agreement
        self.state = State.PROVEN

    def welcome(self, welcome: Welcome) -> None:
        """Queues WELCOME with our proof (the one given is ignored), and opens the session."""
        next_state = self._next_when_sending(FrameType.WELCOME)
        payload = encode(welcome._replace(proof=bytes(PROOF_BYTES)))
        assert self._agreement is not None  # made by authenticate
        unproven = header(FrameType.WELCOME, len(payload)) + payload[:-PROOF_BYTES]
        keys = self._agreement.session_keys(unproven)
        self._queue(unproven + keys.broker_proof, next_state)
        self._use_keys(receiving=keys.client_to_broker, sending=keys.broker_to_client)
        self._agreement = None

    def refuse(self, code: RefusedCode) -> None:
        """Queues REFUSED, which ends the session. LocalProtocolError if it is over already."""
        self._send(Refused(code))
        self._fail()

    def send(self, message: Block | Accepted | Retry | Refused) -> None:
        """Queues an answer. LocalProtocolError if it is not the answer to what was asked."""
        if isinstance(message, Refused):
            self.refuse(message.code)
        else:
            self._send(message)

    def _came(self, message: Message, frame: bytes) -> bool:
        if isinstance(message, Auth):
            self._auth_frame = frame
        return True

    def _receiving_ends(self) -> None:
        self._ephemeral = self._agreement = None
        self._hello_frame = self._auth_frame = self._certificate_sha256 = b""
