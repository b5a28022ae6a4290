"""The measuring itself: what the gap is, and what the books do not let pass."""

from __future__ import annotations

from typing import Any

import pytest

from tests.failover.books import (
    Snapshot,
    dead_epoch_problems,
    delivery_problems,
    fleet_problems,
    own_problems,
)
from tests.failover.holders import last_moment_of_two
from tests.failover.records import (
    Answer,
    Gap,
    Record,
    failures,
    longest_gap,
    longest_silence_seconds,
    repetitions,
)
from tests.failover.scene import Drilled
from tests.failover.table import BEGIN, END, HEAD, row, with_rows


def drawn(
    client: str, end: float, *, serial: int = 1, epoch: str = "e1", bits: int = 448
) -> Record:
    answer = Answer("broker1", epoch, serial, bits, ("rng1",), 64)
    return Record(client, end - 0.01, end, f"{client} {end}", None, (answer,), ())


def test_the_gap_is_the_longest_time_that_one_client_went_without() -> None:
    records = [drawn("a", at) for at in (1.0, 1.2, 3.0, 3.2)]
    records += [drawn("b", at) for at in (1.1, 1.3, 2.0, 3.1)]
    gap = longest_gap(records, 1.25, 3.0)
    assert (gap.client, gap.began, round(gap.seconds, 6)) == ("a", 1.2, 1.6)
    assert round(longest_silence_seconds(records, 1.25, 3.0), 6) == 1.0
    # What was before the drill and after it is not the drill's.
    assert longest_gap(records, 3.05, 3.1).seconds < 1


def test_a_client_that_is_never_answered_again_is_no_small_gap() -> None:
    with pytest.raises(ValueError, match="no client"):
        longest_gap([drawn("a", 1.0)], 1.5, 2.0)


def test_a_draw_that_failed_came_short_or_came_twice() -> None:
    good = drawn("a", 1.0)
    assert failures([good]) == repetitions([good, drawn("b", 1.0, serial=2)]) == []
    assert failures([good._replace(error="no broker", answers=())]) == [
        "a gave up a draw: no broker ()"
    ]
    short = good._replace(answers=(good.answers[0]._replace(n_bytes=63),))
    assert failures([short]) == ["a got 63 bytes instead of 64"]
    twin = drawn("b", 1.0, serial=2)._replace(sha256=good.sha256)
    assert repetitions([good, twin]) == ["the same bytes were given 2 times: a, b"]
    assert repetitions([good, drawn("b", 2.0)]) == ["broker1 gave reply 1 of epoch e1 2 times"]


def books(epoch: str = "e1", **bits: int) -> dict[str, Any]:
    names = ("fed", "imported", "held", "delivered", "exported", "spent", "lost")
    accounting = {f"{name}_bits": bits.get(name, 0) for name in names}
    clients = [{"id": "a", "delivered_bits": bits.get("delivered", 0)}]
    clone = {"resets": bits.get("resets", 0)}
    return {"epoch": epoch, "accounting": accounting, "clients": clients, "clone": clone}


def snapshot(broker: dict[str, Any], *, born: int = 0, held: int = 0) -> Snapshot:
    of = {"born_bits": born, "held_bits": held, "sent_bits": born - held, "destroyed_bits": 0}
    return Snapshot({"broker1": broker}, {"rng1": {"accounting": of}})


EMPTY = snapshot(books(fed=512, held=512), born=512)
# One more block was fed; one was drawn.
DRAWN = snapshot(books(fed=1024, held=512, delivered=448, spent=64), born=1024)


def test_books_that_add_up() -> None:
    records = [drawn("a", 1.0)]
    assert own_problems(EMPTY) == own_problems(DRAWN) == []
    assert delivery_problems(EMPTY, DRAWN, records, 0) == []
    assert fleet_problems(EMPTY, DRAWN, records) == []


def test_credit_from_nowhere_is_seen() -> None:
    assert own_problems(snapshot(books(fed=512, held=513), born=512))
    assert own_problems(
        Snapshot(
            {},
            {
                "rng1": {
                    "accounting": {
                        **dict.fromkeys(("held_bits", "sent_bits", "destroyed_bits"), 1),
                        "born_bits": 2,
                    }
                }
            },
        )
    )
    twice = [drawn("a", 1.0), drawn("a", 1.2, serial=2)]
    assert delivery_problems(EMPTY, DRAWN, twice, 0)
    assert fleet_problems(EMPTY, DRAWN, twice)


def test_a_reply_that_was_lost_on_its_way_is_allowed_where_connections_are_cut() -> None:
    elsewhere = drawn("a", 1.0).answers[0]._replace(broker="broker2")
    silent = [drawn("a", 1.0)._replace(answers=(elsewhere,))]
    assert delivery_problems(EMPTY, DRAWN, silent, 0)
    assert delivery_problems(EMPTY, DRAWN, silent, 1) == []


def test_a_broker_that_died_cannot_have_given_more_than_came_to_it() -> None:
    after = snapshot(books("e2", fed=512, held=512), born=1024)
    one = [drawn("a", 1.0)]
    assert dead_epoch_problems(EMPTY, after, one) == []
    assert fleet_problems(EMPTY, after, one) == []
    three = [drawn("a", n / 10, serial=n) for n in (1, 2, 3)]
    assert dead_epoch_problems(EMPTY, after, three)
    assert fleet_problems(EMPTY, after, three)


def test_a_broker_that_began_anew_goes_on_counting() -> None:
    # It held a block more, which it destroyed.
    anew = books("e2", fed=1536, held=512, delivered=448, spent=64, lost=512, resets=1)
    after = snapshot(anew, born=1536)
    one = [drawn("a", 1.0, epoch="e1")]
    assert own_problems(after) == delivery_problems(EMPTY, after, one, 0) == []
    assert fleet_problems(EMPTY, after, one) == []
    assert delivery_problems(EMPTY, after, [*one, drawn("a", 1.2, epoch="e2")], 0)


def test_the_last_moment_of_a_split_brain() -> None:
    one = [(0.0, True), (5.0, False)]
    assert last_moment_of_two([one, [(0.0, False), (5.1, True)]]) is None
    assert last_moment_of_two([one, [(0.0, False), (4.0, True)]]) == 5.0
    assert last_moment_of_two([[(0.0, True)], [(1.0, True)]], end=9.0) == 9.0


def test_a_row_of_the_table_replaces_that_drill_alone() -> None:
    def run(name: str, *gaps: float) -> str:
        drilled = [Drilled(name, Gap(gap, "a", 0), gap / 2, {"two": gap}, [], []) for gap in gaps]
        return row(drilled, 1.0, "0.5 to 0.6")

    page = f"before\n{BEGIN}\n" + "\n".join([*HEAD, END]) + "\nafter\n"
    page = with_rows(page, [run("kill", 0.5, 0.1, 0.3), run("pause", 1.0)])
    assert "| kill | **0.30** (0.10 0.30 0.50) | 1 | 0.15 | two 0.30 | 0.5 to 0.6 |" in page
    again = with_rows(page, [run("kill", 0.2)])
    assert "0.30" not in again
    assert "| pause |" in again
    assert again.count("|---") == page.count("|---")
    assert again.startswith("before\n")
    assert again.endswith(f"{END}\nafter\n")
