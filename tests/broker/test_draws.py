"""Whose draw is next: tables, and properties over random histories."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entropy.broker.draws import FairQueue, WaitingDraw


class Id:
    def __init__(self, name: str) -> None:
        self.name = name
        self.finish_tag = 0

    def __repr__(self) -> str:
        return self.name


def names(queue: FairQueue, n: int, n_bytes: int = 64) -> str:
    """Serve n draws with n_bytes each; the letters of their ids."""
    served = []
    for _ in range(n):
        draw = queue.pop()
        queue.served(draw, n_bytes)
        assert isinstance(draw.owner, Id)
        served.append(draw.owner.name)
    return "".join(served)


@pytest.mark.parametrize(
    ("asked", "order"),
    [
        # capitals draw seeds, the others topups
        ("abc", "abc"),
        ("abA", "Aab"),
        ("aBCb", "BCab"),
        ("ABCDEFGHIabc", "ABCDEFGaHIbc"),
        ("aABCDEFG", "ABCDEFGa"),
        ("abcABCDEFGHIJKLMNOP", "ABCDEFGaHIJKLMNbOPc"),
    ],
)
def test_seeds_first_and_every_eighth_grant_a_topup(asked: str, order: str) -> None:
    queue = FairQueue()
    for name in asked:
        queue.push(WaitingDraw(Id(name), 64, seed=name.isupper()))
    assert names(queue, len(asked)) == order
    assert len(queue) == 0


def test_who_got_much_waits_for_those_who_got_little() -> None:
    queue = FairQueue()
    greedy, modest = Id("g"), Id("m")
    for owner, n_bytes in ((greedy, 4096), (modest, 32)):
        queue.push(WaitingDraw(owner, n_bytes, seed=False))
        queue.served(queue.pop(), n_bytes)
    for owner in (greedy, modest):
        queue.push(WaitingDraw(owner, 64, seed=False))
    assert names(queue, 2) == "mg"


def test_nobody_saves_up_by_staying_away() -> None:
    queue = FairQueue()
    busy, away = Id("b"), Id("a")
    for _ in range(100):
        queue.push(WaitingDraw(busy, 64, seed=False))
        names(queue, 1)
    served = ""
    for _ in range(6):  # both draw again and again from now on
        for owner in (busy, away):
            if not any(entry[2].owner is owner and not entry[2].gone for entry in queue._topups):
                queue.push(WaitingDraw(owner, 64, seed=False))
        served += names(queue, 1)
    assert served.count("a") == 3 or served.count("b") == 3


def test_a_draw_that_left_is_not_served() -> None:
    queue = FairQueue()
    draws = [WaitingDraw(Id(name), 64, seed=name == "b") for name in "abc"]
    for draw in draws:
        queue.push(draw)
    queue.discard(draws[0])
    queue.discard(draws[0])
    queue.discard(draws[1])
    assert len(queue) == 1
    assert names(queue, 1) == "c"
    queue.discard(draws[2])  # served already
    assert len(queue) == 0
    with pytest.raises(IndexError):
        queue.pop()


def test_draws_that_leave_do_not_pile_up() -> None:
    queue = FairQueue()
    owner, stays = Id("a"), WaitingDraw(Id("s"), 64, seed=False)
    queue.push(stays)
    for _ in range(10_000):
        draw = WaitingDraw(owner, 64, seed=False)
        queue.push(draw)
        queue.discard(draw)
    assert len(queue._topups) < 32
    assert queue.pop() is stays


@given(
    weights=st.lists(st.integers(1, 64), min_size=2, max_size=6),
    rounds=st.integers(50, 120),
)
def test_backlogged_ids_get_equal_bytes(weights: list[int], rounds: int) -> None:
    """However much each asks for at once, no two differ by more than two of the largest draws."""
    queue = FairQueue()
    owners = [Id(str(i)) for i in range(len(weights))]
    got_bytes = dict.fromkeys(owners, 0)
    n_bytes = {owner: 64 * weight for owner, weight in zip(owners, weights, strict=True)}
    for owner in owners:
        queue.push(WaitingDraw(owner, n_bytes[owner], seed=False))
    for _ in range(rounds * len(owners)):
        draw = queue.pop()
        assert isinstance(draw.owner, Id)
        queue.served(draw, draw.n_bytes)
        got_bytes[draw.owner] += draw.n_bytes
        queue.push(WaitingDraw(draw.owner, draw.n_bytes, seed=False))
    assert max(got_bytes.values()) - min(got_bytes.values()) <= 2 * 64 * max(weights)


@given(
    st.lists(
        st.tuples(st.sampled_from(["push", "pop", "discard"]), st.integers(0, 9), st.booleans()),
        max_size=200,
    )
)
def test_every_draw_leaves_once(steps: list[tuple[str, int, bool]]) -> None:
    queue = FairQueue()
    owners = [Id(str(i)) for i in range(10)]
    waiting: dict[int, WaitingDraw] = {}
    for what, i, seed in steps:
        if what == "push" and i not in waiting:
            waiting[i] = WaitingDraw(owners[i], 64, seed=seed)
            queue.push(waiting[i])
        elif what == "discard" and i in waiting:
            queue.discard(waiting.pop(i))
        elif what == "pop" and waiting:
            draw = queue.pop()
            queue.served(draw, 64)
            del waiting[owners.index(draw.owner)]  # type: ignore[arg-type]
        assert len(queue) == len(waiting)
    assert {id(queue.pop()) for _ in range(len(queue))} == {id(draw) for draw in waiting.values()}
