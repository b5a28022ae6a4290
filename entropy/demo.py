"""`entropy demo`: source, feeder, broker and client in one process, and what flows between them.

Everything is real: the source (the best that this machine gives to an ordinary user), the health
tests, TLS on the loopback interface, the protocol, the kernel that is fed in the end (without
credit: a demonstration vouches for nothing). It needs no root, takes a few seconds, and leaves
nothing behind: its files live in a temporary folder, its reservoir in memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from entropy.broker.server import Broker
from entropy.client_feed import Client
from entropy.client_pace import Fed
from entropy.conditioner import BLOCK_BITS, BLOCK_BYTES, raw_bytes_per_block
from entropy.config import SourceConfig
from entropy.demo_fleet import CountedSource, DemoFleet, best_source
from entropy.demo_picture import Flow, Picture
from entropy.errors import EntropyError
from entropy.feeder import Feeder
from entropy.health import STARTUP_BYTES
from entropy.sources.base import Source, StatedFigures
from entropy.sources.uri import source_for
from entropy.wire.codes import DrawKind

FIRST_BLOCKS = 6  # in the reservoir before the client comes
N_TOPUPS = 3
PAUSE_SECONDS = 0.6  # between top-ups; in a fleet ten minutes
FRAME_SECONDS = 0.05
PATIENCE_SECONDS = 30.0


class Account(NamedTuple):
    """Where every bit is that the feeder made blocks of."""

    born_bits: int
    held_bits: int  # by the broker, and by the feeder before it sends them
    in_flight_bits: int  # sent by the feeder, not counted by the broker yet
    delivered_bits: int
    spent_bits: int
    lost_bits: int

    @property
    def holds(self) -> bool:
        return self.born_bits == sum(self[1:])


def run() -> int:
    """Show it. Returns 0, or 1 if the account does not hold; raises EntropyError."""
    picture = Picture(sys.stdout)
    picture.title("From noise to a virtual machine's kernel, all in this one process")
    picture.line()
    wanted = best_source()
    said = io.StringIO()
    try:
        # What the parts log goes to standard error; the demo says it in its own words.
        with (
            tempfile.TemporaryDirectory(prefix="entropy-demo-") as folder,
            contextlib.redirect_stderr(said),
        ):
            return asyncio.run(_Demo(picture, Path(folder), wanted).run())
    except EntropyError as error:
        words = " | ".join(said.getvalue().splitlines()[-3:])
        raise EntropyError(f"the demo ended early: {error} ({words})") from None


class _Demo:
    def __init__(self, picture: Picture, folder: Path, wanted: SourceConfig) -> None:
        self._picture = picture
        self._fleet = DemoFleet(folder)
        self._wanted = wanted
        self._received_bits = 0

    async def run(self) -> int:
        show = self._picture
        wanted = self._wanted
        stated = StatedFigures(wanted.credit_bits_per_byte, None, wanted.reason)
        self._source = CountedSource(
            source_for(wanted.uri, stated, lab_only_credit_kernel=wanted.lab_only_credit_kernel)
        )
        show.event("source", _in_words(self._source))
        self._broker = Broker(self._fleet.broker(), say=lambda *_: None)
        await self._broker.start()
        try:
            endpoint = self._broker.addresses[0]
            show.event("broker", f"listens on {endpoint}; its reservoir is empty")
            self._feeder = Feeder(self._fleet.feeder(wanted, endpoint), source=self._source)
            feeding = asyncio.create_task(self._feeder.run())
            try:
                await self._feed(feeding)
                await self._draw(endpoint, feeding)
                show.last(self._flow())
                account = self._account()
            finally:
                feeding.cancel()
                await asyncio.gather(feeding, return_exceptions=True)
        finally:
            await self._broker.stop()
        return self._close(account)

    async def _feed(self, feeding: asyncio.Task[None]) -> None:
        show, feeder = self._picture, self._feeder
        await self._until(lambda: feeder.session.broker_id is not None, feeding)
        show.event("feeder", "connected; both sides have proved who they are")
        await self._until(lambda: feeder.outbox.accounting.born_bits > 0, feeding)
        show.event("feeder", f"{STARTUP_BYTES:,} samples passed the start-up test")
        await self._until(lambda: self._held_blocks() > 0, feeding)
        raw_bytes = raw_bytes_per_block(feeder.figures.credit_bits_per_byte)
        show.event(
            "feeder",
            f"first block: {raw_bytes} bytes of noise became {BLOCK_BYTES},"
            f" worth {BLOCK_BITS} bits",
        )
        await self._until(lambda: self._held_blocks() >= FIRST_BLOCKS, feeding)
        show.event("broker", f"holds {self._held_blocks()} blocks, each to be used once")

    async def _draw(self, endpoint: str, feeding: asyncio.Task[None]) -> None:
        client = Client(self._fleet.client(endpoint))
        await self._draw_once(client, DrawKind.SEED, feeding)
        for _ in range(N_TOPUPS):
            pause = asyncio.create_task(asyncio.sleep(PAUSE_SECONDS))
            await self._until(pause.done, feeding)
            await self._draw_once(client, DrawKind.TOPUP, feeding)

    async def _draw_once(self, client: Client, kind: DrawKind, feeding: asyncio.Task[None]) -> None:
        before_bytes = self._delivered_bytes()
        drawing = asyncio.create_task(asyncio.to_thread(client.feed, kind, PATIENCE_SECONDS / 3))
        await self._until(drawing.done, feeding)
        outcome = drawing.result()
        if not isinstance(outcome, Fed):
            raise EntropyError("the client got nothing")
        self._received_bits += outcome.credit_bits
        self._picture.event(
            "client",
            f"{'seed' if kind is DrawKind.SEED else 'top-up'}:"
            f" {self._delivered_bytes() - before_bytes} bytes worth {outcome.credit_bits} bits,"
            " mixed into this kernel",
        )

    async def _until(self, true: Callable[[], bool], feeding: asyncio.Task[None]) -> None:
        """Wait, and let the picture move. EntropyError after too long, or if the feeder ends."""
        end = asyncio.get_running_loop().time() + PATIENCE_SECONDS
        while not true():
            if feeding.done():
                feeding.result()
                raise EntropyError("the feeder ended")
            if asyncio.get_running_loop().time() > end:
                raise EntropyError(f"nothing happened for {PATIENCE_SECONDS:g} s")
            self._picture.move(self._flow())
            await asyncio.sleep(FRAME_SECONDS)

    def _held_blocks(self) -> int:
        return self._broker.service.reservoir.held_blocks

    def _delivered_bytes(self) -> int:
        return sum(client["delivered_bytes"] for client in self._broker.status()["clients"])

    def _flow(self) -> Flow:
        status, made = self._broker.status(), self._feeder.outbox.accounting
        return Flow(
            source=self._source.name.split(":")[0],
            raw_bytes=self._source.n_bytes,
            born_bits=made.born_bits,
            held_blocks=status["reservoir"]["held_blocks"],
            capacity_blocks=status["reservoir"]["capacity_blocks"],
            held_bits=status["reservoir"]["held_bits"],
            delivered_bytes=self._delivered_bytes(),
            delivered_bits=status["accounting"]["delivered_bits"],
        )

    def _account(self) -> Account:
        """All at one moment: nothing runs between these lines."""
        made = self._feeder.outbox.accounting
        books = self._broker.status()["accounting"]
        return Account(
            born_bits=made.born_bits,
            held_bits=made.held_bits + books["held_bits"],
            in_flight_bits=made.sent_bits - books["fed_bits"],
            delivered_bits=books["delivered_bits"],
            spent_bits=books["spent_bits"],
            lost_bits=made.destroyed_bits + books["lost_bits"],
        )

    def _close(self, account: Account) -> int:
        """Print the account. Returns the exit status."""
        show = self._picture
        show.title("The account, in bits")
        rows = [
            ("born", account.born_bits, "in the blocks that the feeder made"),
            ("held", account.held_bits, "by broker and feeder, for draws to come"),
            ("in flight", account.in_flight_bits, "between the two"),
            ("delivered", account.delivered_bits, "to the client: what its bytes are worth"),
            ("spent", account.spent_bits, "on conditioning what was delivered"),
            ("lost", account.lost_bits, "to failures, limits and a full reservoir"),
        ]
        for i, (name, bits, text) in enumerate(rows):
            show.line(f"  {' =++++'[i]} {name:<10}{bits:>9,}   {text}")
        good = account.holds and account.delivered_bits == self._received_bits
        verdict = "the sum holds" if good else "THE SUM DOES NOT HOLD: please report this"
        show.line(f"    {verdict}; the client received {self._received_bits:,} bits")
        show.line()
        show.line("Nothing is left behind: the reservoir and all keys are gone.")
        return 0 if good else 1


def _in_words(source: Source) -> str:
    figures = source.figures
    counted = f"{figures.credit_bits_per_byte:g} bit of min-entropy counted for each byte"
    if source.name == "kernel":
        return (
            "this user can read no noise source here just now, so the kernel's own generator"
            f" stands in. That shows the way, and is worth nothing; {counted}, for this demo only"
        )
    return f"{source.uri}; {counted}: {figures.reason}"
