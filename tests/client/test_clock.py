"""A broker's certificate and a machine's clock that do not agree."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from entropy import kernel
from entropy.client_state import ClientState
from entropy.dial import dial
from entropy.errors import AuthenticationError, CertificateDateError

if TYPE_CHECKING:
    from tests.client.conftest import Fleet

TIMEOUT_SECONDS = 20


def connect(fleet: Fleet, endpoint: str) -> str:
    config = fleet.config(endpoint)
    with dial(config, ClientState(config.state_dir), endpoint, TIMEOUT_SECONDS) as connection:
        return connection.broker_id


def test_dates_count_when_something_keeps_the_clock_right(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel, "clock_is_synchronised", lambda: True)
    broker = fleet.broker(days=0)
    with pytest.raises(CertificateDateError, match="expired"):
        connect(fleet, broker.endpoint)
    assert broker.auths == []


def test_a_wrong_clock_stops_nobody(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "clock_is_synchronised", lambda: False)
    assert connect(fleet, fleet.broker(days=0).endpoint) == "broker1"


def test_the_clock_is_asked_for_only_when_dates_are_wrong(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nobody_asks() -> bool:
        raise AssertionError

    monkeypatch.setattr(kernel, "clock_is_synchronised", nobody_asks)
    assert connect(fleet, fleet.broker().endpoint) == "broker1"


def test_nothing_else_is_let_through(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is wrong with a certificate besides its dates is wrong by every clock."""
    monkeypatch.setattr(kernel, "clock_is_synchronised", lambda: False)
    broker = fleet.broker(days=0)
    fleet.forget_authority()
    with pytest.raises(AuthenticationError, match="certificate was not accepted"):
        connect(fleet, broker.endpoint)
    assert broker.auths == []
