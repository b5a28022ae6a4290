"""A site on loopback for the feeder's tests: real brokers over real TLS, a source on strings."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import json
import queue
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from entropy.authority import Issued, issue_broker
from entropy.broker.server import Broker
from entropy.conditioner import raw_bytes_per_block
from entropy.config import (
    AdminConfig,
    BrokerConfig,
    FeederConfig,
    LimitsConfig,
    ReservoirConfig,
    SourceConfig,
)
from entropy.credentials import (
    acl_entry,
    dump_credential,
    entry_as_json,
    new_credential,
)
from entropy.errors import SourceGone
from entropy.feeder import Feeder
from entropy.feeder_session import Pace
from entropy.health import STARTUP_BYTES, WINDOW_BYTES
from entropy.sources.base import Figures, Source, StatedFigures

PATIENCE_SECONDS = 20.0  # for a condition that a busy machine may delay; nothing waits so long
FAST = Pace(
    gather_seconds=0.0,
    full_seconds=0.02,
    idle_seconds=0.1,
    first_retry_seconds=0.02,
    last_retry_seconds=0.05,
    source_retry_seconds=0.02,
    leave_seconds=0.05,
)
CREDIT_BITS = 4
N_RAW = raw_bytes_per_block(CREDIT_BITS)


def noise(n_bytes: int, seed: str = "noise") -> bytes:
    """Bytes that look perfect and are the same each time."""
    return hashlib.shake_256(seed.encode()).digest(n_bytes)


def blocks_of(tested: bytes) -> list[bytes]:
    """What the conditioner makes of samples that passed."""
    return [
        hashlib.sha512(b"entropy/1 conditioner\0" + tested[i : i + N_RAW]).digest()
        for i in range(0, len(tested) - N_RAW + 1, N_RAW)
    ]


async def until(condition: Callable[[], object]) -> None:
    """Let the loop turn until the condition holds."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        await asyncio.sleep(0.002)


class Strings(Source):
    """A source that gives what the test hands it, and waits when it has nothing."""

    def __init__(self, test_bits_per_byte: float = 7) -> None:
        super().__init__("strings:", StatedFigures())
        self.own = Figures(CREDIT_BITS, test_bits_per_byte, "for this test")
        self._waiting: queue.SimpleQueue[bytes | Exception] = queue.SimpleQueue()
        self._rest = b""
        self.n_opened = 0
        self.refusal: Exception | None = None  # raised by open as long as it is there
        self.n_read = 0

    def give(self, *what: bytes | Exception) -> None:
        for one in what:
            self._waiting.put(one)

    def gives(self, samples: bytes) -> bool:
        """As `give` once the last was taken; for a condition that should not wait in silence."""
        if self._waiting.empty():
            self.give(samples)
        return True

    def own_figures(self) -> Figures:
        return self.own

    def open(self) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.n_opened += 1

    def read(self, n_bytes: int) -> bytes:
        if not self._rest:
            try:  # not for ever: the thread must end some time after the test
                given = self._waiting.get(timeout=2 * PATIENCE_SECONDS)
            except queue.Empty:
                raise SourceGone("strings: silent") from None
            if isinstance(given, Exception):
                raise given
            self._rest = given
        samples, self._rest = self._rest[:n_bytes], self._rest[n_bytes:]
        self.n_read += len(samples)
        return samples

    def close(self) -> None:
        self._rest = b""


STREAM = noise(1 << 20, "a stream")


class Stream(Source):
    """A device that never stops. It goes on where it was when it is opened anew."""

    def __init__(self) -> None:
        super().__init__("stream:", StatedFigures())
        self.n_read = 0
        self.opened_at: list[int] = []

    def own_figures(self) -> Figures:
        return Figures(CREDIT_BITS, 7, "for this test")

    def open(self) -> None:
        self.opened_at.append(self.n_read)

    def read(self, n_bytes: int) -> bytes:
        time.sleep(0.001)  # in the reader's thread: a device has its pace
        samples = STREAM[self.n_read : self.n_read + n_bytes]
        if not samples:
            raise SourceGone("stream: is at its end")
        self.n_read += len(samples)
        return samples

    def close(self) -> None:
        pass

    def blocks_since_opened(self, times: int) -> list[bytes]:
        return blocks_of(STREAM[self.opened_at[times - 1] + STARTUP_BYTES :])


class Received:
    """What one broker was ever handed by feeders."""

    def __init__(self, broker: Broker) -> None:
        self.blocks: list[bytes] = []
        reservoir = broker.service.reservoir
        add = reservoir.add

        def recording(blocks: Sequence[bytes], **rest: Any) -> Any:
            self.blocks += blocks
            return add(blocks, **rest)

        # Only this test's eyes; the reservoir does its work as ever.
        reservoir.add = recording  # type: ignore[method-assign]


class Site:
    """The files of a site with one feeder, rng1, in one folder."""

    def __init__(self, folder: Path, authority: Issued) -> None:
        self.folder = folder
        self._authority = authority
        self.secret("ca.pem", authority.certificate_pem, 0o644)
        self.secret("acl.json", b"")
        self.feeder_credential()

    def secret(self, name: str, data: bytes, mode: int = 0o600) -> str:
        path = self.folder / name
        path.touch(0o600)
        path.write_bytes(data)
        path.chmod(mode)
        return str(path)

    def feeder_credential(
        self, permissions: tuple[str, ...] = ("feed",), site_id: str = "lab", **limits: int
    ) -> None:
        """A new credential for rng1; what stood in the access list is replaced."""
        credential = new_credential("rng1", site_id, list(permissions))
        self.secret("rng1.json", dump_credential(credential).encode())
        entry = entry_as_json(acl_entry(credential, **limits))
        acl = {"version": 1, "site_id": "lab", "generation": 1, "entries": [entry]}
        self.secret("acl.json", json.dumps(acl).encode())

    @asynccontextmanager
    async def broker(
        self, name: str = "broker1", *, capacity_blocks: int = 256, listen: str = "127.0.0.1:0"
    ) -> AsyncIterator[Broker]:
        issued = issue_broker(self._authority, name, "lab")
        broker = Broker(
            BrokerConfig(
                id=name,
                site_id="lab",
                listen=(listen,),
                acl=str(self.folder / "acl.json"),
                certificate=self.secret(f"{name}.pem", issued.certificate_pem),
                key=self.secret(f"{name}.key", issued.key_pem),
                ca=str(self.folder / "ca.pem"),
                control_socket=str(self.folder / f"{name}.sock"),
                reservoir=ReservoirConfig(capacity_blocks, 1, capacity_blocks),
                limits=LimitsConfig(),
                admin=AdminConfig(""),
            ),
            say=lambda text, priority: None,
        )
        await broker.start()
        try:
            yield broker
        finally:
            await broker.stop()

    def config(self, *brokers: Broker | str, **changes: Any) -> FeederConfig:
        endpoints = [b if isinstance(b, str) else b.addresses[0] for b in brokers]
        config = FeederConfig(
            site_id="lab",
            credential=str(self.folder / "rng1.json"),
            ca=str(self.folder / "ca.pem"),
            brokers=tuple(endpoints),
            source=SourceConfig("file:/nowhere", CREDIT_BITS, 7, "for this test"),
        )
        return dataclasses.replace(config, **changes)


@asynccontextmanager
async def running(config: FeederConfig, source: Source, pace: Pace = FAST) -> AsyncIterator[Feeder]:
    """A feeder at work; it must end without a word when it is told to."""
    feeder = Feeder(config, source=source, pace=pace)
    task = asyncio.ensure_future(feeder.run())
    try:
        yield feeder
        assert not task.done(), task.exception()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


START = noise(STARTUP_BYTES, "start-up")
WINDOW = WINDOW_BYTES
# One byte eight times in a row: it fails the cutoffs of 2^-40 and passes those of 2^-60.
GLITCH = noise(100, "before a glitch") + 8 * b"\x55" + noise(WINDOW - 108, "after a glitch")
