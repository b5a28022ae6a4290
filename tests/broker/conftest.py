"""Fixtures of the broker's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from entropy.authority import Issued, new_authority
from entropy.broker import peer
from tests.broker.fleet import Fleet


@pytest.fixture(scope="session")
def authority() -> Issued:
    return new_authority("lab")


@pytest.fixture
def fleet(tmp_path: Path, authority: Issued) -> Fleet:
    return Fleet(tmp_path, authority)


@pytest.fixture
def fast_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Peers that pause for milliseconds where real ones pause for seconds."""
    monkeypatch.setattr(peer, "LEAST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(peer, "LONGEST_PAUSE_SECONDS", 0.05)
