"""`entropy draw`: many draws, several brokers, waiting where a broker says so."""

from __future__ import annotations

import io
import time
from typing import TYPE_CHECKING

import pytest

from entropy import draw
from entropy.errors import Refused, TransportError
from entropy.wire import frames
from entropy.wire.codes import DrawKind, RefusedCode, RetryReason
from entropy.wire.frames import Block, Draw, Retry

if TYPE_CHECKING:
    from tests.client.conftest import Answer, Fleet


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were made; they pass at once."""
    made: list[float] = []
    past = [0.0]
    now = time.monotonic

    def sleep(seconds: float) -> None:
        made.append(seconds)
        past[0] += seconds

    monkeypatch.setattr("entropy.draw.time.sleep", sleep)
    monkeypatch.setattr("entropy.draw.time.monotonic", lambda: now() + past[0])
    return made


def counted(first_byte: int = 0) -> object:
    """Answers every draw in full with the next bytes of one sequence."""
    given = [first_byte]

    def answer(asked: Draw) -> Answer:
        data = bytes((given[0] + i) % 256 for i in range(asked.n_bytes))
        given[0] += asked.n_bytes
        return Block(1, min(8 * asked.n_bytes, 448), (), data)

    return answer


def test_many_bytes_come_in_draws_of_4096(fleet: Fleet, capsys: pytest.CaptureFixture[str]) -> None:
    broker = fleet.broker()
    broker.answer = counted()  # type: ignore[assignment]
    output = io.BytesIO()
    assert draw.run(fleet.config(), 10_000, output) == 0
    assert output.getvalue() == bytes(i % 256 for i in range(10_000))
    assert [(d.kind, d.n_bytes) for d in broker.draws] == [
        (DrawKind.TOPUP, 4096),
        (DrawKind.TOPUP, 4096),
        (DrawKind.TOPUP, 1808),
    ]
    assert len(broker.auths) == 1, "one session does for all"
    assert capsys.readouterr().err == "10000 bytes worth 1344 bits from broker1\n"


def test_a_small_burst_makes_small_draws(fleet: Fleet) -> None:
    broker = fleet.broker()
    broker.welcome = broker.welcome._replace(burst_bytes=100)
    draw.run(fleet.config(), 250, io.BytesIO())
    assert [d.n_bytes for d in broker.draws] == [100, 100, 50]


def test_short_answers_are_asked_on(fleet: Fleet) -> None:
    broker = fleet.broker()
    broker.answer = lambda asked: Block(1, 8, (), bytes(min(asked.n_bytes, 64)))
    output = io.BytesIO()
    draw.run(fleet.config(), 150, output)
    assert len(output.getvalue()) == 150
    assert [d.n_bytes for d in broker.draws] == [150, 86, 22]


def test_the_other_broker_first_then_the_wait(fleet: Fleet, naps: list[float]) -> None:
    """Each of two gives 64 bytes a go and says "later" then; both are worn out in turn."""
    answers: dict[str, list[Answer]] = {}
    block: Answer = Block(1, 448, (), bytes(64))
    for after_ms in (7000, 3000):
        broker = fleet.broker()
        answers[broker.broker_id] = [block, Retry(after_ms, RetryReason.RATE), block, block]
        broker.answer = lambda _, mine=answers[broker.broker_id]: mine.pop(0)  # type: ignore[misc]
    output = io.BytesIO()
    draw.run(fleet.config(), 4 * 64, output)
    assert len(output.getvalue()) == 4 * 64
    assert len(naps) == 1
    assert 2 < naps[0] <= 3, "the sooner of the two"


def test_a_broker_that_dies_on_the_way(fleet: Fleet, dead_endpoint: str) -> None:
    dying, good = fleet.broker(), fleet.broker()
    answers: list[Answer] = [Block(1, 8, (), b"x" * 64), "close"]
    dying.answer = lambda _: answers.pop(0)
    output = io.BytesIO()
    draw.run(fleet.config(dead_endpoint, dying.endpoint, good.endpoint), 200, output)
    assert output.getvalue().startswith(b"x" * 64)
    assert len(output.getvalue()) == 200
    assert [d.n_bytes for d in good.draws] == [136], "what was delivered is not asked for again"


def test_nobody_there_ends_it(fleet: Fleet, naps: list[float], dead_endpoint: str) -> None:
    with pytest.raises(TransportError, match="refused"):
        draw.run(fleet.config(dead_endpoint), 10, io.BytesIO())
    assert 25 < sum(naps) < 40


def test_refused_by_all_ends_it_at_once(fleet: Fleet, naps: list[float]) -> None:
    for _ in range(2):
        fleet.broker().answer = lambda _: frames.Refused(RefusedCode.PERMISSION)
    with pytest.raises(Refused, match="no permission"):
        draw.run(fleet.config(), 10, io.BytesIO())
    assert naps == []


@pytest.mark.parametrize("code", [RefusedCode.SHUTDOWN, RefusedCode.LIMIT])
def test_a_broker_that_stops_or_is_full_is_asked_again(
    fleet: Fleet, naps: list[float], code: RefusedCode
) -> None:
    answers: list[Answer] = [frames.Refused(code)] * 3
    fleet.broker().answer = lambda asked: (
        answers.pop() if answers else Block(1, 80, (), bytes(asked.n_bytes))
    )
    output = io.BytesIO()
    draw.run(fleet.config(), 10, output)
    assert len(output.getvalue()) == 10
    # The first try comes soon, and each pause is up to twice as long as the one before.
    assert len(naps) == 3
    assert naps[0] <= 0.1
    assert sum(naps) <= 0.7


def test_empty_brokers_are_waited_for(fleet: Fleet, naps: list[float]) -> None:
    answers: list[Answer] = [Retry(60_000, RetryReason.EMPTY)] * 5
    fleet.broker().answer = lambda asked: (
        answers.pop() if answers else Block(1, 80, (), bytes(asked.n_bytes))
    )
    output = io.BytesIO()
    draw.run(fleet.config(), 10, output)
    assert len(output.getvalue()) == 10
    assert sum(naps) > 250
