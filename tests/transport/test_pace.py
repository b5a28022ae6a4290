"""Handshakes and the rest of the loop share its time. By CPU time: a busy machine is the same."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable

import pytest

from entropy.transport import pace as pace_module
from entropy.transport.pace import HandshakePace
from entropy.transport.stream import connect
from tests.transport.conftest import Fleet, echo, listening


def burn(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


@pytest.mark.parametrize(("step_ms", "work_ms"), [(1.0, 1.0), (2.0, 0.5), (0.3, 2.0)])
def test_steps_take_at_most_half_while_others_work(step_ms: float, work_ms: float) -> None:
    async def story() -> tuple[float, float]:
        pace = HandshakePace()
        end_seconds = time.thread_time() + 0.25
        worked_seconds = 0.0

        async def knock() -> None:
            while time.thread_time() < end_seconds:
                await pace.run(lambda: burn(step_ms / 1000))

        knocking = [asyncio.create_task(knock()) for _ in range(20)]
        while time.thread_time() < end_seconds:
            begin = time.thread_time()
            burn(work_ms / 1000)
            worked_seconds += time.thread_time() - begin
            await asyncio.sleep(0)
        await asyncio.gather(*knocking)
        return pace.spent_seconds, worked_seconds

    spent_seconds, worked_seconds = asyncio.run(story())
    assert spent_seconds > 0.01  # they are not kept out
    # The last of each, and the steps after the end, are not part of the sharing.
    assert spent_seconds <= worked_seconds + 0.03 + 20 * step_ms / 1000


class Clock:
    """CPU time in the test's hands."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def spend(self, seconds: float) -> Callable[[], None]:
        def step() -> None:
            self.seconds += seconds

        return step


def test_nobody_waits_while_there_is_nothing_else_to_do() -> None:
    async def story() -> None:
        clock = Clock()
        pace = HandshakePace(lambda: clock.seconds)
        n_turns = 0

        async def count() -> None:
            nonlocal n_turns
            while True:
                n_turns += 1
                await asyncio.sleep(0)

        counting = asyncio.create_task(count())
        await asyncio.gather(*(pace.run(clock.spend(0.001)) for _ in range(50)))
        assert n_turns <= 60  # one step in each turn, and none left out
        assert pace.spent_seconds == pytest.approx(0.05)
        counting.cancel()

    asyncio.run(story())


def test_a_long_step_is_owed_and_paid_back() -> None:
    async def story() -> None:
        clock = Clock()
        pace = HandshakePace(lambda: clock.seconds)
        done: list[int] = []

        async def knock(number: int) -> None:
            await pace.run(clock.spend(0.004))
            done.append(number)

        knocking = [asyncio.create_task(knock(number)) for number in range(4)]
        n_done = []
        for _ in range(16):
            clock.seconds += 0.001  # what the others do in each turn
            await asyncio.sleep(0)
            n_done.append(len(done))
        assert n_done[-1] == 4
        assert done == sorted(done)  # first come, first served
        # four times as long as the others' turn: one step in four turns
        first = [n_done.index(n) for n in (1, 2, 3, 4)]
        assert all(later - earlier >= 3 for earlier, later in zip(first, first[1:]))
        await asyncio.gather(*knocking)

    asyncio.run(story())


def test_what_a_step_raises_is_raised_and_who_has_left_is_passed_over() -> None:
    async def story() -> None:
        pace = HandshakePace(lambda: 0.0)  # no time goes by: nobody is served out of turn
        done: list[str] = []

        def fail() -> None:
            raise OSError("it broke")

        gone = asyncio.create_task(pace.run(lambda: done.append("gone")))
        staying = asyncio.create_task(pace.run(lambda: done.append("staying")))
        await asyncio.sleep(0)  # both stand in line
        gone.cancel()
        with pytest.raises(OSError, match="it broke"):
            await pace.run(fail)
        await staying
        with contextlib.suppress(asyncio.CancelledError):
            await gone
        assert done == ["staying"]

    asyncio.run(story())


def test_handshakes_of_a_listener_stand_in_the_line(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace_module, "_IDLE_SECONDS", 0)

    async def story() -> None:
        pace = HandshakePace()
        async with listening(fleet, echo, pace=pace) as server:
            stream = await connect(server.addresses[0], fleet.context(), 20)
            await stream.send(b"hello")
            assert await stream.receive() == b"hello"
            stream.close()
        assert pace.spent_seconds > 0

    asyncio.run(story())
