"""A feeder whose machine was copied: nothing that the copy has too is ever sent.

The platform's sign is emulated by a file, or by a check that acts as if there were one.
"""

from __future__ import annotations

import asyncio
import time

import pytest

from entropy import clone_guard
from entropy.config import CloneConfig, FeederConfig
from entropy.errors import SourceGone
from entropy.feeder import Feeder
from entropy.feeder_status import metrics, status
from entropy.wire.codes import RetryReason
from entropy.wire.frames import Feed, Recall, Retry
from tests.feeder.site import (
    GLITCH,
    START,
    WINDOW,
    Received,
    Site,
    Stream,
    Strings,
    blocks_of,
    noise,
    running,
    until,
)
from tests.feeder.test_session import Line, Message, Reply, ScriptedBroker, accept

REASON = "the VM generation changed"


class Machine:
    """What tells this machine from its clones."""

    def __init__(self, site: Site) -> None:
        self._sign = site.folder / "generation"
        self.copied()

    def copied(self) -> None:
        self._sign.write_text(f"{time.monotonic_ns()}")

    def config(self, config: FeederConfig) -> FeederConfig:
        return config.__class__(**{**vars(config), "clone": CloneConfig(str(self._sign))})


@pytest.fixture
def machine(site: Site) -> Machine:
    return Machine(site)


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr("entropy.notify.log", lambda text, priority=6: lines.append(text))
    return lines


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch) -> Line:
    return Line(monkeypatch)


def balanced(feeder: Feeder) -> bool:
    a = feeder.outbox.accounting
    return a.born_bits == a.held_bits + a.sent_bits + a.destroyed_bits


def test_what_waits_for_room_is_destroyed_before_there_is_room(
    site: Site, machine: Machine, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Polls are far apart here: the look before each word to the broker finds the sign."""
    monkeypatch.setattr(clone_guard, "LOOK_SECONDS", 0)
    monkeypatch.setattr(clone_guard, "POLL_SECONDS", 3600)

    async def scenario() -> None:
        async with site.broker(capacity_blocks=8) as broker:
            received = Received(broker)
            source = Stream()
            config = machine.config(site.config(broker, max_pending_blocks=4))
            async with running(config, source) as feeder:
                await until(lambda: feeder.state == "paused" and len(received.blocks) == 8)
                held_bits = feeder.outbox.accounting.held_bits
                assert held_bits >= 4 * 512
                machine.copied()
                assert broker.service.reservoir.take(512, client_id="vm1", session=b"s")
                await until(lambda: len(received.blocks) == 16)
                assert received.blocks[:8] == source.blocks_since_opened(1)[:8]
                assert received.blocks[8:] == source.blocks_since_opened(2)[:8]
                assert len(source.opened_at) == 2
                assert feeder.outbox.accounting.destroyed_bits == held_bits
                assert feeder.outbox.accounting.recalled_bits == 0
                assert balanced(feeder)
                assert status(feeder)["clone"] == {
                    "sign": "generation file",
                    "last_reason": REASON,
                    "resets": 1,
                }
                values = {metric.name: metric.samples[0][1] for metric in metrics(feeder)}
                assert values["entropy_feeder_clone_resets_total"] == 1
                assert values["entropy_feeder_clone_blind"] == 0
                [(_, alarm)] = feeder.alarms
                assert alarm == (
                    f"{REASON}: this machine was cloned, restored or suspended:"
                    f" {held_bits // 512} blocks and all samples are destroyed, the session with"
                    " broker1 is cut"
                )
                assert said.count(f"ALARM: {alarm}") == 1
                assert not feeder.n_failures

    asyncio.run(scenario())
    assert said[1] == "sign of clones: generation file"
    assert len([text for text in said if text.startswith("connected to broker1")]) == 2


def test_it_is_seen_by_itself_and_samples_die_too(
    site: Site, machine: Machine, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With no broker to say a word to. Neither windows nor half a block are used any more."""
    monkeypatch.setattr(clone_guard, "LOOK_SECONDS", 3600)
    monkeypatch.setattr(clone_guard, "POLL_SECONDS", 0.01)

    async def scenario() -> None:
        source = Strings()
        source.give(START, noise(WINDOW) + noise(100, "of an open window"))
        async with running(machine.config(site.config("127.0.0.1:1")), source) as feeder:
            await until(lambda: feeder.outbox.held_blocks == 3)  # and 80 samples of a fourth
            machine.copied()
            await until(lambda: feeder.clones.resets)
            assert feeder.outbox.held_blocks == 0
            assert feeder.outbox.accounting.destroyed_bits == 3 * 512
            assert feeder._intake._conditioner.held_bytes == 0
            assert not feeder._intake.started
            assert feeder.state == "in its start-up test"
            assert balanced(feeder)
            # What the reader held or was about to hand on goes the same way.
            source.give(noise(4 * WINDOW, "read before the sign was seen"))
            source.give(SourceGone("strings: unplugged"))
            await until(lambda: source.n_opened >= 2)
            source.give(START, noise(2 * WINDOW, "after"))
            await until(lambda: feeder.outbox.held_blocks == 7)
            held = [bytes(block.data) for block in feeder.outbox._held]
            assert held == blocks_of(noise(2 * WINDOW, "after"))

    asyncio.run(scenario())


def test_a_source_that_is_retired_stays_so(site: Site, machine: Machine, said: list[str]) -> None:
    async def scenario() -> None:
        source = Strings()
        source.give(START, noise(WINDOW), noise(100) + bytes(WINDOW - 100))
        async with running(machine.config(site.config("127.0.0.1:1")), source) as feeder:
            await until(lambda: feeder.retired)
            state = feeder.state
            machine.copied()
            feeder.clones.look()
            assert (feeder.retired, feeder.state) == (True, state)

    asyncio.run(scenario())


def test_a_failure_of_before_is_told_to_nobody(
    site: Site, machine: Machine, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copy's broker would drop what the original has sent since; so it is only said here."""
    monkeypatch.setattr(clone_guard, "LOOK_SECONDS", 0)

    async def scenario() -> None:
        async with site.broker() as broker:
            source = Strings()
            source.give(START, noise(8 * WINDOW))
            async with running(machine.config(site.config(broker)), source) as feeder:
                await until(lambda: feeder.outbox.accounting.accepted_bits == 28 * 512)
                machine.copied()  # seen before the recall leaves, or at the latest with it
                source.give(GLITCH)
                await until(lambda: feeder.clones.resets)
                await until(lambda: feeder.session.broker_id)
                assert feeder.outbox.recall is None
                assert feeder.outbox.accounting.recalled_bits == 0
                assert balanced(feeder)
            assert broker.status()["feeders"][0]["recalled_bits"] == 0

    asyncio.run(scenario())


# The session, against a broker that answers by a script


def test_an_answer_of_before_is_not_waited_for(line: Line) -> None:
    """And the session ends without a word: no goodbye, no recall, nothing again."""

    async def never(message: Message) -> Reply:
        if isinstance(message, Feed) and message.blocks:
            await asyncio.Event().wait()
        return await accept(message)

    before, after = ScriptedBroker(never), ScriptedBroker(accept)
    line.brokers["first:1"] = before

    async def scenario() -> None:
        line.add(10)
        await until(lambda: before.frames)
        line.outbox.recall_after(0)
        line.brokers["first:1"] = after
        n_asked = len(before.asked)
        line.outbox.destroy()
        line.session.drop()
        assert before.aborted == 1
        assert line.session.broker_id is None
        assert line.outbox.recall is None
        await until(lambda: after.asked)
        assert len(before.asked) == n_asked
        line.add(3, first=10)
        await until(lambda: after.frames)

    line.run(scenario)
    assert [frame.sequence for frame in after.frames] == [0]
    assert not any(isinstance(message, Recall) for message in after.asked + before.asked)
    assert any("before it could be told to drop 10 blocks" in text for text in line.said)


def test_a_login_of_before_is_not_gone_on_with(line: Line) -> None:
    arrived = asyncio.Event()
    broker = ScriptedBroker(accept)
    line.brokers["first:1"] = broker
    # One scenario's own method: mypy knows only those of the class.
    line.on_the_way = arrived.wait  # type: ignore[method-assign, assignment]

    async def scenario() -> None:
        await until(lambda: len(line.dialled) == 1)
        line.session.drop()
        await until(lambda: len(line.dialled) == 2)
        assert not broker.asked
        arrived.set()
        await until(lambda: broker.asked)

    line.run(scenario)
    assert len([text for text in line.said if text.startswith("connected")]) == 1


def test_a_sign_that_comes_with_a_block_comes_first(line: Line) -> None:
    before, after = ScriptedBroker(accept), ScriptedBroker(accept)
    line.brokers["first:1"] = before
    signs: list[str] = []

    def check() -> None:
        if signs:
            signs.clear()
            line.outbox.destroy()
            line.brokers["first:1"] = after
            line.session.drop()

    line.check = check

    async def scenario() -> None:
        await until(lambda: before.asked)
        signs.append(REASON)
        line.add(10)
        await until(lambda: after.asked)

    line.run(scenario)
    assert before.aborted == 1
    assert before.frames + after.frames == []


@pytest.mark.parametrize("by_its_own_look", [False, True])
def test_a_way_home_that_was_found_before_is_not_taken(line: Line, by_its_own_look: bool) -> None:
    async def puts_off(message: Message) -> Reply:
        if isinstance(message, Feed):
            return await accept(message)
        return Retry(3_600_000, RetryReason.RATE)

    home, away, after = ScriptedBroker(accept), ScriptedBroker(puts_off), ScriptedBroker(accept)
    line.brokers["second:1"] = away
    line.pace(first_home_seconds=0.01)
    signs: list[str] = []

    def check() -> None:
        if signs:
            signs.clear()
            line.session.drop()

    line.check = check

    async def scenario() -> None:
        line.add(10)
        await until(lambda: away.frames)
        line.outbox.recall_after(0)  # what keeps it here for a while
        line.brokers["first:1"] = home
        await until(lambda: home.endpoint)
        line.brokers["first:1"] = after
        if by_its_own_look:
            signs.append(REASON)
            line.session.wake()
        else:
            line.session.drop()
        await until(lambda: after.asked)

    line.run(scenario)
    assert (away.aborted, home.aborted) == (1, 1)
    assert not home.asked


def test_this_machine_does_not_cry_wolf(site: Site, said: list[str]) -> None:
    async def scenario() -> None:
        async with running(site.config("127.0.0.1:1"), Strings()) as feeder:
            for _ in range(3):
                feeder.clones.look()
            assert feeder.clones.resets == 0
            assert not feeder.alarms

    asyncio.run(scenario())
