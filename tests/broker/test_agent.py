"""The line for haproxy's agent check: its words, and who is told."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from typing import Any

import pytest

from entropy.broker import server
from entropy.broker.agent import Agent, words
from entropy.config import AgentConfig
from entropy.errors import TransportError
from entropy.transport.endpoint import parse_endpoint
from entropy.wire.codes import Role
from tests.broker.fleet import Fleet, draw, feed

NOTHING = "the reservoir is empty, and no feeder or peer brings anything"


@pytest.mark.parametrize(
    ("held_blocks", "says"),
    [
        (0, "up ready 1%"),
        (1, "up ready 1%"),
        (10, "up ready 1%"),
        (11, "up ready 2%"),
        (750, "up ready 75%"),
        (999, "up ready 100%"),
        (1000, "up ready 100%"),
    ],
)
def test_the_weight_follows_the_fill(held_blocks: int, says: str) -> None:
    line = words(draining=False, problem=None, held_blocks=held_blocks, capacity_blocks=1000)
    assert line == says


@pytest.mark.parametrize("draining", [False, True])
@pytest.mark.parametrize("problem", [None, NOTHING])
@pytest.mark.parametrize("held_blocks", [0, 1, 5])
def test_every_line_undoes_any_other(draining: bool, problem: str | None, held_blocks: int) -> None:
    line = words(draining=draining, problem=problem, held_blocks=held_blocks, capacity_blocks=5)
    said = line.partition("#")[0].split()
    assert len({"up", "down"} & {*said}) == 1
    assert len({"ready", "drain"} & {*said}) == 1
    assert ("drain" in said) == draining
    # A broker that is drained is not down: what it has begun it may finish.
    assert ("down" in said) == (problem is not None and not draining)
    assert "0%" not in said
    assert "\n" not in line


async def ask(endpoint: str, send: bytes = b"", **how: Any) -> bytes:
    reader, writer = await asyncio.open_connection(*parse_endpoint(endpoint), **how)
    try:
        writer.write(send)
        return await reader.read()
    finally:
        writer.close()


def test_what_a_broker_says(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        rng1, vm1 = fleet.credential("rng1", "feed"), fleet.credential("vm1", "draw")
        config = AgentConfig(("127.0.0.1:0",), ("127.0.0.1",))
        async with fleet.broker(agent=config) as broker:
            [endpoint] = broker.agent_addresses
            assert await ask(endpoint) == f"ready down # {NOTHING}\n".encode()
            feeder = await fleet.connect(broker, rng1, Role.FEEDER)
            await feeder.request(feed(32))
            assert await ask(endpoint, b"broker1\n") == b"up ready 50%\n"
            client = await fleet.connect(broker, vm1)
            for _ in range(8):
                await client.request(draw(4096))  # a share of what is there
            await client.request(draw(64))
            held_blocks = broker.service.reservoir.held_blocks
            said = await ask(endpoint)
            assert said == f"up ready {max(1, -(-100 * held_blocks // 64))}%\n".encode()
            # dry, and its feeder is still there: nobody is sent away
            broker.service.reservoir.destroy_all()
            assert await ask(endpoint) == b"up ready 1%\n"
            monkeypatch.setattr(server, "FEED_IS_RECENT_SECONDS", -10)
            assert await ask(endpoint) == f"ready down # {NOTHING}\n".encode()
        with pytest.raises(ConnectionRefusedError):
            await ask(endpoint)

    asyncio.run(story())


@pytest.mark.parametrize("jump_seconds", [-86_400, 86_400])
def test_a_wall_clock_that_jumps_changes_nothing(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, jump_seconds: int
) -> None:
    """Set back, it must not keep a dry broker in service; set forward, not take a fed one out."""

    async def story() -> None:
        rng1 = fleet.credential("rng1", "feed")
        async with fleet.broker() as broker:
            feeder = await fleet.connect(broker, rng1, Role.FEEDER)
            await feeder.request(feed(1))
            broker.service.reservoir.destroy_all()
            unix_seconds = time.time
            monkeypatch.setattr(time, "time", lambda: unix_seconds() + jump_seconds)
            assert broker.not_ready() is None
            monkeypatch.setattr(server, "FEED_IS_RECENT_SECONDS", 0)
            assert broker.not_ready() == NOTHING

    asyncio.run(story())


def test_only_balancers_are_told() -> None:
    async def story() -> None:
        agent = Agent(["127.0.0.1:0"], ["127.0.0.2", "::1"], lambda: "up ready 50%")
        await agent.start()
        [endpoint] = agent.addresses
        said = b""
        with contextlib.suppress(ConnectionResetError):
            said = await ask(endpoint)
        assert said == b""
        assert await ask(endpoint, local_addr=("127.0.0.2", 0)) == b"up ready 50%\n"
        await agent.stop()

    asyncio.run(story())


def test_a_balancer_that_does_not_hang_up_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("entropy.broker.agent._CONNECTION_SECONDS", 0.05)

    async def story() -> None:
        agent = Agent(["127.0.0.1:0"], ["127.0.0.1"], lambda: "up ready 50%")
        await agent.start()
        _, writer = await asyncio.open_connection(*parse_endpoint(agent.addresses[0]))
        while agent._tasks:
            await asyncio.wait(agent._tasks)
        writer.close()
        await agent.stop()

    asyncio.run(story())


def test_an_address_that_is_taken() -> None:
    async def story() -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            endpoint = f"127.0.0.1:{other.getsockname()[1]}"
            agent = Agent([endpoint], ["127.0.0.1"], str)
            with pytest.raises(TransportError, match=f"agent.listen {endpoint}") as error:
                await agent.start()
            assert error.value.exit_status != 2  # the unit is not started again after that
            await agent.stop()

    asyncio.run(story())
