"""Each drill once: nobody's draw fails, no bit is counted twice, nobody waits for long."""

from __future__ import annotations

import pytest

from tests.failover import drills
from tests.failover.scene import Scene

pytestmark = pytest.mark.fleet

MOST_GAP_SECONDS = 5.0  # on a machine that others use too; docs/failover.md has what is usual
# Brokers that begin with nothing serve when the feeders are back, which try again with pauses.
MOST_EMPTY_SECONDS = {"restart_both": 10.0}


@pytest.mark.parametrize("name", drills.ALL)
def test_drill(scene: Scene, name: str) -> None:
    drill, goal_seconds = drills.ALL[name]
    drilled = drill(scene)
    figures = "".join(f"; {what} {value:.2f} s" for what, value in drilled.figures.items())
    print(
        f"{drilled.name}: gap {drilled.gap.seconds:.2f} s (goal {goal_seconds or 'none'}),"
        f" nobody answered for {drilled.silence_seconds:.2f} s{figures}"
    )
    print("\n".join(drilled.story))
    assert not drilled.problems, "\n".join(drilled.problems)
    assert drilled.gap.seconds < MOST_EMPTY_SECONDS.get(name, MOST_GAP_SECONDS)
