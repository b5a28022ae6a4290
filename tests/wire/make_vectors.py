"""Writes vectors.json: whole sessions, from inputs that anybody can make, with every value between.

    .venv/bin/python -m tests.wire.make_vectors

The package computes the values here; test_vectors.py checks them against straight_line.py.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from entropy.wire import keys
from entropy.wire.broker import BrokerConnection
from entropy.wire.client import ClientConnection
from entropy.wire.codes import DrawKind, RefusedCode, RetryReason, Role, certificate_name
from entropy.wire.frames import Block, Draw, Retry, Welcome

PATH = Path(__file__).with_name("vectors.json")
_PERMISSION_SETS = {1: {"draw"}, 2: {"feed"}, 4: {"peer"}, 7: {"draw", "feed", "peer"}}


def _bytes(label: str, n_bytes: int) -> str:
    """Bytes that stand for random ones: SHAKE-256 of their own name."""
    return hashlib.shake_256(f"entropy/1 vectors {label}".encode()).hexdigest(n_bytes)


def _given(name: str, **changed: object) -> dict[str, Any]:
    given: dict[str, Any] = {
        "site_id": "lab",
        "broker_id": "broker1",
        "id": "vm1",
        "role": 1,
        "counter": 1,
        "welcome": [1, 600, 32, 64, 4096, 1000000, 5000, 16384],
        "draw_wait_ms": 10000,
        "block_serial": 1,
        "block_credit_bits": 448,
        "block_origins": ["rng1"],
        "block_data": _bytes(f"{name} data", 64),
        "clocks": _bytes(f"{name} clocks", 16),
        "vm_generation": _bytes(f"{name} generation", 16),
    }
    for field, n_bytes in {
        "secret": 32,
        "key_id": 8,
        "boot_id": 16,
        "random": 32,
        "ephemeral_private": 32,
        "epoch": 16,
        "broker_nonce": 32,
        "certificate_sha256": 32,
    }.items():
        given[field] = _bytes(f"{name} {field}", n_bytes)
    return {**given, **changed}


def inputs() -> dict[str, dict[str, Any]]:
    """The inputs of each vector."""
    return {
        "a VM draws its seed": _given("seed"),
        "a peer draws": _given(
            "peer",
            broker_id="b2",
            id="broker1",
            role=3,
            counter=(1 << 64) - 1,
            welcome=[4, 0, 0, 0, 0, 0, 0, (1 << 32) - 1],
            block_serial=(1 << 64) - 1,
            block_credit_bits=32768,
            block_origins=["rng1", "rng2.feeder"],
            block_data=_bytes("peer data", 4096),
        ),
        "a VM without any randomness": _given(
            "bare", clocks="", vm_generation="", random="", counter=0, boot_id="00" * 16
        ),
        "the longest ids": _given(
            "longest",
            broker_id="b" * 63,
            id="v" * 63,
            role=2,
            welcome=[7, 4294967295, 65535, 1, 2, 3, 4, 5],
            block_data=_bytes("longest data", 1),
            block_credit_bits=0,
            block_origins=["r" * 63] * 16,
        ),
    }


def session(given: dict[str, Any]) -> dict[str, str]:
    """Everything that follows from the inputs of a vector, in hexadecimal."""

    def raw(name: str) -> bytes:
        return bytes.fromhex(given[name])

    own = keys.derive(raw("secret"))
    ephemeral = keys.Ephemeral.new(raw("ephemeral_private"))
    nonce = keys.client_nonce(
        own.psk,
        raw("boot_id"),
        given["counter"],
        raw("clocks"),
        raw("vm_generation"),
        raw("random"),
    )
    client = ClientConnection(
        role=Role(given["role"]),
        site_id=given["site_id"],
        id=given["id"],
        key_id=raw("key_id"),
        keys=own,
        boot_id=raw("boot_id"),
        counter=given["counter"],
        nonce=nonce,
        certificate_sha256=raw("certificate_sha256"),
        certificate_names=[certificate_name(given["broker_id"], given["site_id"])],
    )
    broker = BrokerConnection(
        broker_id=given["broker_id"],
        epoch=raw("epoch"),
        ephemeral=ephemeral,
        nonce=raw("broker_nonce"),
        certificate_sha256=raw("certificate_sha256"),
    )
    hello = broker.data_to_send()
    client.receive_data(hello)
    auth = client.data_to_send()
    shared = ephemeral.exchange(own.public)
    agreement = keys.Agreement(hello, auth[:-32], raw("certificate_sha256"), shared, own.psk)
    broker.receive_data(auth)
    broker.authenticate(own.public, own.psk)
    mask, *numbers = given["welcome"]
    broker.welcome(Welcome(frozenset(_PERMISSION_SETS[mask]), *numbers))
    welcome = broker.data_to_send()
    client.receive_data(welcome)
    session_keys = agreement.session_keys(welcome[:-32])
    said = keys.length_prefixed(agreement.t1, agreement.client_proof, welcome[:-32])

    frames: dict[str, str] = {}
    draw = Draw(DrawKind.SEED, len(raw("block_data")), given["draw_wait_ms"])
    block = Block(
        given["block_serial"],
        given["block_credit_bits"],
        tuple(given["block_origins"]),
        raw("block_data"),
    )
    for request, answer, reply in (
        ("draw_frame", "block_frame", block),
        ("second_draw_frame", "retry_frame", Retry(1500, RetryReason.EMPTY)),
    ):
        client.send(draw)
        frames[request] = client.data_to_send().hex()
        broker.receive_data(bytes.fromhex(frames[request]))
        broker.send(reply)
        frames[answer] = broker.data_to_send().hex()
        client.receive_data(bytes.fromhex(frames[answer]))
    broker.refuse(RefusedCode.SHUTDOWN)
    frames["refused_frame"] = broker.data_to_send().hex()
    client.receive_data(bytes.fromhex(frames["refused_frame"]))

    return {
        "credential_private": own.private.hex(),
        "credential_public": own.public.hex(),
        "credential_psk": own.psk.hex(),
        "client_nonce": nonce.hex(),
        "hello_frame": hello.hex(),
        "auth_frame": auth.hex(),
        "t1": agreement.t1.hex(),
        "shared": shared.hex(),
        "prk": agreement.prk.hex(),
        "client_proof": agreement.client_proof.hex(),
        "welcome_frame": welcome.hex(),
        "t2": hashlib.sha256(said).hexdigest(),
        "broker_proof": session_keys.broker_proof.hex(),
        "key_client_to_broker": session_keys.client_to_broker.hex(),
        "key_broker_to_client": session_keys.broker_to_client.hex(),
        **frames,
    }


def text() -> str:
    """The whole of vectors.json."""
    vectors = [
        {"name": name, "given": given, "then": session(given)} for name, given in inputs().items()
    ]
    return json.dumps({"protocol": "entropy/1", "vectors": vectors}, indent=1) + "\n"


if __name__ == "__main__":
    PATH.write_text(text())
    print(f"wrote {PATH.name}")
