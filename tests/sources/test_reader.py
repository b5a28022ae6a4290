"""A blocking source behind an event loop."""

from __future__ import annotations

import asyncio
import threading

import pytest

from entropy.errors import SourceGone
from entropy.sources.base import Figures, Source, StatedFigures
from entropy.sources.reader import SourceReader


class Scripted(Source):
    """Gives what it was told to, and waits for `go` before each read."""

    def __init__(self) -> None:
        super().__init__("scripted:", StatedFigures())
        self.go = threading.Semaphore(0)
        self.closed = threading.Event()
        self.threads: set[str] = set()

    def own_figures(self) -> Figures:
        return Figures(1, 4, "for this test")

    def open(self) -> None:
        self.closed.clear()

    def read(self, n_bytes: int) -> bytes:
        self.go.acquire()
        self.threads.add(threading.current_thread().name)
        if self.closed.is_set():
            raise SourceGone("scripted: closed")
        return bytes(n_bytes)

    def close(self) -> None:
        self.closed.set()


def test_calls_run_elsewhere_and_in_order() -> None:
    async def scenario() -> None:
        source = Scripted()
        reader = SourceReader(source)
        assert await reader.open() == Figures(1, 4, "for this test")
        reading = asyncio.ensure_future(reader.read(5))
        await asyncio.sleep(0)
        assert not reading.done()  # the loop went on meanwhile
        source.go.release()
        assert await reading == bytes(5)
        assert source.threads != {threading.main_thread().name}
        await reader.close()
        source.go.release()
        with pytest.raises(SourceGone, match="closed"):
            await reader.read(1)
        reader.stop()

    asyncio.run(scenario())


def test_a_read_that_never_returns_holds_nothing_up() -> None:
    source = Scripted()
    reader = None

    async def scenario() -> None:
        nonlocal reader
        reader = SourceReader(source)
        await reader.open()
        reading = asyncio.ensure_future(reader.read(5))
        await asyncio.sleep(0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        reader.stop()

    asyncio.run(scenario())
    assert not source.closed.is_set()
    source.go.release()  # it returns after all, long after the loop has gone
    assert source.closed.wait(10)
