"""The client's fleet and kernel, for a machine in its first seconds; and brokers without TLS."""

from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import Any

import pytest

from entropy.errors import EntropyError
from tests.client.conftest import FakeBroker, FakeKernel, Fleet
from tests.client.conftest import dead_endpoint as dead_endpoint
from tests.client.conftest import fake_kernel as fake_kernel
from tests.client.conftest import fleet as fleet


class PlainBroker(FakeBroker):
    """A broker's port for seeds: the wire as ever, and no TLS around it."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._context = SimpleNamespace(certificate_sha256=bytes(32))  # type: ignore[assignment]

    def _serve(self, plain: socket.socket) -> None:
        try:
            self._talk(plain)  # type: ignore[arg-type]
        except (OSError, EntropyError):
            pass  # the client left, or the test is over
        finally:
            plain.close()


@pytest.fixture
def plain_broker(fleet: Fleet) -> PlainBroker:
    made = PlainBroker("broker1", fleet.folder, fleet._authority, fleet)
    fleet.brokers.append(made)
    return made


__all__ = ["FakeKernel", "Fleet", "PlainBroker"]
