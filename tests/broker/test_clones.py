"""A broker whose machine was copied: nothing of before is used, and no copy repeats the other.

The platform's sign is emulated by a file; the state of a snapshot by a copy in memory.
"""

from __future__ import annotations

import asyncio
import copy
import ssl
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entropy import clone_guard
from entropy.broker.peer import PeerLink
from entropy.clone import CloneWatch
from entropy.clone_guard import CloneGuard, Fresh
from entropy.config import CloneConfig
from entropy.errors import EntropyError
from entropy.reservoir import Reservoir
from entropy.wire.codes import DrawKind, Role
from tests.broker.fleet import Fleet, a_block, balanced, draw, feed, until

HUNG_UP = "reset|hung up|closed"
REASON = "the VM generation changed"


def snapshot() -> tuple[Reservoir, Reservoir]:
    """A reservoir with blocks in it, and its copy. Their kernels give the same for ever: zeros."""
    one = Reservoir(
        broker_id="broker1",
        epoch=bytes(16),
        capacity_blocks=64,
        export_above_blocks=4,
        kernel_bytes=bytes,
    )
    fill(one)
    return one, copy.deepcopy(one)


def fill(reservoir: Reservoir) -> None:
    """The same blocks each time, as no feeder would send them."""
    reservoir.add(
        [bytes(range(64))] * 16,
        claimed_bits=16 * 512,
        allowed_bits=16 * 512,
        origin="rng1",
        session=1,
        sequence=reservoir._n_added,
    )


def outputs(reservoir: Reservoir, doing: list[str]) -> set[bytes]:
    """Pieces of 16 bytes of all that it gives; what is asked is the same for each copy."""
    pieces = set()
    for what in doing:
        if what == "feed":
            fill(reservoir)
        elif what == "peer":
            output = reservoir.take_for_peer(100, peer_id="broker2", session=b"same")
        else:
            output = reservoir.take(100, client_id="vm1", session=b"same")
            output = output or reservoir.uncredited(64, client_id="vm1", session=b"same")
        if what != "feed" and output is not None:
            pieces |= {output.data[at : at + 16] for at in range(0, len(output.data) - 15, 16)}
    return pieces


DOING = st.lists(st.sampled_from(("feed", "peer", "draw")), min_size=1, max_size=12)


@given(before=DOING, after=DOING)
def test_no_copy_repeats_what_the_other_says(before: list[str], after: list[str]) -> None:
    one, _ = snapshot()
    said_before = outputs(one, before)
    two = copy.deepcopy(one)
    # Without the sign they would: this test sees it.
    three, four = copy.deepcopy(one), copy.deepcopy(one)
    assert outputs(three, after) == outputs(four, after)
    for reservoir, unlike in ((one, b"1"), (two, b"2")):
        fresh = Fresh(bytes, unlike)
        reservoir.begin_anew(fresh.bytes("epoch", 16), fresh.bytes("reservoir", 64))
        assert reservoir.held_blocks == 0
    said = [outputs(one, after), outputs(two, after), said_before]
    assert len(set.union(*said)) == sum(map(len, said))


class Copied:
    """Looks like a watch; says once that something was."""

    def __init__(self) -> None:
        self.reasons = [REASON]

    def look(self) -> str | None:
        return self.reasons.pop() if self.reasons else None

    def generation(self) -> bytes:
        return b"7"


def test_copies_with_the_same_kernel_get_different_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clocks of two copies differ, if nothing else does."""
    came: list[bytes] = []
    added: list[bytes] = []
    monkeypatch.setattr(ssl, "RAND_add", lambda data, bits: added.append(data))
    for _ in range(2):
        watch: Any = Copied()
        guard = CloneGuard(watch, bytes, lambda _, fresh: came.append(fresh.bytes("epoch", 16)))
        guard.look()
        guard.look()
        assert (guard.resets, guard.last_reason) == (1, REASON)
    assert len({*came, *(data[:16] for data in added)}) == 4


def test_a_look_is_not_repeated_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    watch: Any = Copied()
    guard = CloneGuard(watch, bytes, lambda *_: None)
    guard.check()
    assert guard.resets == 0
    monkeypatch.setattr(clone_guard, "LOOK_SECONDS", 0)
    guard.check()
    assert guard.resets == 1


def test_a_broker_that_was_copied(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    sign = fleet.folder / "generation"
    sign.write_text("1")
    monkeypatch.setattr(clone_guard, "POLL_SECONDS", 0.01)

    async def story() -> None:
        rng1, vm1 = fleet.credential("rng1", "feed"), fleet.credential("vm1", "draw")
        vm2 = fleet.credential("vm2", "draw")
        config = CloneConfig(str(sign))
        async with fleet.broker(random=bytes, clone=config) as broker:
            waiting_client = await fleet.connect(broker, vm2)
            waiting = asyncio.create_task(waiting_client.request(draw(wait_ms=60_000)))
            await until(lambda: len(broker.service.queue))
            feeder = await fleet.connect(broker, rng1, Role.FEEDER)
            # a handshake that is under way, and what one block leaves of the reservoir
            raw = await asyncio.open_connection(*_host_and_port(broker.addresses[0]))
            await feeder.request(feed(8))
            await waiting
            old = (broker.epoch, broker.ephemeral.public, broker.service.reservoir._key[:])
            sign.write_text("2")
            await until(lambda: broker.clones.resets)
            new = (broker.epoch, broker.ephemeral.public, broker.service.reservoir._key[:])
            assert all(before != after for before, after in zip(old, new))
            assert broker.service.reservoir.held_blocks == 0
            for session in (feeder, waiting_client):
                with pytest.raises(EntropyError, match=HUNG_UP):
                    await session.request(draw() if session is waiting_client else feed(1))
            assert await raw[0].read() == b""
            raw[1].close()
            await until(lambda: not broker.sessions)
            assert balanced(broker)
            assert broker.service.reservoir.accounting().lost_bits == 7 * 512
            status = broker.status()
            assert status["clone"] == {
                "sign": "generation file",
                "last_reason": REASON,
                "resets": 1,
            }
            [alarm] = status["alarms"]
            assert alarm["text"] == (
                f"broker1: {REASON}: this machine was cloned, restored or suspended: 7 blocks and"
                " all keys are destroyed, 2 sessions cut"
            )
            assert fleet.lines[-1] == alarm["text"]
            # and it serves again
            feeder = await fleet.connect(broker, rng1, Role.FEEDER)
            await feeder.request(feed(2))
            client = await fleet.connect(broker, vm1)
            assert a_block(await client.request(draw())).credit_bits == 448

    asyncio.run(story())


def _host_and_port(endpoint: str) -> tuple[str, int]:
    host, _, port = endpoint.rpartition(":")
    return host, int(port)


def test_nothing_leaves_between_the_sign_and_the_next_poll(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Polls are far apart here: the request itself finds the sign."""
    sign = fleet.folder / "generation"
    sign.write_text("1")
    monkeypatch.setattr(clone_guard, "LOOK_SECONDS", 0)
    monkeypatch.setattr(clone_guard, "POLL_SECONDS", 3600)

    async def story() -> None:
        rng1, vm1 = fleet.credential("rng1", "feed"), fleet.credential("vm1", "draw")
        async with fleet.broker(clone=CloneConfig(str(sign))) as broker:
            feeder = await fleet.connect(broker, rng1, Role.FEEDER)
            await feeder.request(feed(8))
            client = await fleet.connect(broker, vm1)
            sign.write_text("2")
            with pytest.raises(EntropyError, match=HUNG_UP):
                await client.request(draw(kind=DrawKind.SEED))
            assert broker.clones.resets == 1
            assert broker.service.reservoir.accounting().delivered_bits == 0

    asyncio.run(story())


def test_what_a_peer_gave_before_is_not_taken_in(fleet: Fleet) -> None:
    async def story() -> None:
        fleet.credential("broker2", "peer")
        rng1 = fleet.credential("rng1", "feed")
        async with fleet.broker("broker1") as one, fleet.broker("broker2") as two:
            feeder = await fleet.connect(one, rng1, Role.FEEDER)
            await feeder.request(feed(32))
            epochs = [b"before", b"after"]
            link = PeerLink(
                fleet.peer("broker1", one, "broker2"),
                two.config,
                two.service,
                lambda: epochs.pop(0),
                asyncio.Lock(),
                two.random,
                two.log,
            )
            await link._draw_all()
            assert one.service.reservoir.accounting().exported_bits > 0
            assert two.service.reservoir.accounting().imported_bits == 0

    asyncio.run(story())


def test_the_real_signs_of_this_machine_do_not_cry_wolf() -> None:
    guard = CloneGuard(CloneWatch(), bytes, lambda *_: None)
    for _ in range(3):
        guard.look()
    assert guard.resets == 0
    guard.close()
