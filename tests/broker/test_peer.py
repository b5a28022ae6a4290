"""Two real brokers that top each other up."""

from __future__ import annotations

import asyncio
import dataclasses
import signal
from types import SimpleNamespace
from typing import Any

import pytest

from entropy.broker.peer import PeerLink
from entropy.config import PeerConfig, ReservoirConfig
from entropy.credentials import dump_credential
from entropy.transport.aio import AsyncClientConnection
from entropy.wire.codes import DrawKind, RetryReason, Role
from entropy.wire.frames import Retry
from tests.broker.fleet import Fleet, a_block, balanced, draw, feed, until
from tests.broker.test_process import Process, ask, running, write_config

pytestmark = pytest.mark.usefixtures("fast_peers")

RICH = ReservoirConfig(64, 1, 4)
LOW = Retry(5000, RetryReason.LOW)
POOR = ReservoirConfig(64, 8, 16)
MARKS = "[reservoir]\ncapacity_blocks = 64\nlow_mark_blocks = 1\nhigh_mark_blocks = 4\n"


def test_one_feeder_serves_the_clients_of_both(fleet: Fleet) -> None:
    async def story() -> None:
        fleet.credential("broker2", "peer")
        rng1, vm1 = fleet.credential("rng1", "feed"), fleet.credential("vm1", "draw")
        async with fleet.broker("broker1", reservoir=RICH) as one:
            peers = (fleet.peer("broker1", one, "broker2"),)
            async with fleet.broker("broker2", reservoir=POOR, peers=peers) as two:
                feeder = await fleet.connect(one, rng1, Role.FEEDER)
                client = await fleet.connect(two, vm1)
                waiting = asyncio.create_task(client.request(draw(64, wait_ms=60_000)))
                await feeder.request(feed(12))
                block = a_block(await waiting)
                # hashed once more on its way: 64 bits less
                assert (block.origins, block.credit_bits) == (("rng1",), 384)
                # one keeps its four, so seven or eight came over: the client has one
                await until(lambda: one.service.reservoir.held_blocks == 4)
                await until(lambda: two.service.reservoir.imported_blocks == 7)
                gave, got = (b.service.reservoir.accounting() for b in (one, two))
                assert gave.exported_bits == got.imported_bits == 8 * 448
                assert two.status()["peers"][0]["imported_bits"] == 8 * 448
                assert balanced(one)
                assert balanced(two)
                # more comes as soon as there is more
                await feeder.request(feed(12, sequence=12))
                await until(lambda: two.service.reservoir.imported_blocks == 16)
                assert one.service.reservoir.held_blocks == 4 + 12 - 9

    asyncio.run(story())


def test_what_was_imported_does_not_go_round(fleet: Fleet) -> None:
    async def story() -> None:
        fleet.credential("broker1", "peer")
        fleet.credential("broker2", "peer")
        rng1 = fleet.credential("rng1", "feed")
        async with fleet.broker("broker1", reservoir=RICH) as one:
            peers = (fleet.peer("broker1", one, "broker2"),)
            marks = dataclasses.replace(RICH, low_mark_blocks=3)
            async with fleet.broker("broker2", reservoir=marks, peers=peers) as two:
                feeder = await fleet.connect(one, rng1, Role.FEEDER)
                await feeder.request(feed(12))
                await until(lambda: two.service.reservoir.imported_blocks == 4)
                asking = await fleet.connect(two, fleet.credentials["broker1"], Role.PEER)
                for _ in range(3):
                    assert await asking.request(draw(64, kind=DrawKind.PEER)) == LOW

    asyncio.run(story())


def test_a_peer_without_surplus_is_idle_not_a_fault(fleet: Fleet) -> None:
    async def story() -> None:
        fleet.credential("broker2", "peer")
        async with fleet.broker("broker1", reservoir=RICH) as one:
            peers = (fleet.peer("broker1", one, "broker2"),)
            async with fleet.broker("broker2", reservoir=POOR, peers=peers) as two:
                await until(lambda: one.service.logins.n_sessions >= 3)
                peer = two.status()["peers"][0]
                assert peer["state"] in ("idle", "drawing")
                assert (peer["last_error"], peer["last_import_unix"]) == (None, None)

    asyncio.run(story())


@pytest.mark.parametrize(
    ("spoil", "state", "says"),
    [
        ("revoked", "refused", "did not accept this credential"),
        ("another id", "unreachable", "broker9"),
        ("nobody there", "unreachable", "connecting to 127.0.0.1:"),
        ("credential gone", "unreachable", "broker2.json"),
    ],
)
def test_a_peer_that_cannot_be_drawn_from(fleet: Fleet, spoil: str, state: str, says: str) -> None:
    async def story() -> None:
        fleet.credential("broker2", "peer")
        if spoil == "revoked":
            fleet.revoke("broker2")
        async with fleet.broker("broker1") as one:
            peer = fleet.peer("broker1", one, "broker2")
            if spoil == "another id":
                peer = dataclasses.replace(peer, id="broker9")
            if spoil == "nobody there":
                await one.stop()
            async with fleet.broker("broker2", peers=(peer,)) as two:
                if spoil == "credential gone":
                    (fleet.folder / "broker2.json").unlink()

                await until(lambda: two.peers[0].state == state)
                await until(lambda: says in (two.peers[0].last_error or ""))
                assert f"peer {peer.id}: {state}" in " ".join(fleet.lines)

    asyncio.run(story())


def test_a_peer_that_hangs_holds_up_nobody(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its kernel goes on accepting for it. When it goes on itself, it is drawn from again."""
    monkeypatch.setattr("entropy.broker.peer.CONNECT_SECONDS", 1.0)

    async def story(hung: Process) -> None:
        assert hung.process.stderr is not None
        place = hung.process.stderr.readline().split()[-1]
        rng1, rng2 = (fleet.credential(name, "feed") for name in ("rng1", "rng2"))
        ask(fleet, "apply-acl")
        credential = str(fleet.folder / "broker3.json")
        async with fleet.broker("broker2", reservoir=RICH) as two:
            feeder = await fleet.connect(two, rng2, Role.FEEDER)
            await feeder.request(feed(24))
            hung.process.send_signal(signal.SIGSTOP)
            peers = (
                PeerConfig("broker1", place, credential),
                fleet.peer("broker2", two, "broker3"),
            )
            async with fleet.broker("broker3", reservoir=POOR, peers=peers) as three:
                await until(lambda: three.service.reservoir.imported_blocks == 16)
                await until(lambda: three.peers[0].state == "unreachable")
                assert "timed out" in str(three.peers[0].last_error)
                hung.process.send_signal(signal.SIGCONT)
                await until(lambda: three.peers[0].state == "idle")
                # It is in another process: all that is asked of it here is its address.
                one: Any = SimpleNamespace(addresses=[place])
                feeder = await fleet.connect(one, rng1, Role.FEEDER)
                await feeder.request(feed(24))
                two.service.reservoir.destroy_all()
                three.service.reservoir.destroy_all()
                three.service.watch_low_mark()
                await until(lambda: three.peers[0].imported_bits)

    fleet.credential("broker3", "peer")
    with running(fleet, write_config(fleet, more=MARKS), 60) as hung:
        hung.wait_for_notice("READY=1")
        asyncio.run(story(hung))


def test_a_peer_that_comes_back_is_used_again(fleet: Fleet) -> None:
    async def story() -> None:
        fleet.credential("broker2", "peer")
        rng1 = fleet.credential("rng1", "feed")
        fleet.revoke("broker2")
        async with fleet.broker("broker1", reservoir=RICH) as one:
            peers = (fleet.peer("broker1", one, "broker2"),)
            async with fleet.broker("broker2", reservoir=POOR, peers=peers) as two:
                await until(lambda: two.peers[0].state == "refused")
                fleet.credential("broker2", "peer")
                await one.apply_acl()
                feeder = await fleet.connect(one, rng1, Role.FEEDER)
                await feeder.request(feed(12))
                await until(lambda: two.service.reservoir.imported_blocks == 8)
                await until(lambda: two.peers[0].state == "idle")
                assert "peer broker1: reached again" in fleet.lines

    asyncio.run(story())


def test_a_new_key_is_shown_to_the_peer_at_once(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where nothing is to be drawn: until it was seen, the old key cannot end."""
    monkeypatch.setattr("entropy.broker.peer.LOOK_SECONDS", 0.01)

    async def story() -> None:
        fleet.credential("broker2", "peer")
        rng1 = fleet.credential("rng1", "feed")
        async with fleet.broker("broker1", reservoir=RICH) as one:
            peers = (fleet.peer("broker1", one, "broker2"),)
            async with fleet.broker("broker2", reservoir=RICH, peers=peers) as two:
                feeder = await fleet.connect(two, rng1, Role.FEEDER)
                await feeder.request(feed(12))
                new = fleet.second_key("broker2")
                await one.apply_acl()
                fleet.secret("broker2.json", dump_credential(new).encode())

                def was_used() -> bool:
                    return one.service.logins.uses.unix(("broker2", new.key_id)) is not None

                await until(was_used)
                assert two.service.reservoir.imported_blocks == 0

    asyncio.run(story())


def test_a_bug_in_a_part_is_told_and_the_broker_serves_on(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def bug(self: PeerLink) -> float:
        raise KeyError("a bug")

    async def story() -> None:
        told: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, what: told.append(what))
        fleet.credential("broker2", "peer")
        vm1 = fleet.credential("vm1", "draw")
        peers = (PeerConfig("broker1", "127.0.0.1:1", str(fleet.folder / "broker2.json")),)
        async with fleet.broker("broker2", peers=peers) as broker:
            await until(lambda: told)
            assert [repr(what["exception"]) for what in told] == ["KeyError('a bug')"]
            client = await fleet.connect(broker, vm1)
            assert isinstance(await client.request(draw()), Retry)
        assert len(told) == 1  # the other parts were cancelled, and that is no bug

    monkeypatch.setattr(PeerLink, "_top_up", bug)
    asyncio.run(story())


def test_several_peers_are_drawn_from_in_turn(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None gives all that is missing while another has something, too."""
    monkeypatch.setattr("entropy.broker.peer.DRAW_LIMIT_BYTES", 4 * 64)

    async def story() -> None:
        fleet.credential("broker3", "peer")
        rng1, rng2 = (fleet.credential(name, "feed") for name in ("rng1", "rng2"))
        async with (
            fleet.broker("broker1", reservoir=RICH) as one,
            fleet.broker("broker2", reservoir=RICH) as two,
        ):
            for broker, rng in ((one, rng1), (two, rng2)):
                feeder = await fleet.connect(broker, rng, Role.FEEDER)
                await feeder.request(feed(24))
            peers = (fleet.peer("broker1", one, "broker3"), fleet.peer("broker2", two, "broker3"))
            # one more, that is away: it holds up nobody
            away = PeerConfig("broker9", "127.0.0.1:1", str(fleet.folder / "broker3.json"))
            async with fleet.broker("broker3", reservoir=POOR, peers=(*peers, away)) as three:
                await until(lambda: three.service.reservoir.imported_blocks == 16)
                gave = [b.service.reservoir.accounting().exported_bits for b in (one, two)]
                assert sum(gave) == 16 * 448 == three.service.reservoir.accounting().imported_bits
                assert min(gave) >= 4 * 448
                await until(lambda: three.peers[2].state == "unreachable")
                assert all(map(balanced, (one, two, three)))

    asyncio.run(story())


def test_the_classic_way(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes of the local kernel into the peer: mixed in, and no credit."""
    sleep = asyncio.sleep

    async def short(seconds: float) -> None:
        await sleep(seconds / 1000)

    async def story() -> None:
        fleet.credential("broker2", "peer")
        async with fleet.broker("broker1") as one:
            [peer] = (fleet.peer("broker1", one, "broker2"),)
            peer = dataclasses.replace(peer, stir_interval_seconds=10)
            key = bytes(one.service.reservoir._key)
            monkeypatch.setattr("entropy.broker.peer.asyncio.sleep", short)
            async with fleet.broker("broker2", peers=(peer,)) as two:
                await until(lambda: one.service.stirred_bytes >= 128)
                await until(lambda: two.peers[0].stirred_bytes >= 128)
                assert bytes(one.service.reservoir._key) != key
                assert not any(one.service.reservoir.accounting())
                fleet.revoke("broker2")
                await one.apply_acl()
                await until(lambda: two.peers[0].stir_error)
            monkeypatch.undo()
        said = [line for line in fleet.lines if "cannot stir" in line]
        assert len(said) == 1  # once, however often it fails

    asyncio.run(story())


def test_two_sessions_of_one_link_do_not_overtake_each_other(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Drawing and stirring take their numbers from one clock; a broker takes late ones amiss."""
    began: list[int] = []

    async def story() -> None:
        first_may_end = asyncio.Event()

        async def connect(*_: object, counter: int, **__: object) -> int:
            began.append(counter)
            await first_may_end.wait()
            return counter

        fleet.credential("broker2", "peer")
        async with fleet.broker("broker1") as one:
            monkeypatch.setattr(AsyncClientConnection, "connect", connect)
            peer = fleet.peer("broker1", one, "broker2")
            turn = asyncio.Lock()
            link = PeerLink(
                peer, one.config, one.service, one.current_epoch, turn, one.random, one.log
            )
            both = [asyncio.create_task(link._connect()) for _ in range(2)]
            await until(lambda: began)
            for _ in range(10):
                await asyncio.sleep(0)
            assert len(began) == 1
            first_may_end.set()
            assert await asyncio.gather(*both) == sorted(began)

    asyncio.run(story())
