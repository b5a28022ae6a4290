"""One fleet and one load for all drills."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.failover.scene import Scene
from tests.fleet.conftest import Fleet


@pytest.fixture(scope="session")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    scene = Scene(Fleet(), tmp_path_factory.mktemp("failover"))
    try:
        scene.load.start()
        yield scene
    finally:
        scene.load.stop()
