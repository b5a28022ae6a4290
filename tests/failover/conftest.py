"""One fleet and one load for all drills."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.failover.reach import Reach
from tests.failover.scene import Scene


@pytest.fixture(scope="session")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("failover")
    fleet = Reach(folder)
    scene = Scene(fleet, folder)
    try:
        scene.load.start()
        yield scene
    finally:
        scene.load.stop()
        fleet.close()
