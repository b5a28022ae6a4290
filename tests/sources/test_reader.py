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
        self.entered = threading.Event()
        self.closed = threading.Event()
        self.threads: set[str] = set()

    def own_figures(self) -> Figures:
        return Figures(1, 4, "for this test")

    def open(self) -> None:
        self.closed.clear()

    def read(self, n_bytes: int) -> bytes:
        self.entered.set()
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
        reading = asyncio.ensure_future(reader.read())
        await asyncio.sleep(0)
        assert not reading.done()  # the loop went on meanwhile
        source.go.release()
        assert await reading == bytes(1024)
        assert source.threads != {threading.main_thread().name}
        source.go.release()  # it reads ahead, and closing waits for what runs
        await reader.close()
        source.go.release()
        with pytest.raises(SourceGone, match="closed"):
            await reader.read()
        reader.stop()

    asyncio.run(scenario())


def test_small_reads_come_together() -> None:
    class Dripping(Scripted):
        """Three bytes at a time, and then gone."""

        n_reads = 0

        def read(self, n_bytes: int) -> bytes:
            self.n_reads += 1
            if self.n_reads % 4 == 0:
                raise SourceGone("dripping: dry")
            return bytes(min(n_bytes, 3))

    async def scenario() -> None:
        reader = SourceReader(Dripping())
        for _ in range(2):
            await reader.open()
            n_bytes = 0
            while n_bytes < 9:  # what came before the error is not lost
                n_bytes += len(await reader.read(0.01))
            with pytest.raises(SourceGone, match="dry"):
                await reader.read()
            await reader.close()
        reader.stop()

    asyncio.run(scenario())


def test_it_reads_no_further_ahead_than_told() -> None:
    class Fast(Scripted):
        n_given = 0
        n_read_closed = 0

        def read(self, n_bytes: int) -> bytes:
            self.n_read_closed += self.closed.is_set()
            self.n_given += n_bytes
            return bytes(n_bytes)

    async def scenario() -> None:
        source = Fast()
        reader = SourceReader(source, most_bytes=3000)
        await reader.open()
        taken = 0
        for _ in range(5):
            taken += len(await reader.read(0.001))
            assert source.n_given - taken <= 3000 + 2 * 1024
        await reader.close()
        given = source.n_given
        await reader.open()
        assert source.n_given == given  # nothing before it is wanted
        assert source.n_read_closed == 0
        reader.stop()

    asyncio.run(scenario())


def test_a_source_that_gives_nothing_is_gone() -> None:
    """No source may return b"", but one that does must not end the feeder, or keep it busy."""

    class Empty(Scripted):
        n_reads = 0

        def read(self, n_bytes: int) -> bytes:
            self.n_reads += 1
            return b""

    async def scenario() -> None:
        source = Empty()
        reader = SourceReader(source)
        for n_reads in (1, 2):
            await reader.open()
            with pytest.raises(SourceGone, match="scripted: gave nothing"):
                await reader.read()
            assert source.n_reads == n_reads
            await reader.close()
        reader.stop()

    asyncio.run(scenario())


def test_a_read_that_never_returns_holds_nothing_up() -> None:
    source = Scripted()
    reader = None

    async def scenario() -> None:
        nonlocal reader
        reader = SourceReader(source)
        await reader.open()
        reading = asyncio.ensure_future(reader.read())
        assert await asyncio.to_thread(source.entered.wait, 10)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        reader.stop()

    asyncio.run(scenario())
    assert not source.closed.is_set()
    source.go.release()  # it returns after all, long after the loop has gone
    assert source.closed.wait(10)
