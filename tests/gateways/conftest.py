from __future__ import annotations

from pathlib import Path

import pytest

from entropy.authority import Issued, new_authority
from tests.gateways.site import Site


@pytest.fixture(scope="session")
def authority() -> Issued:
    return new_authority("lab")


@pytest.fixture
def site(tmp_path: Path, authority: Issued) -> Site:
    return Site(tmp_path, authority)
