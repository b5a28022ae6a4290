"""The end that connects: a VM's client, a feeder, or a broker that draws from its peer."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from typing import ClassVar

from entropy.errors import AuthenticationError
from entropy.wire.codes import FrameType, Role, certificate_name
from entropy.wire.connection import Connection, State, Table
from entropy.wire.frames import (
    PROOF_BYTES,
    Auth,
    Draw,
    Feed,
    Hello,
    Message,
    Recall,
    Welcome,
    encode,
    header,
)
from entropy.wire.keys import Agreement, CredentialKeys, exchange


class ClientConnection(Connection):
    """The connecting end of a session: HELLO is answered by AUTH, WELCOME opens it.

    Nothing of the broker is believed before its proof in WELCOME was checked: the first event is
    Welcome (or Refused), and `broker_id` and `epoch` mean nothing before it. One request at a time.

    role, id, key_id (8 bytes), keys: who we are. boot_id (16), counter (u64), nonce (32): see
    keys.client_nonce. certificate_sha256 (32) and certificate_names: of the certificate that the
    broker showed in TLS; 32 zero bytes and None on the port for seeds, which has no TLS.
    broker_id: the only broker that will do, if there is one.
    """

    __slots__ = (
        "_agreement",
        "_auth",
        "_broker_id_wanted",
        "_certificate_names",
        "_certificate_sha256",
        "_keys",
        "_site_id",
        "broker_id",
        "epoch",
        "welcome",
    )

    MAY_COME: ClassVar[Table] = {
        State.AWAIT_HELLO: {FrameType.HELLO: State.GREETED, FrameType.REFUSED: State.CLOSED},
        State.GREETED: {},
        State.AWAIT_WELCOME: {FrameType.WELCOME: State.OPEN, FrameType.REFUSED: State.CLOSED},
        State.OPEN: {FrameType.REFUSED: State.CLOSED},
        State.DRAWING: {
            FrameType.BLOCK: State.OPEN,
            FrameType.RETRY: State.OPEN,
            FrameType.REFUSED: State.CLOSED,
        },
        State.FEEDING: {
            FrameType.ACCEPTED: State.OPEN,
            FrameType.RETRY: State.OPEN,
            FrameType.REFUSED: State.CLOSED,
        },
        State.FAILED: {},
        State.CLOSED: {},
    }
    MAY_SEND: ClassVar[Table] = {
        State.AWAIT_HELLO: {},
        State.GREETED: {FrameType.AUTH: State.AWAIT_WELCOME},
        State.AWAIT_WELCOME: {},
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
    MAY_END = frozenset({State.OPEN, State.CLOSED})

    def __init__(
        self,
        *,
        role: Role,
        site_id: str,
        id: str,
        key_id: bytes,
        keys: CredentialKeys,
        boot_id: bytes,
        counter: int,
        nonce: bytes,
        certificate_sha256: bytes,
        certificate_names: Sequence[str] | None,
        broker_id: str | None = None,
    ) -> None:
        super().__init__(State.AWAIT_HELLO)
        self._auth: Auth | None = Auth(
            role, id, key_id, boot_id, counter, nonce, bytes(PROOF_BYTES)
        )
        encode(self._auth)  # a wrong field is ours, and is better said before anything was sent
        self._keys: CredentialKeys | None = keys
        self._agreement: Agreement | None = None
        self._site_id = site_id
        self._certificate_sha256 = certificate_sha256
        self._certificate_names = certificate_names
        self._broker_id_wanted = broker_id
        self.broker_id: str | None = None
        self.epoch: bytes | None = None
        self.welcome: Welcome | None = None

    def send(self, message: Draw | Feed | Recall) -> None:
        """Queues a request. LocalProtocolError if the session is not open for one."""
        self._send(message)

    def _came(self, message: Message, frame: bytes) -> bool:
        if isinstance(message, Hello):
            self._greeted(message, frame)
            return False
        if isinstance(message, Welcome):
            self._welcomed(message, frame)
        return True

    def _greeted(self, hello: Hello, frame: bytes) -> None:
        name = certificate_name(hello.broker_id, self._site_id)
        if self._certificate_names is not None and name not in self._certificate_names:
            shown = ", ".join(self._certificate_names) or "nobody"
            raise AuthenticationError(
                f"the broker says that it is {name}, but its certificate is for {shown}"
            )
        if self._broker_id_wanted not in (None, hello.broker_id):
            raise AuthenticationError(
                f"{self._broker_id_wanted} was to answer, but {hello.broker_id} did"
            )
        assert self._auth is not None  # both are kept until HELLO, which comes once
        assert self._keys is not None
        shared = exchange(self._keys.private, hello.public_key)
        payload = encode(self._auth)
        unproven = header(FrameType.AUTH, len(payload)) + payload[:-PROOF_BYTES]
        self._agreement = Agreement(
            frame, unproven, self._certificate_sha256, shared, self._keys.psk
        )
        self._queue(
            unproven + self._agreement.client_proof, self._next_when_sending(FrameType.AUTH)
        )
        self.broker_id = hello.broker_id
        self.epoch = hello.epoch
        self._auth = self._keys = None

    def _welcomed(self, welcome: Welcome, frame: bytes) -> None:
        assert self._agreement is not None  # made when HELLO came
        keys = self._agreement.session_keys(frame[:-PROOF_BYTES])
        if not hmac.compare_digest(keys.broker_proof, welcome.proof):
            raise AuthenticationError(
                f"{self.broker_id} did not prove that it knows this credential"
            )
        self._use_keys(receiving=keys.broker_to_client, sending=keys.client_to_broker)
        self._agreement = None
        self.welcome = welcome

    def _receiving_ends(self) -> None:
        self._auth = self._keys = self._agreement = None
