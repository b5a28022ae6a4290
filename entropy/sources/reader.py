"""A source behind an event loop: its blocking calls run in one thread of their own.

While the loop wants samples the thread goes on reading them into a buffer, so that a device that
gives little at a time costs the loop nothing for each portion; at `most_bytes` it waits. It is a
daemon thread: a read that never returns (a device that went silent inside the kernel) can hold up
neither the loop nor the end of the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from entropy.errors import SourceGone
from entropy.sources.base import Figures, Source

T = TypeVar("T")
MOST_BYTES = 16384  # read ahead; what a device of 80 kB/s gives while blocks are gathered
_BYTES_AT_ONCE = 1024  # some devices give nothing until they have all that was asked for


class SourceReader:
    """Runs one source's calls in order, one at a time. Use from one task of one event loop."""

    def __init__(self, source: Source, most_bytes: int = MOST_BYTES) -> None:
        self._source = source
        self._most_bytes = most_bytes
        self._changed = threading.Condition()  # guards all below
        self._calls: deque[Callable[[], None]] = deque()
        self._reading = False
        self._stopped = False
        self._samples = bytearray()
        self._error: Exception | None = None  # met after those samples
        self._wake: Callable[[], None] | None = None  # tells a task that waits for samples
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

    async def read(self, gather_seconds: float = 0.0) -> bytes:
        """Wait for samples, and so long for more; return what has come. Raises as Source.read.

        What came before an error is returned, and the error raised by the next call.
        """
        loop = asyncio.get_running_loop()
        came: asyncio.Future[None] = loop.create_future()
        with self._changed:
            self._reading = True
            if not self._samples and self._error is None:
                self._wake = _waker(loop, came)
            else:
                came.set_result(None)
            self._changed.notify()
        try:
            await came
            if gather_seconds:
                await asyncio.sleep(gather_seconds)
        finally:
            with self._changed:
                self._wake = None
        with self._changed:
            if not self._samples:
                assert self._error is not None  # `_read_once` leaves one or both
                self._reading = False
                error, self._error = self._error, None
                raise error
            samples = bytes(self._samples)
            self._forget()
            self._changed.notify()
            return samples

    async def close(self) -> None:
        """As Source.close, after what runs now. What was read and not taken is destroyed."""
        with self._changed:
            self._reading = False

        def call() -> None:
            self._source.close()
            with self._changed:
                self._forget()
                self._error = None

        await self._call(call)

    def stop(self) -> None:
        """Close the source and end the thread when what runs now has returned. Does not wait."""
        with self._changed:
            self._stopped = True
            self._changed.notify()

    def _forget(self) -> None:
        self._samples[:] = bytes(len(self._samples))
        self._samples.clear()

    async def _call(self, function: Callable[[], T]) -> T:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()

        def run() -> None:
            result, error = None, None
            try:
                result = function()
            except Exception as caught:
                error = caught
            _waker(loop, future, result, error)()

        with self._changed:
            self._calls.append(run)
            self._changed.notify()
        return await future  # type: ignore[no-any-return]

    # In the thread

    def _run(self) -> None:
        while True:
            with self._changed:
                while not (self._stopped or self._calls or self._wants_samples()):
                    self._changed.wait()
                if self._stopped:
                    break
                call = self._calls.popleft() if self._calls else self._read_once
            call()
        self._source.close()
        with self._changed:
            self._forget()

    def _wants_samples(self) -> bool:
        return self._reading and self._error is None and len(self._samples) < self._most_bytes

    def _read_once(self) -> None:
        samples, error = b"", None
        try:
            samples = self._source.read(_BYTES_AT_ONCE)
            if not samples:  # a driver's mistake; opening it anew is the best that can be done
                raise SourceGone(f"{self._source.name}: gave nothing")
        except Exception as caught:
            error = caught
        with self._changed:
            self._samples += samples
            self._error = error
            wake, self._wake = self._wake, None
        if wake is not None:
            wake()


def _waker(
    loop: asyncio.AbstractEventLoop,
    future: asyncio.Future[Any],
    result: Any = None,
    error: Exception | None = None,
) -> Callable[[], None]:
    """A function for the thread that settles a future of the loop's."""

    def settle() -> None:
        if future.done():
            return  # whoever waited has gone
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    def wake() -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(settle)

    return wake
