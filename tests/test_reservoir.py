"""The reservoir: the output formula, the credit rules, the order of blocks, and recalls."""

from __future__ import annotations

import hashlib
import hmac
import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from entropy.reservoir import BLOCK_BYTES, Reservoir

VECTORS = Path(__file__).with_name("reservoir_vectors.json")


def reservoir(**changes: Any) -> Reservoir:
    settings: dict[str, Any] = {
        "broker_id": "broker1",
        "epoch": bytes(16),
        "capacity_blocks": 16,
        "export_above_blocks": 0,
        "kernel_bytes": bytes,
    }
    return Reservoir(**(settings | changes))


def block(n: int) -> bytes:
    return hashlib.sha512(b"block %d" % n).digest()


def add(r: Reservoir, n_blocks: int, *, sequence: int = 0, **changes: Any) -> Any:
    settings: dict[str, Any] = {
        "claimed_bits": 512 * n_blocks,
        "allowed_bits": 10**9,
        "origin": "rng1",
        "session": 1,
        "sequence": sequence,
    }
    blocks = [block(sequence + i) for i in range(n_blocks)]
    return r.add(blocks, **(settings | changes))


def take(r: Reservoir, n_bytes: int, **more: Any) -> Any:
    return r.take(n_bytes, client_id="vm1", session=b"s", **more)


def balanced(r: Reservoir) -> bool:
    a = r.accounting()
    out = a.held_bits + a.delivered_bits + a.exported_bits + a.spent_bits + a.lost_bits
    return a.fed_bits + a.imported_bits == out


# The formula, against the published vectors and a second, straight-line computation


def lp(*fields: bytes) -> bytes:
    return b"".join(len(field).to_bytes(4, "big") + field for field in fields)


def expected(vector: dict[str, Any]) -> dict[str, Any]:
    """What the module's docstring says, step by step, without the module."""
    kernel = (bytes.fromhex(chunk) for chunk in vector["kernel"])
    key = next(kernel)
    epoch, session = bytes.fromhex(vector["epoch"]), bytes.fromhex(vector["session"])
    broker_id, client_id = vector["broker_id"].encode(), vector["client_id"].encode()
    piece_sizes = [64] * (vector["n_bytes"] // 64)
    if vector["n_bytes"] % 64:
        piece_sizes.append(vector["n_bytes"] % 64)
    data, credit_bits, reply_kernel = b"", 0, next(kernel)
    for j, (raw, n_bytes) in enumerate(zip(vector["blocks"], piece_sizes, strict=True)):
        mine = reply_kernel[64 * j : 64 * j + 64]
        message = lp(
            b"out",
            broker_id,
            epoch,
            (1).to_bytes(8, "big"),
            j.to_bytes(4, "big"),
            session,
            client_id,
            lp(vector["origin"].encode()),
            mine,
            bytes.fromhex(raw),
        )
        data += hmac.new(key, message, hashlib.sha512).digest()[:n_bytes]
        key = hmac.new(key, lp(b"ratchet", mine), hashlib.sha512).digest()
        credit_bits += min(8 * n_bytes, vector["block_bits"] - 64)
    mine = next(kernel)
    message = lp(b"uncredited", broker_id, epoch, (2).to_bytes(8, "big"), session, client_id, mine)
    uncredited = hmac.new(key, message, hashlib.sha512).digest()
    return {"data": data.hex(), "credit_bits": credit_bits, "uncredited": uncredited.hex()}


@pytest.mark.parametrize("vector", json.loads(VECTORS.read_text())["vectors"])
def test_output_is_the_formula(vector: dict[str, Any]) -> None:
    kernel = (bytes.fromhex(chunk) for chunk in vector["kernel"])
    r = reservoir(
        broker_id=vector["broker_id"],
        epoch=bytes.fromhex(vector["epoch"]),
        kernel_bytes=lambda n: next(kernel),
    )
    r.add(
        [bytes.fromhex(raw) for raw in vector["blocks"]],
        claimed_bits=vector["block_bits"] * len(vector["blocks"]),
        allowed_bits=10**9,
        origin=vector["origin"],
        session=1,
        sequence=0,
    )
    about = {"client_id": vector["client_id"], "session": bytes.fromhex(vector["session"])}
    output = r.take(vector["n_bytes"], **about)
    assert output is not None
    uncredited = r.uncredited(64, **about)
    assert uncredited.credit_bits == 0
    found = {
        "data": output.data.hex(),
        "credit_bits": output.credit_bits,
        "uncredited": uncredited.data.hex(),
    }
    assert found == expected(vector) == vector["expected"]


def test_full_block_goes_into_the_key_as_documented() -> None:
    r = reservoir(capacity_blocks=1)
    key = hmac.new(bytes(64), lp(b"stir", block(1)), hashlib.sha512).digest()
    add(r, 2)
    message = lp(b"out", b"broker1", bytes(16), (1).to_bytes(8, "big"), bytes(4), b"s", b"vm1")
    message += lp(lp(b"rng1"), bytes(64), block(0))
    assert take(r, 64).data == hmac.new(key, message, hashlib.sha512).digest()


# Two replies differ, whatever repeats


def test_no_two_replies_are_equal_when_kernel_and_blocks_repeat() -> None:
    seen: list[bytes] = []
    for broker_id in ("broker1", "broker2"):
        for epoch in (bytes(16), b"e" * 16):
            r = reservoir(broker_id=broker_id, epoch=epoch)
            r.add(
                [bytes(64)] * 12,
                claimed_bits=512 * 12,
                allowed_bits=512 * 12,
                origin="rng1",
                session=1,
                sequence=0,
            )
            for client_id, session in itertools.product(("vm1", "vm2"), (b"a", b"b")):
                output = r.take(128, client_id=client_id, session=session)
                assert output is not None
                seen += [output.data[:64], output.data[64:]]
                seen.append(r.uncredited(64, client_id=client_id, session=session).data)
            seen.append(take(r, 64).data)
    assert len(set(seen)) == len(seen) == 2 * 2 * (4 * 3 + 1)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"client_id": "vm1", "session": b"s"}, {"client_id": "vm2", "session": b"s"}),
        ({"client_id": "vm1", "session": b"s"}, {"client_id": "vm1", "session": b"t"}),
        # the same bytes, split elsewhere
        ({"client_id": "ab", "session": b"c"}, {"client_id": "b", "session": b"ca"}),
    ],
)
def test_twin_reservoirs_give_each_session_its_own(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    """Two brokers that are copies of each other, everything equal but who asks."""
    twins = [reservoir(), reservoir()]
    for r in twins:
        add(r, 1)
    a, b = twins[0].take(64, **one), twins[1].take(64, **other)
    assert a is not None
    assert b is not None
    assert a.data != b.data
    assert twins[0].uncredited(64, **one).data[:32] != twins[1].uncredited(64, **other).data[:32]


def test_origins_of_one_reply_do_not_run_together() -> None:
    data = []
    for origins in (["ab", "c"], ["a", "bc"], ["abc"]):
        r = reservoir()
        r.add_imported(bytes(64), claimed_bits=448, origins=origins)
        data.append(take(r, 64).data)
    assert len(set(data)) == 3


# What output is worth


@pytest.mark.parametrize(
    ("block_bits", "n_bytes", "credit_bits", "spent_bits"),
    [
        (512, 64, 448, 64),
        (512, 56, 448, 64),
        (512, 55, 440, 72),
        (512, 32, 256, 256),
        (512, 1, 8, 504),
        (320, 64, 256, 64),
        (65, 64, 1, 64),
    ],
)
def test_credit_of_one_block(
    block_bits: int, n_bytes: int, credit_bits: int, spent_bits: int
) -> None:
    r = reservoir()
    add(r, 1, claimed_bits=block_bits)
    output = take(r, n_bytes)
    assert (len(output.data), output.credit_bits) == (n_bytes, credit_bits)
    accounting = r.accounting()
    assert (accounting.delivered_bits, accounting.spent_bits) == (credit_bits, spent_bits)
    assert accounting.held_bits == 0


def test_one_block_for_each_64_bytes_and_short_when_there_are_fewer() -> None:
    r = reservoir()
    add(r, 3)
    output = take(r, 65)
    assert (len(output.data), output.credit_bits, r.held_blocks) == (65, 448 + 8, 1)
    output = take(r, 4096)
    assert (len(output.data), output.credit_bits, r.held_blocks) == (64, 448, 0)
    assert take(r, 64) is None
    assert balanced(r)


def test_at_most_blocks_cuts_the_reply() -> None:
    r = reservoir()
    add(r, 5)
    assert len(take(r, 4096, at_most_blocks=2).data) == 128
    assert r.held_blocks == 3


def test_a_claim_counts_evenly_over_its_blocks() -> None:
    """Four blocks with 1600 bits are four of 400, not three of 512 and a bad one."""
    r = reservoir()
    added = add(r, 4, claimed_bits=1602)
    assert (added.credited_bits, added.lost_bits, added.held_blocks) == (1602, 0, 4)
    assert [take(r, 64).credit_bits for _ in range(4)] == [337, 337, 336, 336]


def test_what_is_over_the_cap_is_lost() -> None:
    r = reservoir()
    added = add(r, 4, allowed_bits=512 + 100)
    # 512, 100, and two that would be worth nothing: these are stirred in
    assert added == (612, 4 * 512 - 612, 2, 2)
    assert r.accounting().fed_bits == 4 * 512
    assert r.accounting().lost_bits == 4 * 512 - 612
    assert balanced(r)


@pytest.mark.parametrize("claimed_bits", [0, 2 * 64])
def test_a_block_that_cannot_pay_for_its_hash_is_not_held(claimed_bits: int) -> None:
    r = reservoir()
    assert add(r, 2, claimed_bits=claimed_bits) == (0, claimed_bits, 0, 2)
    assert take(r, 64) is None
    assert balanced(r)


def test_a_full_reservoir_stirs_and_pays() -> None:
    r = reservoir(capacity_blocks=2)
    assert add(r, 3) == (2 * 512, 512, 2, 1)
    assert r.add_imported(bytes(128), claimed_bits=896, origins=["rng9"]) == (0, 896, 0, 2)
    assert r.held_blocks == 2
    assert balanced(r)


@pytest.mark.parametrize(
    "changes",
    [{"claimed_bits": 2 * 512 + 1}, {"claimed_bits": -1}, {"sequence": 6}, {"sequence": 0}],
)
def test_a_wrong_feed_changes_nothing(changes: dict[str, Any]) -> None:
    r = reservoir()
    add(r, 2, sequence=5)
    before = r.accounting()
    with pytest.raises(ValueError, match=r"claimed|newer"):
        add(r, 2, **({"sequence": 7} | changes))
    assert (r.accounting(), r.held_blocks) == (before, 2)


def test_a_block_of_another_size_is_refused() -> None:
    r = reservoir()
    with pytest.raises(ValueError, match="64 bytes"):
        r.add(
            [bytes(64), bytes(63)],
            claimed_bits=512,
            allowed_bits=512,
            origin="rng1",
            session=1,
            sequence=0,
        )
    assert r.held_blocks == 0


# Imported blocks


def test_imported_bytes_are_worth_448_bits_in_64_and_384_after_one_more_hash() -> None:
    r = reservoir()
    added = r.add_imported(bytes(130), claimed_bits=1040, origins=["rng7", "rng8"])
    assert added == (896, 1040 - 896, 2, 0)
    output = take(r, 64)
    assert (output.credit_bits, output.origins) == (384, ("rng7", "rng8"))
    assert balanced(r)


def test_more_than_eight_bits_a_byte_is_refused() -> None:
    r = reservoir()
    with pytest.raises(ValueError, match="claimed"):
        r.add_imported(bytes(64), claimed_bits=513, origins=[])
    assert r.accounting().imported_bits == 0


def test_imported_blocks_are_never_exported() -> None:
    r = reservoir()
    r.add_imported(bytes(256), claimed_bits=4 * 448, origins=["rng7"])
    assert r.take_for_peer(4096, peer_id="broker2", session=b"p") is None
    add(r, 1)
    output = r.take_for_peer(4096, peer_id="broker2", session=b"p")
    assert output is not None
    assert (len(output.data), output.origins, r.imported_blocks) == (64, ("rng1",), 4)
    assert r.accounting().exported_bits == 448


def test_export_leaves_what_the_high_mark_says() -> None:
    r = reservoir(export_above_blocks=3)
    add(r, 3)
    assert r.take_for_peer(64, peer_id="broker2", session=b"p") is None
    add(r, 2, sequence=3)
    output = r.take_for_peer(4096, peer_id="broker2", session=b"p")
    assert output is not None
    assert (len(output.data), output.credit_bits, r.held_blocks) == (128, 896, 3)


def test_an_exported_reply_holds_pieces_of_one_worth_only() -> None:
    """The peer is told the sum; with unequal pieces it would overstate some."""
    r = reservoir()
    add(r, 2)
    add(r, 1, sequence=2, claimed_bits=200)
    add(r, 1, sequence=3)
    worth = []
    while output := r.take_for_peer(4096, peer_id="broker2", session=b"p"):
        worth.append((len(output.data), output.credit_bits))
    assert worth == [(128, 896), (64, 136), (64, 448)]
    assert balanced(r)


def test_a_small_piece_uses_an_imported_block_and_a_large_one_a_native() -> None:
    r = reservoir()
    add(r, 2)
    r.add_imported(bytes(128), claimed_bits=896, origins=["rng7"])
    assert take(r, 32).origins == ("rng7",)
    assert take(r, 64).origins == ("rng1",)
    assert take(r, 128).origins == ("rng1", "rng7")
    assert r.held_blocks == 0


def test_a_reply_names_at_most_16_origins() -> None:
    r = reservoir(capacity_blocks=32)
    for i in range(20):
        add(r, 1, origin=f"rng{i}", session=i)
    output = take(r, 64 * 20)
    assert (len(output.data), len(output.origins)) == (64 * 16, 16)
    assert r.held_blocks == 4


# Order and recall


def marked(r: Reservoir) -> list[str]:
    """Take block by block; the origins tell which."""
    found = []
    while output := take(r, 64):
        found += output.origins
    return found


def test_the_oldest_goes_first() -> None:
    r = reservoir()
    for i in range(5):
        add(r, 1, origin=f"rng{i}", session=i % 2, sequence=i)
    assert marked(r) == [f"rng{i}" for i in range(5)]


@pytest.mark.parametrize(
    ("session", "sequence", "left"),
    [
        (0, 0, "bd"),
        (0, 3, "abcd"),
        (0, 5, "abcde"),
        (1, 2, "abce"),
        (2, 0, "abcde"),
    ],
)
def test_recall_drops_what_is_held_of_that_session(session: int, sequence: int, left: str) -> None:
    r = reservoir()
    for i, name in enumerate("abcde"):
        add(r, 1, origin=name, session=i % 2, sequence=i)
    recalled = r.recall(session, sequence)
    assert recalled == (5 - len(left), 512 * (5 - len(left)))
    assert r.accounting().lost_bits == recalled.n_bits
    assert "".join(marked(r)) == left
    assert balanced(r)


def test_recall_after_some_were_taken() -> None:
    r = reservoir()
    add(r, 4)
    take(r, 128)
    assert r.recall(1, 0) == (2, 1024)
    assert r.recall(1, 0) == (0, 0)
    add(r, 1, sequence=0)  # the numbers are free again
    assert r.held_blocks == 1


def test_an_ended_session_keeps_its_blocks_and_its_numbers_are_gone() -> None:
    r = reservoir()
    add(r, 2)
    r.forget_session(1)
    assert r.recall(1, 0) == (0, 0)
    assert len(take(r, 128).data) == 128
    assert balanced(r)


def test_destroy_all_leaves_nothing() -> None:
    fresh = iter([b"a" * 64, b"b" * 64])
    r = reservoir(kernel_bytes=lambda n: next(fresh))
    add(r, 2)
    r.add_imported(bytes(64), claimed_bits=448, origins=["rng7"])
    r.destroy_all()
    assert (r.held_blocks, r.exportable_blocks, r.imported_blocks) == (0, 0, 0)
    assert r.accounting().lost_bits == 2 * 512 + 448
    assert balanced(r)


def test_used_blocks_are_overwritten() -> None:
    r = reservoir()
    add(r, 3)
    r.add_imported(block(9), claimed_bits=448, origins=["rng7"])
    buffers = [b.data for b in (*r._native.values(), *r._imported)]
    assert all(any(buffer) for buffer in buffers)
    take(r, 32)  # the imported one
    r.take_for_peer(64, peer_id="broker2", session=b"p")
    r.recall(1, 2)
    r.destroy_all()
    assert [bytes(buffer) for buffer in buffers] == [bytes(BLOCK_BYTES)] * 4


def test_nothing_secret_shows() -> None:
    r = reservoir()
    add(r, 1)
    output = take(r, 64)
    assert output.data.hex()[:8] not in repr(output)
    assert repr(output.data)[2:10] not in repr(output)
