"""What both ends of a session share: frames out of bytes, the state tables, sealing.

A connection does no I/O. `receive_data` takes bytes as they come, `events` gives the messages that
were in them, `data_to_send` gives each byte to be sent once. What may come and what may be sent in
a state stands in two tables; what does not stand there raises, and an error while receiving ends
the connection for good: no later byte is read, and no message sent but a last REFUSED.

After the keys exist every payload is sealed with ChaCha20-Poly1305 (RFC 8439): one key for each
direction, the nonce is the number of the frame in that direction (4 zero bytes, then u64), and the
associated data is the header.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import ClassVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from entropy.errors import (
    AuthenticationError,
    LocalProtocolError,
    RemoteProtocolError,
    WireError,
)
from entropy.wire.codes import VERSION, FrameType
from entropy.wire.frames import (
    HEADER,
    PLAIN_LIMIT_BYTES,
    SEALED_LIMIT_BYTES,
    TAG_BYTES,
    Message,
    decode,
    encode,
    header,
    type_of,
)


class State(Enum):
    """Where a session stands. Not every end goes through every state."""

    NEW = "nothing was said yet"
    AWAIT_HELLO = "waiting for the broker to say who it is"
    GREETED = "the broker said who it is"
    AWAIT_AUTH = "waiting for the other end to say who it is"
    AUTHENTICATING = "its proof is still to be checked"
    PROVEN = "its proof is right, and it is still to be welcomed"
    AWAIT_WELCOME = "waiting for the broker's proof"
    OPEN = "a request may be made"
    DRAWING = "a draw waits for its answer"
    FEEDING = "a feed or a recall waits for its answer"
    FAILED = "an error ended it; only a refusal may still be said"
    CLOSED = "it is over"


Table = Mapping[State, Mapping[FrameType, State]]


def _name(frame_type: int) -> str:
    return FrameType(frame_type).name if 1 <= frame_type <= 10 else f"a frame of type {frame_type}"


class Connection:
    """One end of a session. Subclasses bring the tables and the handshake."""

    __slots__ = (
        "_buffer",
        "_events",
        "_outbox",
        "_received_frames",
        "_receiving",
        "_sending",
        "_sent_frames",
        "state",
    )

    MAY_COME: ClassVar[Table] = {}
    MAY_SEND: ClassVar[Table] = {}
    # States in which the other end may close: elsewhere something is still owed.
    MAY_END: ClassVar[frozenset[State]] = frozenset()

    def __init__(self, state: State) -> None:
        self.state = state
        self._buffer = bytearray()
        self._events: list[Message] = []
        self._outbox: list[bytes] = []
        # None until the keys exist; kept, since making one costs as much as using it.
        self._receiving: ChaCha20Poly1305 | None = None
        self._sending: ChaCha20Poly1305 | None = None
        self._received_frames = 0
        self._sent_frames = 0

    @property
    def closed(self) -> bool:
        """Whether the session is over, by a refusal, an end or an error."""
        return self.state in (State.FAILED, State.CLOSED)

    def receive_data(self, data: bytes) -> None:
        """Takes what came, in any portions.

        RemoteProtocolError or AuthenticationError if it is wrong; the session is over then.
        """
        if not data:
            return
        self._buffer += data
        try:
            while self._buffer and self._take_frame():
                pass
        except WireError:
            self._fail()
            raise

    def receive_eof(self) -> None:
        """Notes that no more will come. RemoteProtocolError if something was still owed."""
        owed = len(self._buffer) > 0 or self.state not in self.MAY_END
        over, said = self.closed, self.state
        self._fail()
        if owed and not over:
            raise RemoteProtocolError(f"the other side hung up early: {said.value}")

    def events(self) -> list[Message]:
        """The messages that came since the last call, in their order."""
        events, self._events = self._events, []
        return events

    def data_to_send(self) -> bytes:
        """The bytes to be sent, which are given once."""
        if not self._outbox:
            return b""
        data = b"".join(self._outbox)
        self._outbox.clear()
        return data

    def _take_frame(self) -> bool:
        """Takes one frame from the buffer. False if it is not all there."""
        row = self.MAY_COME[self.state]
        if not row:
            raise RemoteProtocolError(f"bytes came out of turn: {self.state.value}")
        if len(self._buffer) < HEADER.size:
            return False
        version, frame_type, payload_bytes = HEADER.unpack_from(self._buffer)
        if version != VERSION:
            raise RemoteProtocolError(
                f"the other side speaks version {version} of the protocol, this program {VERSION}"
            )
        next_state = row.get(frame_type)
        if next_state is None:
            raise RemoteProtocolError(f"{_name(frame_type)} came out of turn: {self.state.value}")
        limit_bytes = PLAIN_LIMIT_BYTES if self._receiving is None else SEALED_LIMIT_BYTES
        if payload_bytes > limit_bytes:
            raise RemoteProtocolError(
                f"{_name(frame_type)} of {payload_bytes} bytes came; {limit_bytes} is the most"
            )
        end = HEADER.size + payload_bytes
        if len(self._buffer) < end:
            return False
        frame = bytes(self._buffer[:end])
        del self._buffer[:end]
        message = decode(frame_type, self._open(frame))
        self.state = next_state
        if self._came(message, frame):
            self._events.append(message)
        return True

    def _came(self, message: Message, frame: bytes) -> bool:
        """For the subclass: a frame came. Whether it is an event; WireError to refuse it."""
        return True

    def _open(self, frame: bytes) -> bytes:
        if self._receiving is None:
            return frame[HEADER.size :]
        nonce = self._received_frames.to_bytes(12, "big")
        self._received_frames += 1
        try:
            return self._receiving.decrypt(nonce, frame[HEADER.size :], frame[: HEADER.size])
        except (InvalidTag, ValueError):  # ValueError: too short to hold a tag
            raise AuthenticationError(
                "a frame came that was altered, repeated or moved on its way"
            ) from None

    def _send(self, message: Message) -> None:
        """Queues a message as the table allows. LocalProtocolError if it does not."""
        frame_type = type_of(message)
        next_state = self._next_when_sending(frame_type)
        payload = encode(message)
        if self._sending is None:
            frame = header(frame_type, len(payload)) + payload
        else:
            head = header(frame_type, len(payload) + TAG_BYTES)
            nonce = self._sent_frames.to_bytes(12, "big")
            self._sent_frames += 1
            frame = head + self._sending.encrypt(nonce, payload, head)
        self._queue(frame, next_state)

    def _next_when_sending(self, frame_type: FrameType) -> State:
        next_state = self.MAY_SEND[self.state].get(frame_type)
        if next_state is None:
            raise LocalProtocolError(f"{frame_type.name} cannot be sent now: {self.state.value}")
        return next_state

    def _queue(self, frame: bytes, next_state: State) -> None:
        self._outbox.append(frame)
        self.state = next_state

    def _use_keys(self, *, receiving: bytes, sending: bytes) -> None:
        self._receiving = ChaCha20Poly1305(receiving)
        self._sending = ChaCha20Poly1305(sending)

    def _fail(self) -> None:
        if self.state is not State.CLOSED:
            self.state = State.FAILED
        self._buffer.clear()
        self._receiving_ends()

    def _receiving_ends(self) -> None:
        """For the subclass: drops what only the handshake needed."""
