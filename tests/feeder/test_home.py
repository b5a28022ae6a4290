"""A feeder that failed over comes home, as soon as it can and not sooner."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from entropy import feeder_home
from entropy.errors import TransportError
from entropy.feeder_home import Homeward, spread_wide
from entropy.health import STARTUP_BYTES
from entropy.wire.codes import RetryReason
from entropy.wire.frames import Feed, Retry
from tests.feeder.site import FAST, STREAM, Received, Site, Stream, blocks_of, running, until
from tests.feeder.test_session import Line, Message, Reply, ScriptedBroker, accept


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch) -> Line:
    return Line(monkeypatch)


def test_the_session_that_a_look_opens_is_the_one_that_it_goes_on_with(line: Line) -> None:
    """The present one is kept, and fed, until then; and no block goes out twice."""
    first, second = ScriptedBroker(accept), ScriptedBroker(accept)
    line.brokers["second:1"] = second
    line.pace(first_home_seconds=0.01, last_home_seconds=0.02, first_retry_seconds=3600)

    async def scenario() -> None:
        await until(lambda: line.dialled.count("first:1") >= 4)
        line.add(10)
        await until(lambda: second.frames)
        assert not second.closed
        assert line.session.broker_id
        line.outbox.forget_before(10**6)
        line.brokers["first:1"] = first
        await until(lambda: second.closed)  # with no wait: nobody waits for an hour here
        line.add(10, first=10)
        await until(lambda: first.frames)

    line.run(scenario)
    assert line.dialled[:2] == ["first:1", "second:1"]
    assert line.dialled.count("second:1") == 1
    assert line.dialled[-1] == "first:1"
    sent = [block for broker in (first, second) for f in broker.frames for block in f.blocks]
    assert len(set(sent)) == len(sent) == 20
    assert line.said.count("first:1: nobody") == 1


def test_on_the_way_home_nothing_is_lost_and_nothing_goes_twice(site: Site) -> None:
    """Over real brokers, from a device that never stops: each block once, in order."""

    async def scenario() -> None:
        source = Stream()
        async with site.broker("broker2") as second:
            received_2 = Received(second)
            async with site.broker("broker1") as first:  # to have an address that is its own
                address = first.addresses[0]
            pace = FAST._replace(first_home_seconds=0.1, first_retry_seconds=0.2)
            async with running(site.config(address, second), source, pace) as feeder:
                await until(lambda: len(received_2.blocks) > 10)
                async with site.broker("broker1", listen=address) as first:
                    received_1 = Received(first)
                    await until(lambda: len(received_1.blocks) > 10)
                    assert feeder.session.broker_id == "broker1"
                    together = received_2.blocks + received_1.blocks
                    assert together == blocks_of(STREAM[STARTUP_BYTES:])[: len(together)]
                    fed = [broker.status()["feeders"][0]["fed_bits"] for broker in (first, second)]
                    assert sum(fed) == 512 * len(together)
                    assert second.status()["accounting"]["lost_bits"] == 0

    asyncio.run(scenario())


def test_what_was_pushed_is_past_recall_before_it_leaves(line: Line) -> None:
    """Nothing more is pushed meanwhile, and nothing is asked."""
    first, second = ScriptedBroker(accept), ScriptedBroker(accept)
    line.brokers["second:1"] = second
    line.pace(first_home_seconds=0.01, leave_seconds=3600)

    async def scenario() -> None:
        line.add(10)
        await until(lambda: line.outbox.accounting.accepted_bits)
        line.brokers["first:1"] = first
        await until(lambda: first.endpoint)
        n_asked = len(second.asked)
        line.add(10, first=10)
        for _ in range(50):
            await asyncio.sleep(0)
        assert not second.closed
        assert not first.asked
        line.outbox.forget_before(999)
        line.session.wake()
        for _ in range(50):
            await asyncio.sleep(0)
        assert not second.closed  # the tenth block ends at 1000
        line.outbox.forget_before(1000)
        line.session.wake()
        await until(lambda: first.frames)
        assert len(second.asked) <= n_asked + 1  # a question that was on its way

    line.run(scenario)
    assert second.closed


def test_a_source_that_pauses_does_not_keep_it_away(line: Line) -> None:
    first, second = ScriptedBroker(accept), ScriptedBroker(accept)
    line.brokers["second:1"] = second
    line.pace(first_home_seconds=0.01, leave_seconds=0.05)

    async def scenario() -> None:
        line.add(10)
        await until(lambda: second.frames)
        line.brokers["first:1"] = first
        await until(lambda: first.asked)

    line.run(scenario)
    assert line.outbox.accounting.recalled_bits == 0


def test_a_session_that_breaks_as_home_is_back(line: Line) -> None:
    """What the look opened is used, not thrown away; nor is it dialled again."""
    broken = asyncio.Event()

    async def breaks(message: Message) -> Reply:
        if isinstance(message, Feed) and message.blocks:
            await broken.wait()
            raise TransportError("second:1 closed the connection")
        return await accept(message)

    first, second = ScriptedBroker(accept), ScriptedBroker(breaks)
    line.brokers["second:1"] = second
    line.pace(first_home_seconds=0.01, first_retry_seconds=3600)

    async def scenario() -> None:
        line.add(10)
        await until(lambda: second.frames)
        line.brokers["first:1"] = first
        await until(lambda: first.endpoint)
        broken.set()
        await until(lambda: first.asked)

    line.run(scenario)
    assert not first.aborted


def test_a_session_that_a_look_opened_does_not_outlive_the_feeder(line: Line) -> None:
    """Nor one that is not used yet, since the present broker has not taken its recall."""

    async def puts_off(message: Message) -> Reply:
        if isinstance(message, Feed):
            return await accept(message)
        return Retry(3_600_000, RetryReason.RATE)

    first, second = ScriptedBroker(accept), ScriptedBroker(puts_off)
    line.brokers["second:1"] = second
    line.pace(first_home_seconds=0.01)

    async def scenario() -> None:
        line.add(10)
        await until(lambda: second.frames)
        line.outbox.recall_after(0)
        line.brokers["first:1"] = first
        await until(lambda: first.endpoint)
        for _ in range(10):
            await asyncio.sleep(0)

    line.run(scenario)
    assert not first.asked
    assert first.aborted == 1


def waits_of(monkeypatch: pytest.MonkeyPatch, story: Callable[[Homeward[str], int], None]) -> str:
    """What a home that never answers is waited for, in seconds; story is told of each look."""
    waits: list[float] = []

    def noted(seconds: float) -> float:
        waits.append(seconds)
        return 0.0

    monkeypatch.setattr(feeder_home, "spread_wide", noted)

    async def nobody(endpoint: str) -> str:
        story(homeward, len(waits))
        if len(waits) == 7:
            return "home"
        raise TransportError("nobody")

    homeward = Homeward(20, 300, nobody, lambda endpoint, text: None)
    assert asyncio.run(homeward.look(["first:1"])) == "home"
    return " ".join(f"{wait:g}" for wait in waits)


def test_the_waits_grow_as_long_as_home_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    assert waits_of(monkeypatch, lambda homeward, n: None) == "20 40 80 160 300 300 300"


@pytest.mark.parametrize(
    ("stay_seconds", "waits"), [(79, "20 40 80 160 300 300 300"), (80, "20 40 20 40 80 160 300")]
)
def test_only_a_stay_at_home_that_lasts_makes_them_short_again(
    stay_seconds: float, waits: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a broker that falls over as soon as it is fed would be tried for ever at short pace."""

    def story(homeward: Homeward[str], n_looks: int) -> None:
        if n_looks == 2:
            homeward.was_home(stay_seconds)

    assert waits_of(monkeypatch, story) == waits


def test_a_session_at_home_counts_as_a_stay(line: Line) -> None:
    async def breaks(message: Message) -> Reply:
        await broken.wait()
        raise TransportError("first:1 closed the connection")

    broken = asyncio.Event()
    first = ScriptedBroker(breaks)
    line.brokers["second:1"] = ScriptedBroker(accept)
    line.pace(first_home_seconds=0.01, last_home_seconds=0.04, first_retry_seconds=3600)

    async def scenario() -> None:
        await until(lambda: line.session._homeward.wait_seconds == 0.04)
        line.brokers["first:1"] = first
        await until(lambda: first.asked)
        stayed = asyncio.get_running_loop().time() + 0.05
        await until(lambda: asyncio.get_running_loop().time() > stayed)
        assert line.session._homeward.wait_seconds == 0.04
        broken.set()
        await until(lambda: first.closed)

    line.run(scenario)
    assert line.session._homeward.wait_seconds == 0.01


def test_the_nearest_to_home_is_taken() -> None:
    tried: list[str] = []

    async def log_in(endpoint: str) -> str:
        tried.append(endpoint)
        if endpoint == "first:1":
            raise TransportError("first:1: nobody")
        return endpoint

    homeward = Homeward(0.001, 1, log_in, lambda endpoint, text: None)
    assert asyncio.run(homeward.look(["first:1", "second:1"])) == "second:1"
    assert tried == ["first:1", "second:1"]


def test_a_fleet_does_not_come_home_in_step() -> None:
    """All feeders of a broker lose it at the same moment."""
    waits = [spread_wide(20) for _ in range(200)]
    assert min(waits) < 14
    assert max(waits) > 26
    assert all(10 <= seconds <= 30 for seconds in waits)
