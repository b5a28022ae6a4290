"""Where a gateway listens, and what it says of a place that is not to be had."""

from __future__ import annotations

from pathlib import Path

import pytest

from entropy.errors import TransportError
from entropy.gateways.sockets import listening


@pytest.mark.parametrize("place", ["an address of nobody", "a folder that is missing"])
def test_a_place_that_may_still_come_is_tried_again(place: str, tmp_path: Path) -> None:
    """The bridge of a host's guests may be up only after everything else is."""
    endpoint = "192.0.2.1:25240"  # of TEST-NET-1: no machine has it
    if place != "an address of nobody":
        endpoint = f"unix:{tmp_path}/missing/socket"
    with pytest.raises(TransportError, match=f"egd.listen: {endpoint}: ") as error:
        listening(endpoint)
    assert error.value.exit_status != 2  # the unit is not started again after that
