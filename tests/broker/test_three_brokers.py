"""Three brokers as processes: two with feeders, the third lives on what both can spare."""

from __future__ import annotations

import asyncio
import contextlib
import json
from types import SimpleNamespace
from typing import Any

from entropy.wire.codes import Role
from entropy.wire.frames import Accepted, Block, Feed
from tests.broker.fleet import Fleet, blocks, draw, until
from tests.broker.test_process import Process, ask, running, write_config

MARKS = "[reservoir]\ncapacity_blocks = 64\nlow_mark_blocks = {low}\nhigh_mark_blocks = {high}\n"


def endpoint(broker: Process) -> str:
    broker.wait_for_notice("READY=1")
    assert broker.process.stderr is not None
    return str(broker.process.stderr.readline().split()[-1])


def test_credit_is_conserved_over_three_processes(fleet: Fleet) -> None:
    vm1 = fleet.credential("vm1", "draw")
    feeders = [fleet.credential(name, "feed") for name in ("rng1", "rng2")]
    for name in ("broker2", "broker3"):
        fleet.credential(name, "peer")

    def peer(of: str, name: str, where: str) -> str:
        credential = json.dumps(str(fleet.folder / f"{of}.json"))
        return (
            f'[[peers]]\nid = "{name}"\nendpoint = "{where}"\ncredential = {credential}\n'
            "stir_interval_seconds = 1\n"
        )

    def status(name: str) -> dict[str, Any]:
        found: dict[str, Any] = ask(fleet, "status", name)["status"]
        return found

    connect: Any = fleet.connect

    async def feed(places: list[str]) -> None:
        for place, feeder in zip(places, feeders):
            session = await connect(SimpleNamespace(addresses=[place]), feeder, Role.FEEDER)
            assert isinstance(await session.request(Feed(0, 20 * 512, blocks(20))), Accepted)
            session.close()

    async def draw_there(place: str) -> None:
        # it holds none but what the other two gave it, and both gave something
        await until(lambda: all(peer["imported_bits"] for peer in status("broker3")["peers"]))
        client = await connect(SimpleNamespace(addresses=[place]), vm1)
        reply = await client.request(draw(64))
        assert isinstance(reply, Block)
        assert reply.credit_bits == 384  # conditioned once more than what feeders bring
        assert set(reply.origins) <= {"rng1", "rng2"}
        client.close()

    with contextlib.ExitStack() as stack:

        def start(name: str, more: str) -> str:
            config = write_config(fleet, name, more)
            return endpoint(stack.enter_context(running(fleet, config, 60)))

        rich, poor = MARKS.format(low=1, high=4), MARKS.format(low=20, high=32)
        one = start("broker1", rich)
        two = start("broker2", rich + peer("broker2", "broker1", one))
        asyncio.run(feed([one, two]))
        three = start(
            "broker3", poor + peer("broker3", "broker1", one) + peer("broker3", "broker2", two)
        )
        asyncio.run(draw_there(three))

        async def at_rest() -> None:
            """Nothing is under way when both sides of every transfer say the same."""

            def both_sides() -> bool:
                books = [status(name)["accounting"] for name in ("broker1", "broker2", "broker3")]
                exported = sum(book["exported_bits"] for book in books)
                return bool(exported == sum(book["imported_bits"] for book in books))

            await until(both_sides)

        asyncio.run(at_rest())
        books = [status(name)["accounting"] for name in ("broker1", "broker2", "broker3")]
        for book in books:
            assert book.pop("fed_bits") + book.pop("imported_bits") == sum(book.values())
        # what broker3 imported it gives to clients only
        assert books[2]["exported_bits"] == 0
        born_bits = 2 * 20 * 512
        gone = ("held_bits", "delivered_bits", "spent_bits", "lost_bits")
        assert born_bits == sum(book[name] for book in books for name in gone)
