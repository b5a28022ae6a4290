"""The wire's cryptography once more, in one line from the secret to the sealed frame.

Written from the standards with nothing but hashlib and hmac, so that the vectors are checked by
something that shares no code with the package: X25519 (RFC 7748), ChaCha20-Poly1305 (RFC 8439),
HKDF (RFC 5869). Slow and not constant in time: for tests only.
"""

from __future__ import annotations

import hashlib
import hmac
import struct

_P25519 = 2**255 - 19
_P1305 = 2**130 - 5


def x25519(scalar: bytes, point: bytes) -> bytes:
    """RFC 7748 section 5: the Montgomery ladder, 32 bytes by 32 bytes."""
    k = int.from_bytes(scalar, "little")
    k = (k & ~7 & ((1 << 255) - 1)) | (1 << 254)
    x1 = (int.from_bytes(point, "little") & ((1 << 255) - 1)) % _P25519
    x2, z2, x3, z3 = 1, 0, x1, 1
    for bit in reversed(range(255)):
        if k >> bit & 1:
            x2, z2, x3, z3 = _ladder_step(x3, z3, x2, z2, x1)
            x2, z2, x3, z3 = x3, z3, x2, z2
        else:
            x2, z2, x3, z3 = _ladder_step(x2, z2, x3, z3, x1)
    return (x2 * pow(z2, _P25519 - 2, _P25519) % _P25519).to_bytes(32, "little")


def _ladder_step(x2: int, z2: int, x3: int, z3: int, x1: int) -> tuple[int, int, int, int]:
    a, b, c, d = x2 + z2, x2 - z2, x3 + z3, x3 - z3
    aa, bb, da, cb = a * a, b * b, d * a, c * b
    e = aa - bb
    return (
        aa * bb % _P25519,
        e * (aa + 121665 * e) % _P25519,
        (da + cb) ** 2 % _P25519,
        x1 * (da - cb) ** 2 % _P25519,
    )


def _chacha20_block(key: bytes, counter: int, nonce: bytes) -> bytes:
    start = [0x61707865, 0x3320646E, 0x79622D32, 0x6B206574]
    start += struct.unpack("<8L", key)
    start += [counter, *struct.unpack("<3L", nonce)]
    s = list(start)

    def quarter(a: int, b: int, c: int, d: int) -> None:
        for add_to, add, turn, by in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
            s[add_to] = (s[add_to] + s[add]) & 0xFFFFFFFF
            mixed = s[turn] ^ s[add_to]
            s[turn] = (mixed << by | mixed >> (32 - by)) & 0xFFFFFFFF

    for _ in range(10):
        for i in range(4):
            quarter(i, i + 4, i + 8, i + 12)
        for i in range(4):
            quarter(i, (i + 1) % 4 + 4, (i + 2) % 4 + 8, (i + 3) % 4 + 12)
    return struct.pack("<16L", *((x + y) & 0xFFFFFFFF for x, y in zip(s, start)))


def _poly1305(key: bytes, data: bytes) -> bytes:
    r = int.from_bytes(key[:16], "little") & 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF
    total = 0
    for at in range(0, len(data), 16):
        total = (total + int.from_bytes(data[at : at + 16] + b"\x01", "little")) * r % _P1305
    return ((total + int.from_bytes(key[16:], "little")) % 2**128).to_bytes(16, "little")


def seal(key: bytes, counter: int, plain: bytes, header: bytes) -> bytes:
    """RFC 8439 section 2.8, with the wire's nonce: the frame's number in 12 bytes."""
    nonce = counter.to_bytes(12, "big")
    stream = b"".join(_chacha20_block(key, 1 + i, nonce) for i in range(len(plain) // 64 + 1))
    sealed = bytes(x ^ y for x, y in zip(plain, stream))
    padded = b"".join(part + bytes(-len(part) % 16) for part in (header, sealed))
    tag_input = padded + struct.pack("<2Q", len(header), len(sealed))
    return sealed + _poly1305(_chacha20_block(key, 0, nonce)[:32], tag_input)


def _hmac(key: bytes, data: bytes) -> bytes:
    return hmac.new(key, data, hashlib.sha256).digest()


def _expand(key: bytes, info: bytes) -> bytes:
    return _hmac(key, info + b"\x01")


def _lp(*parts: bytes) -> bytes:
    return b"".join(struct.pack("!L", len(part)) + part for part in parts)


def _frame(frame_type: int, payload: bytes) -> bytes:
    return struct.pack("!BBH", 1, frame_type, len(payload)) + payload


def _text(text: str) -> bytes:
    return struct.pack("!B", len(text)) + text.encode()


def session(given: dict[str, object]) -> dict[str, str]:
    """Everything that follows from the inputs of a vector, in hexadecimal."""

    def raw(name: str) -> bytes:
        return bytes.fromhex(str(given[name]))

    def number(name: str) -> int:
        return int(str(given[name]))

    secret, ephemeral = raw("secret"), raw("ephemeral_private")
    base = b"\x09" + bytes(31)
    x = _expand(secret, b"entropy/1 x25519")
    public = x25519(x, base)
    psk = _expand(secret, b"entropy/1 psk")
    e_public = x25519(ephemeral, base)

    nonce = _hmac(
        psk,
        _lp(
            b"entropy/1 nonce",
            raw("boot_id"),
            struct.pack("!Q", number("counter")),
            raw("clocks"),
            raw("vm_generation"),
            raw("random"),
        ),
    )
    hello = _frame(
        1, _text(str(given["broker_id"])) + raw("epoch") + e_public + raw("broker_nonce")
    )
    auth = _frame(
        2,
        bytes((number("role"),))
        + _text(str(given["id"]))
        + raw("key_id")
        + raw("boot_id")
        + struct.pack("!Q", number("counter"))
        + nonce
        + bytes(32),
    )[:-32]
    t1 = hashlib.sha256(_lp(b"entropy/1", hello, auth, raw("certificate_sha256"))).digest()
    shared = x25519(x, e_public)
    assert shared == x25519(ephemeral, public)
    prk = _hmac(t1, shared + psk)
    client_proof = _hmac(_expand(prk, b"c proof"), t1)

    mask, *numbers = [int(figure) for figure in given["welcome"]]  # type: ignore[attr-defined]
    welcome = _frame(3, struct.pack("!BLHLLLLL", mask, *numbers) + bytes(32))[:-32]
    t2 = hashlib.sha256(_lp(t1, client_proof, welcome)).digest()
    broker_proof = _hmac(_expand(prk, b"b proof"), t2)
    to_broker = _expand(prk, b"c2b" + t2)
    to_client = _expand(prk, b"b2c" + t2)

    def sealed(key: bytes, counter: int, frame_type: int, payload: bytes) -> bytes:
        header = struct.pack("!BBH", 1, frame_type, len(payload) + 16)
        return header + seal(key, counter, payload, header)

    data = raw("block_data")
    draw = struct.pack("!BHL", 1, len(data), number("draw_wait_ms"))
    origins = [str(origin) for origin in given["block_origins"]]  # type: ignore[attr-defined]
    block = (
        struct.pack("!QLB", number("block_serial"), number("block_credit_bits"), len(origins))
        + b"".join(map(_text, origins))
        + data
    )
    return {
        "credential_private": x.hex(),
        "credential_public": public.hex(),
        "credential_psk": psk.hex(),
        "client_nonce": nonce.hex(),
        "hello_frame": hello.hex(),
        "auth_frame": (auth + client_proof).hex(),
        "t1": t1.hex(),
        "shared": shared.hex(),
        "prk": prk.hex(),
        "client_proof": client_proof.hex(),
        "welcome_frame": (welcome + broker_proof).hex(),
        "t2": t2.hex(),
        "broker_proof": broker_proof.hex(),
        "key_client_to_broker": to_broker.hex(),
        "key_broker_to_client": to_client.hex(),
        "draw_frame": sealed(to_broker, 0, 4, draw).hex(),
        "block_frame": sealed(to_client, 0, 5, block).hex(),
        "second_draw_frame": sealed(to_broker, 1, 4, draw).hex(),
        "retry_frame": sealed(to_client, 1, 9, struct.pack("!LB", 1500, 1)).hex(),
        "refused_frame": sealed(to_client, 2, 10, b"\x04").hex(),
    }
