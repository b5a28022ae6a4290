"""A source behind an event loop: its blocking calls run in one thread of their own.

The thread is a daemon. A read that never returns (a device that went silent inside the kernel)
can therefore hold up neither the loop nor the end of the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from entropy.sources.base import Figures, Source

T = TypeVar("T")


class SourceReader:
    """Runs one source's calls in order, one at a time. Use from one event loop."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(
            target=self._run, name=f"source {source.uri}"[:15], daemon=True
        )
        self._thread.start()

    async def open(self) -> Figures:
        """Open the source; return the figures of the device that is there."""

        def call() -> Figures:
            self._source.open()
            return self._source.figures

        return await self._call(call)

    async def read(self, n_bytes: int) -> bytes:
        """As Source.read."""
        return await self._call(lambda: self._source.read(n_bytes))

    async def close(self) -> None:
        """As Source.close, after what runs now."""
        await self._call(self._source.close)

    def stop(self) -> None:
        """Close the source and end the thread when what runs now has returned. Does not wait."""
        self._calls.put(self._source.close)
        self._calls.put(None)

    async def _call(self, function: Callable[[], T]) -> T:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()

        def settle(result: Any, error: BaseException | None) -> None:
            if future.done():
                return  # whoever waited has gone
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

        def run() -> None:
            result, error = None, None
            try:
                result = function()
            except Exception as caught:
                error = caught
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(settle, result, error)

        self._calls.put(run)
        return await future  # type: ignore[no-any-return]

    def _run(self) -> None:
        while True:
            call = self._calls.get()
            if call is None:
                return
            call()
