"""The feeder's side of a session, against a broker that answers by a script."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entropy import feeder_session
from entropy.config import FeederConfig, SourceConfig
from entropy.errors import EntropyError, TransportError
from entropy.feeder_session import BrokerSession, CreditPace, spread
from entropy.intake import FreshBlock
from entropy.outbox import Outbox
from entropy.wire.codes import RefusedCode, RetryReason
from entropy.wire.frames import Accepted, Feed, Recall, Refused, Retry, Welcome
from tests.feeder.site import FAST, until

Message = Feed | Recall
Reply = Accepted | Retry | Refused
CONFIG = FeederConfig(
    "lab", "/none", "/none", ("first:1", "second:1"), SourceConfig("kernel:"), max_pending_blocks=64
)
WELCOME = Welcome(frozenset({"feed"}), 600, 32, 64, 4096, 10**9, 0, 1000, bytes(32))


def blocks(n_blocks: int, first: int = 0) -> list[FreshBlock]:
    return [
        FreshBlock(bytearray(hashlib.sha512(b"%d" % i).digest()), 100 * (i + 1))
        for i in range(first, first + n_blocks)
    ]


class ScriptedBroker:
    """Stands where AsyncClientConnection does. `answer` may wait, and may raise."""

    broker_id = "broker1"

    def __init__(self, answer: Callable[[Message], Awaitable[Reply]]) -> None:
        self._answer = answer
        self.asked: list[Message] = []
        self.endpoint = ""
        self.welcome = WELCOME
        self.closed = 0
        self.aborted = 0

    async def request(self, message: Message) -> Reply:
        self.asked.append(message)
        return await self._answer(message)

    def close(self) -> None:
        self.closed += 1

    def abort(self) -> None:
        self.aborted += 1

    @property
    def frames(self) -> list[Feed]:
        """The frames that carried blocks."""
        return [m for m in self.asked if isinstance(m, Feed) and m.blocks]


async def accept(message: Message) -> Reply:
    bits = message.credit_bits if isinstance(message, Feed) else 0
    return Accepted(0, bits, 10, 1000)


class Line:
    """A session with its outbox, on the way to scripted brokers or to nobody."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.said: list[str] = []
        self.dialled: list[str] = []
        self.brokers: dict[str, ScriptedBroker | EntropyError] = {}
        self.outbox = Outbox()
        self.check: Callable[[], None] = lambda: None
        self.pace()

        async def connect(config: Any, endpoint: str, timeout_seconds: float) -> Any:
            self.dialled.append(endpoint)
            await self.on_the_way()
            broker = self.brokers.get(endpoint, TransportError(f"{endpoint}: nobody"))
            if isinstance(broker, EntropyError):
                raise broker
            broker.endpoint = endpoint
            return broker

        monkeypatch.setattr(feeder_session, "connect", connect)
        monkeypatch.setattr(CreditPace, "blocks", lambda self, now_seconds: 1000)
        monkeypatch.setattr("entropy.notify.log", lambda text, priority=6: self.said.append(text))

    def pace(self, **changes: float) -> None:
        """Begin with this pace instead."""
        pace = FAST._replace(**changes)
        self.session = BrokerSession(CONFIG, self.outbox, pace, lambda: None, lambda: self.check())

    async def on_the_way(self) -> None:
        """What a login waits for."""

    def run(self, scenario: Callable[[], Awaitable[None]]) -> None:
        async def with_session() -> None:
            task = asyncio.ensure_future(self.session.run())
            try:
                await scenario()
                assert not task.done()
            finally:
                task.cancel()
                await asyncio.wait([task])

        asyncio.run(with_session())

    def add(self, n_blocks: int, first: int = 0) -> None:
        self.outbox.add(blocks(n_blocks, first))
        self.session.wake()


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch) -> Line:
    return Line(monkeypatch)


def test_frames_of_32_in_order(line: Line) -> None:
    broker = ScriptedBroker(accept)
    line.brokers["first:1"] = broker

    async def scenario() -> None:
        line.add(70)
        await until(lambda: line.outbox.accounting.accepted_bits == 512 * 70)

    line.run(scenario)
    assert [(f.sequence, len(f.blocks)) for f in broker.frames] == [(0, 32), (32, 32), (64, 6)]
    assert [f.credit_bits for f in broker.frames] == [512 * 32, 512 * 32, 512 * 6]
    assert [b for f in broker.frames for b in f.blocks] == [bytes(b.data) for b in blocks(70)]
    assert broker.closed


def test_no_more_than_there_is_room_for(line: Line) -> None:
    async def nearly_full(message: Message) -> Reply:
        return Accepted(0, 512, 997, 1000)

    broker = ScriptedBroker(nearly_full)
    broker.welcome = WELCOME._replace(fill_blocks=1000)
    line.brokers["first:1"] = broker

    async def scenario() -> None:
        line.add(10)
        await until(lambda: broker.frames)

    line.run(scenario)
    assert broker.asked[0] == Feed(0, 0, ())  # full: it asks
    assert len(broker.frames[0].blocks) == 3


def test_a_failure_while_a_frame_is_on_its_way(line: Line) -> None:
    """The recall is the next thing that the broker hears, before any newer block."""
    answered = asyncio.Event()

    async def slowly(message: Message) -> Reply:
        if isinstance(message, Feed) and message.blocks:
            await answered.wait()
        return await accept(message)

    broker = ScriptedBroker(slowly)
    line.brokers["first:1"] = broker

    async def scenario() -> None:
        line.add(10)
        await until(lambda: broker.frames)
        assert line.outbox.recall_after(550) == (5, 0)
        line.add(3, first=10)
        line.session.wake()
        answered.set()
        await until(lambda: len(broker.frames) == 2)

    line.run(scenario)
    at = broker.asked.index(Recall(5))
    assert broker.asked[at - 1] is broker.frames[0]
    assert broker.frames[1].sequence == 10
    assert line.outbox.accounting.recalled_bits == 512 * 5


def test_blocks_of_a_broken_session_are_never_sent_again(line: Line) -> None:
    async def breaks(message: Message) -> Reply:
        if isinstance(message, Feed) and message.blocks:
            raise TransportError("talking to first:1: timed out")
        return await accept(message)

    first, second = ScriptedBroker(breaks), ScriptedBroker(accept)
    line.brokers["first:1"] = first

    async def scenario() -> None:
        line.add(40)
        await until(lambda: first.frames)
        line.brokers["first:1"] = TransportError("first:1: nobody")
        line.brokers["second:1"] = second
        await until(lambda: not line.outbox.held_blocks)

    line.run(scenario)
    assert second.frames[0].sequence == 0
    sent = [block for broker in (first, second) for f in broker.frames for block in f.blocks]
    assert len(set(sent)) == len(sent) == 40
    account = line.outbox.accounting
    assert account.sent_bits == 512 * 40
    assert account.accepted_bits == 512 * sum(len(f.blocks) for f in second.frames)


def test_a_session_that_breaks_before_its_recall_is_said(line: Line) -> None:
    async def breaks(message: Message) -> Reply:
        if isinstance(message, Feed) and message.blocks:
            line.outbox.recall_after(550)
            raise TransportError("talking to first:1: timed out")
        return await accept(message)

    line.brokers["first:1"] = ScriptedBroker(breaks)

    async def scenario() -> None:
        line.add(10)
        await until(lambda: any("before it could be told to drop 5 blocks" in s for s in line.said))

    line.run(scenario)


def test_a_recall_goes_before_the_return_to_the_first_broker(line: Line) -> None:
    """In a session that is about to end because the first broker is back."""

    async def fails_late(message: Message) -> Reply:
        if isinstance(message, Feed) and message.blocks:
            line.brokers["first:1"] = first
            await until(lambda: first.endpoint)
            line.outbox.recall_after(550)
        return await accept(message)

    first, second = ScriptedBroker(accept), ScriptedBroker(fails_late)
    line.brokers["second:1"] = second
    line.pace(first_home_seconds=0.02)

    async def scenario() -> None:
        line.add(10)
        await until(lambda: first.asked)

    line.run(scenario)
    assert second.asked[-1] == Recall(5)
    assert second.closed
    assert not any("before it could be told" in text for text in line.said)


def test_a_broker_that_always_hangs_up_is_not_dialled_in_a_tight_loop(line: Line) -> None:
    async def breaks(message: Message) -> Reply:
        if len(broker.asked) > 1:
            raise TransportError("first:1 closed the connection")
        return await accept(message)

    broker = ScriptedBroker(breaks)
    line.brokers["first:1"] = broker
    line.pace(first_retry_seconds=3600)

    async def scenario() -> None:
        await until(lambda: len(broker.asked) == 1)
        line.add(1)
        await until(lambda: broker.closed)
        for _ in range(20):
            await asyncio.sleep(0)

    line.run(scenario)
    assert line.dialled == ["first:1"]


def test_not_now_is_respected_but_a_recall_does_not_wait(line: Line) -> None:
    async def rate(message: Message) -> Reply:
        if isinstance(message, Feed) and message.blocks:
            return Retry(60_000, RetryReason.RATE)
        return await accept(message)

    broker = ScriptedBroker(rate)
    line.brokers["first:1"] = broker

    async def scenario() -> None:
        line.add(10)
        await until(lambda: any(text.endswith("ask again in 60 s") for text in line.said))
        line.add(10, first=10)
        line.outbox.recall_after(0)
        line.session.wake()
        await until(lambda: Recall(0) in broker.asked)
        # It goes on keeping quiet, with blocks and a question on its mind.
        await asyncio.sleep(FAST.idle_seconds)

    line.run(scenario)
    assert broker.asked[-1] == Recall(0)
    assert len(broker.frames) == 1


@pytest.mark.parametrize("after_ms", [0, 100])
def test_a_recall_that_is_put_off_is_asked_again_and_not_at_once(line: Line, after_ms: int) -> None:
    """And nothing else is said before it, also when it is time for the first broker again."""
    asked_at: list[float] = []

    async def put_off(message: Message) -> Reply:
        if isinstance(message, Recall):
            asked_at.append(asyncio.get_running_loop().time())
            if len(asked_at) < 4:
                return Retry(after_ms, RetryReason.RATE)
        return await accept(message)

    broker = ScriptedBroker(put_off)
    line.brokers["second:1"] = broker
    line.pace(first_home_seconds=0.05, least_retry_seconds=0.1)

    async def scenario() -> None:
        line.add(10)
        await until(lambda: len(broker.frames) == 1)
        line.outbox.recall_after(550)
        line.brokers["first:1"] = ScriptedBroker(accept)
        line.add(10, first=10)
        await until(lambda: broker.closed)

    line.run(scenario)
    assert broker.asked[-4:] == [Recall(5)] * 4
    assert all(later - earlier >= 0.1 for earlier, later in zip(asked_at, asked_at[1:]))


def test_a_refusal_leads_to_the_next_broker(line: Line) -> None:
    async def refuse(message: Message) -> Reply:
        return Refused(RefusedCode.SHUTDOWN)

    first, second = ScriptedBroker(refuse), ScriptedBroker(accept)
    line.brokers = {"first:1": first, "second:1": second}

    async def scenario() -> None:
        await until(lambda: second.asked)

    line.run(scenario)
    assert line.dialled[:2] == ["first:1", "second:1"]
    assert "broker1: the broker is shutting down" in line.said


def test_the_waits_grow_when_nobody_answers(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    def noted(seconds: float) -> float:
        waits.append(seconds)
        return 0.0

    monkeypatch.setattr(feeder_session, "spread", noted)

    async def scenario() -> None:
        await until(lambda: len(waits) >= 4)

    line.run(scenario)
    assert waits[:4] == [0.02, 0.04, 0.05, 0.05]
    assert line.said.count("first:1: nobody") == 1
    assert line.dialled[:4] == ["first:1", "second:1", "first:1", "second:1"]


def test_waits_are_spread() -> None:
    spreads = {spread(10) for _ in range(50)}
    assert len(spreads) > 1
    assert all(8 <= seconds <= 12 for seconds in spreads)


@given(
    st.integers(1, 10**7),
    st.lists(st.tuples(st.floats(0, 5), st.integers(0, 32)), max_size=50),
)
def test_never_above_the_cap(rate: int, steps: list[tuple[float, int]]) -> None:
    """Over any time, no more than the rate times it, and one burst."""
    pace, now, pushed_bits = CreditPace(rate, 0.0), 0.0, 0
    for seconds, wanted_blocks in steps:
        now += seconds
        n_blocks = min(wanted_blocks, pace.blocks(now))
        pace.pushed(n_blocks)
        pushed_bits += 512 * n_blocks
        assert pushed_bits <= rate * now
        if pace.blocks(now) == 0:
            later = now + pace.next_seconds() * (1 + 1e-9) + 1e-6
            assert CreditPace.blocks(pace, later) >= 1
            now = later


def test_a_cap_of_nothing() -> None:
    pace = CreditPace(0, 0.0)
    assert pace.blocks(1e6) == 0
    assert pace.next_seconds() == float("inf")
