"""Messages and their bytes.

A frame is a header of 4 bytes (version u8, type u8, payload length u16) and a payload. Numbers are
big-endian; a string is one byte of length and UTF-8. Before the keys exist payloads are plain and
short; afterwards they are sealed, and the length counts the tag of 16 bytes as well.

The reprs of BLOCK and FEED leave out the bytes that they carry: those are secrets.

`encode` raises LocalProtocolError when a message breaks a bound of its own, `decode`
RemoteProtocolError when the bytes do.
"""

from __future__ import annotations

import struct
from typing import Any, Callable, NamedTuple, Union

from entropy.errors import LocalProtocolError, RemoteProtocolError
from entropy.wire.codes import (
    PERMISSIONS,
    VERSION,
    DrawKind,
    FrameType,
    RefusedCode,
    RetryReason,
    Role,
    is_broker_id,
    is_id,
)

HEADER = struct.Struct("!BBH")
TAG_BYTES = 16
PROOF_BYTES = 32
PLAIN_LIMIT_BYTES = 512  # the longest payload before the keys exist
SEALED_LIMIT_BYTES = 16384  # and after
DRAW_LIMIT_BYTES = 4096
BLOCK_BYTES = 64
BLOCK_LIMIT_BITS = 8 * BLOCK_BYTES
FEED_LIMIT_BLOCKS = 32
ORIGINS_LIMIT = 16


class Hello(NamedTuple):
    """The broker opens: who it is, this run of it (16), its ephemeral key (32), a nonce (32)."""

    broker_id: str
    epoch: bytes
    public_key: bytes
    nonce: bytes


class Auth(NamedTuple):
    """Who connects (key id 8, boot id 16, nonce 32) and the proof (32) that it is."""

    role: Role
    id: str
    key_id: bytes
    boot_id: bytes
    counter: int
    nonce: bytes
    proof: bytes = b""


class Welcome(NamedTuple):
    """What the session may do, how fast, how full the reservoir is, and the broker's proof (32)."""

    permissions: frozenset[str]
    topup_interval_seconds: int
    topup_bytes: int
    rate_bytes_per_second: int
    burst_bytes: int
    credit_bits_per_second: int
    fill_blocks: int
    capacity_blocks: int
    proof: bytes = b""


class Draw(NamedTuple):
    """Asks for 1 to 4096 bytes, and says how long it would wait for them."""

    kind: DrawKind
    n_bytes: int
    wait_ms: int


class Block(NamedTuple):
    """The answer: bytes, what they are worth (at most 8 bits a byte), and which feeders made them.

    It may be shorter than what was asked for.
    """

    serial: int
    credit_bits: int
    origins: tuple[str, ...]
    data: bytes

    def __repr__(self) -> str:
        return f"Block({self.serial}, {len(self.data)} bytes worth {self.credit_bits} bits)"


class Feed(NamedTuple):
    """0 to 32 blocks of 64 bytes, numbered from `sequence`, with their credit in all.

    Without blocks it only asks how full the reservoir is.
    """

    sequence: int
    credit_bits: int
    blocks: tuple[bytes, ...]

    def __repr__(self) -> str:
        return f"Feed({self.sequence}, {len(self.blocks)} blocks, {self.credit_bits} bits)"


class Recall(NamedTuple):
    """Asks the broker to drop every block of this session numbered `sequence` or higher."""

    sequence: int


class Accepted(NamedTuple):
    """Answers FEED and RECALL: the next sequence, the bits credited, and how full it is."""

    sequence: int
    credited_bits: int
    fill_blocks: int
    capacity_blocks: int


class Retry(NamedTuple):
    """Not now: ask again after this long."""

    after_ms: int
    why: RetryReason


class Refused(NamedTuple):
    """No. It ends the session."""

    code: RefusedCode


Message = Union[Hello, Auth, Welcome, Draw, Block, Feed, Recall, Accepted, Retry, Refused]


class _Malformed(Exception):
    """A message breaks a bound, whichever side it comes from."""


def _need(true: bool, what: str) -> None:
    if not true:
        raise _Malformed(what)


def _string(text: str) -> bytes:
    raw = text.encode()
    return bytes((len(raw),)) + raw


class _Reader:
    """Takes a payload apart from the front; every shortage raises struct.error."""

    __slots__ = ("_at", "_payload")

    def __init__(self, payload: bytes) -> None:
        self._payload = payload
        self._at = 0

    def unpack(self, layout: struct.Struct) -> tuple[Any, ...]:
        values = layout.unpack_from(self._payload, self._at)
        self._at += layout.size
        return values

    def take(self, n_bytes: int) -> bytes:
        part = self._payload[self._at : self._at + n_bytes]
        _need(len(part) == n_bytes, "it is too short")
        self._at += n_bytes
        return part

    def string(self) -> str:
        return self.take(self.take(1)[0]).decode()

    def rest(self) -> bytes:
        return self.take(len(self._payload) - self._at)

    def end(self) -> None:
        _need(self._at == len(self._payload), "it is too long")


_HELLO = struct.Struct("!16s32s32s")
_AUTH = struct.Struct("!8s16sQ32s32s")
_WELCOME = struct.Struct("!BIHIIIII32s")
_DRAW = struct.Struct("!BHI")
_BLOCK = struct.Struct("!QIB")
_FEED = struct.Struct("!QIB")
_RECALL = struct.Struct("!Q")
_ACCEPTED = struct.Struct("!QIII")
_RETRY = struct.Struct("!IB")


# Each check holds for both directions: what we may not send, nobody may send us.


def _check_hello(m: Hello) -> None:
    _need(is_broker_id(m.broker_id), "its broker id is not one")
    _need((len(m.epoch), len(m.public_key), len(m.nonce)) == (16, 32, 32), "a field's length")


def _check_auth(m: Auth) -> None:
    _need(is_id(m.id), "its id is not one")
    lengths = (len(m.key_id), len(m.boot_id), len(m.nonce), len(m.proof))
    _need(lengths == (8, 16, 32, PROOF_BYTES), "a field's length")


def _check_welcome(m: Welcome) -> None:
    _need(m.permissions <= _ALL_PERMISSIONS, "a permission is unknown")
    _need(len(m.proof) == PROOF_BYTES, "a field's length")


def _check_draw(m: Draw) -> None:
    _need(1 <= m.n_bytes <= DRAW_LIMIT_BYTES, f"it asks for {m.n_bytes} bytes, not for 1 to 4096")


def _check_block(m: Block) -> None:
    _need(1 <= len(m.data) <= DRAW_LIMIT_BYTES, f"it holds {len(m.data)} bytes, not 1 to 4096")
    _need(m.credit_bits <= 8 * len(m.data), "it claims more than 8 bits per byte")
    _need(len(m.origins) <= ORIGINS_LIMIT, "it has more than 16 origins")
    _need(all(map(is_id, m.origins)), "an origin is not an id")


def _check_feed(m: Feed) -> None:
    _need(len(m.blocks) <= FEED_LIMIT_BLOCKS, "it holds more than 32 blocks")
    _need(all(len(block) == BLOCK_BYTES for block in m.blocks), "a block is not of 64 bytes")
    _need(m.credit_bits <= BLOCK_LIMIT_BITS * len(m.blocks), "it claims more than 512 bits a block")


_ALL_PERMISSIONS = frozenset(PERMISSIONS)
_PERMISSION_SETS = tuple(
    frozenset(name for bit, name in enumerate(PERMISSIONS) if mask >> bit & 1)
    for mask in range(1 << len(PERMISSIONS))
)


def _encode_hello(m: Hello) -> bytes:
    return _string(m.broker_id) + _HELLO.pack(m.epoch, m.public_key, m.nonce)


def _decode_hello(r: _Reader) -> Hello:
    return Hello(r.string(), *r.unpack(_HELLO))


def _encode_auth(m: Auth) -> bytes:
    fields = _AUTH.pack(m.key_id, m.boot_id, m.counter, m.nonce, m.proof)
    return bytes((Role(m.role),)) + _string(m.id) + fields


def _decode_auth(r: _Reader) -> Auth:
    return Auth(Role(r.take(1)[0]), r.string(), *r.unpack(_AUTH))


def _encode_welcome(m: Welcome) -> bytes:
    return _WELCOME.pack(_PERMISSION_SETS.index(m.permissions), *m[1:])


def _decode_welcome(r: _Reader) -> Welcome:
    mask, *others = r.unpack(_WELCOME)
    _need(mask < len(_PERMISSION_SETS), "a permission is unknown")
    return Welcome(_PERMISSION_SETS[mask], *others)


def _encode_draw(m: Draw) -> bytes:
    return _DRAW.pack(DrawKind(m.kind), m.n_bytes, m.wait_ms)


def _decode_draw(r: _Reader) -> Draw:
    kind, n_bytes, wait_ms = r.unpack(_DRAW)
    return Draw(DrawKind(kind), n_bytes, wait_ms)


def _encode_block(m: Block) -> bytes:
    head = _BLOCK.pack(m.serial, m.credit_bits, len(m.origins))
    return b"".join((head, *map(_string, m.origins), m.data))


def _decode_block(r: _Reader) -> Block:
    serial, credit_bits, n_origins = r.unpack(_BLOCK)
    _need(n_origins <= ORIGINS_LIMIT, "it has more than 16 origins")
    return Block(serial, credit_bits, tuple([r.string() for _ in range(n_origins)]), r.rest())


def _encode_feed(m: Feed) -> bytes:
    return b"".join((_FEED.pack(m.sequence, m.credit_bits, len(m.blocks)), *m.blocks))


def _decode_feed(r: _Reader) -> Feed:
    sequence, credit_bits, n_blocks = r.unpack(_FEED)
    _need(n_blocks <= FEED_LIMIT_BLOCKS, "it holds more than 32 blocks")
    return Feed(sequence, credit_bits, tuple([r.take(BLOCK_BYTES) for _ in range(n_blocks)]))


def _decode_retry(r: _Reader) -> Retry:
    after_ms, why = r.unpack(_RETRY)
    return Retry(after_ms, RetryReason(why))


class _Form(NamedTuple):
    type: FrameType
    check: Callable[[Any], None]
    encode: Callable[[Any], bytes]
    decode: Callable[[_Reader], Message]


def _no_check(m: Message) -> None:
    """The layout alone bounds the message."""


_FORMS: dict[type, _Form] = {
    Hello: _Form(FrameType.HELLO, _check_hello, _encode_hello, _decode_hello),
    Auth: _Form(FrameType.AUTH, _check_auth, _encode_auth, _decode_auth),
    Welcome: _Form(FrameType.WELCOME, _check_welcome, _encode_welcome, _decode_welcome),
    Draw: _Form(FrameType.DRAW, _check_draw, _encode_draw, _decode_draw),
    Block: _Form(FrameType.BLOCK, _check_block, _encode_block, _decode_block),
    Feed: _Form(FrameType.FEED, _check_feed, _encode_feed, _decode_feed),
    Recall: _Form(
        FrameType.RECALL,
        _no_check,
        lambda m: _RECALL.pack(*m),
        lambda r: Recall(*r.unpack(_RECALL)),
    ),
    Accepted: _Form(
        FrameType.ACCEPTED,
        _no_check,
        lambda m: _ACCEPTED.pack(*m),
        lambda r: Accepted(*r.unpack(_ACCEPTED)),
    ),
    Retry: _Form(
        FrameType.RETRY,
        _no_check,
        lambda m: _RETRY.pack(m.after_ms, RetryReason(m.why)),
        _decode_retry,
    ),
    Refused: _Form(
        FrameType.REFUSED,
        _no_check,
        lambda m: bytes((RefusedCode(m.code),)),
        lambda r: Refused(RefusedCode(r.take(1)[0])),
    ),
}
_FORMS_BY_TYPE = {form.type: form for form in _FORMS.values()}


def type_of(message: Message) -> FrameType:
    """The frame type of a message. LocalProtocolError if it is not a message."""
    form = _FORMS.get(type(message))
    if form is None:
        raise LocalProtocolError(f"a {type(message).__name__} is not a message of the wire")
    return form.type


def header(frame_type: int, payload_bytes: int) -> bytes:
    """The 4 bytes that go before a payload of this many bytes (the tag included)."""
    return HEADER.pack(VERSION, frame_type, payload_bytes)


def encode(message: Message) -> bytes:
    """The payload of a message, without its header. LocalProtocolError if it breaks a bound."""
    frame_type = type_of(message)
    form = _FORMS_BY_TYPE[frame_type]
    try:
        form.check(message)
        return form.encode(message)
    except (_Malformed, struct.error, ValueError, TypeError) as error:
        raise LocalProtocolError(f"this {frame_type.name} cannot be sent: {error}") from None


def decode(frame_type: int, payload: bytes) -> Message:
    """The message in a payload. RemoteProtocolError if the payload is not one of this type."""
    form = _FORMS_BY_TYPE.get(FrameType(frame_type)) if 1 <= frame_type <= 10 else None
    if form is None:
        raise RemoteProtocolError(f"frame type {frame_type} is unknown")
    reader = _Reader(payload)
    try:
        message = form.decode(reader)
        reader.end()
        form.check(message)
    except (_Malformed, struct.error, ValueError) as error:
        raise RemoteProtocolError(f"a malformed {form.type.name} came: {error}") from None
    return message
