"""The feeder: reads one source, tests and conditions what it gives, pushes blocks to a broker.

Two tasks share an outbox. One brings blocks in and stops reading while the outbox or the broker's
reservoir is full; the other (`feeder_session`) takes them out. What a failing health test costs is
written in `intake`. After one the source must pass its start-up test again; after the third within
an hour, or after one that chance cannot explain, the feeder stops reading for good, goes on
running, and says that it needs a person. A start-up test that fails keeps the source shut and is
tried again: it counts as no new failure, since nothing flowed.

When this machine was cloned, restored or suspended, all that a copy may hold too is destroyed:
blocks, samples (those that the device or its reader holds as well: it is opened anew, and starts
with its start-up test) and the session. So what was sent before a snapshot was born once, and what
was not is born nowhere.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections import deque
from collections.abc import Coroutine
from typing import TypeVar

from entropy import kernel, notify
from entropy.clone import CloneWatch
from entropy.clone_guard import CloneGuard, Fresh
from entropy.config import FeederConfig
from entropy.errors import ConfigError, HealthFailure, SourceError
from entropy.feeder_session import BrokerSession, Pace, own_credential, spread
from entropy.fips140 import BlockTests
from entropy.health import PERMANENT_EXPONENT
from entropy.intake import Intake
from entropy.outbox import Outbox
from entropy.sources.base import Figures, Source, StatedFigures
from entropy.sources.reader import SourceReader
from entropy.sources.uri import source_for
from entropy.transport.tls import client_context

FAILURES_TO_RETIRE = 3
FAILURES_WITHIN_SECONDS = 3600
_ALARMS_KEPT = 100
_LOOK_SECONDS = 10.0
_SILENT = "silent"
T = TypeVar("T")
_ASK = "check the device, then restart this feeder"
FIPS_FAILURES_TO_SAY = 10  # in a row: then it is the source, and not chance


def check(config: FeederConfig) -> None:
    """Read all that the configuration names. Raises ConfigError, CredentialError, KernelError."""
    own_credential(config)
    client_context(config.ca, check_dates=False)
    kernel.boot_id()
    source = _source(config)
    figures = source.figures
    _need_credit(source, figures)
    Intake(figures)


def run(config: FeederConfig) -> int:
    """Run until SIGTERM or SIGINT. Returns the exit status; raises as `check` does."""
    check(config)
    asyncio.run(_run(config))
    return 0


async def _run(config: FeederConfig) -> None:
    task = asyncio.ensure_future(Feeder(config).run())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        notify.notify("STOPPING=1")


def _source(config: FeederConfig) -> Source:
    wanted = config.source
    stated = StatedFigures(wanted.credit_bits_per_byte, wanted.test_bits_per_byte, wanted.reason)
    return source_for(wanted.uri, stated, lab_only_credit_kernel=wanted.lab_only_credit_kernel)


def _need_credit(source: Source, figures: Figures) -> None:
    """ConfigError if this source could only ever feed nothing."""
    if figures.credit_bits_per_byte == 0:
        raise ConfigError(
            f"{source.name} earns no credit ({figures.reason}), so there is nothing to feed:"
            " name another source, or state its credit_bits_per_byte and the reason for it"
        )


class Feeder:
    """One source and its way to the brokers. `run` until cancelled."""

    def __init__(
        self, config: FeederConfig, *, source: Source | None = None, pace: Pace | None = None
    ) -> None:
        self._config = config
        self._pace = pace or Pace()
        self._source = source or _source(config)
        figures = self._source.figures
        _need_credit(self._source, figures)
        self.block_tests = BlockTests() if config.source.fips140 else None
        self._intake = Intake(figures, block_tests=self.block_tests)
        self.outbox = Outbox()
        # Before the source: no program that it runs is handed what tells of clones.
        watch = CloneWatch(config.clone.generation_file)
        self.clones = CloneGuard(watch, kernel.random_bytes, self._begin_anew)
        self.session = BrokerSession(
            config, self.outbox, self._pace, self._changed, self.clones.check
        )
        self._open_anew = False  # what the device holds may be in another machine's hands too
        self._may_read = asyncio.Event()
        self._may_read.set()
        self._failed_at_seconds: deque[float] = deque(maxlen=FAILURES_TO_RETIRE)
        self.alarms: deque[tuple[float, str]] = deque(maxlen=_ALARMS_KEPT)
        self.n_failures = 0
        self.retired = False
        self.state = "not started"  # of the source, in words
        self.admin_address: tuple[str, int] | None = None
        self._trouble = ""  # why the source does not deliver, when that was said already
        self._fips_said = False
        self._waiting_since_seconds: float | None = None
        self._status_line = ""

    async def run(self) -> None:
        """Until cancelled. TransportError if the admin port cannot be had (yet)."""
        figures = self._intake.figures
        notify.log(
            f"{self._source.name}: {figures.credit_bits_per_byte:g} bits credited for each byte,"
            f" tested for {figures.test_bits_per_byte:g}: {figures.reason}"
        )
        notify.log(f"sign of clones: {self.clones.status()['sign']}")
        admin = None
        if self._config.admin.listen:
            from entropy.feeder_status import admin_for  # who has none does not pay for it

            admin = admin_for(self._config.admin.listen, self)
            await admin.start()
            self.admin_address = admin.address
        try:
            async with asyncio.TaskGroup() as parts:
                parts.create_task(self._harvest())
                parts.create_task(self.session.run())
                parts.create_task(self._watch())
                parts.create_task(self.clones.run())
                notify.notify("READY=1")
        finally:
            self.outbox.destroy()
            self.clones.close()
            if admin is not None:
                await admin.stop()

    # From the source to the outbox

    async def _harvest(self) -> None:
        reader = SourceReader(self._source)
        try:
            while not self.retired:
                self._open_anew = False
                try:
                    self._opened(await self._answer(reader.open()))
                    while not self.retired:
                        await self._wait_for_room()
                        if self._open_anew:
                            break  # nor wait for what is not used
                        samples = await self._answer(reader.read(self._pace.gather_seconds))
                        if self._open_anew:
                            break
                        self._take_in(samples)
                except HealthFailure as failure:
                    self._not_delivering(str(failure), "the start-up test fails")
                except (SourceError, ConfigError) as error:
                    self._not_delivering(str(error), str(error))
                if not self.retired:
                    await self._answer(reader.close())
                    await asyncio.sleep(spread(self._pace.source_retry_seconds))
            reader.stop()
            await asyncio.Event().wait()  # a person is needed, and nothing else will do
        finally:
            reader.stop()

    async def _answer(self, call: Coroutine[object, object, T]) -> T:
        """Wait for the device, and let `_watch` see how long that takes."""
        self._waiting_since_seconds = asyncio.get_running_loop().time()
        try:
            return await call
        finally:
            self._waiting_since_seconds = None

    def _opened(self, figures: Figures) -> None:
        """The device is there: start over, by the figures that it has now."""
        if figures != self._intake.figures:
            _need_credit(self._source, figures)  # another device than at the start
            self._intake = Intake(
                figures, first_position=self._intake.position, block_tests=self.block_tests
            )
        self._intake.restart()
        self._set_state("in its start-up test")

    async def _wait_for_room(self) -> None:
        if self._may_read.is_set():
            return
        before = self.state
        self._set_state("paused")
        await self._may_read.wait()
        if self.state == "paused":
            self._set_state(before)

    def _take_in(self, samples: bytes) -> None:
        """Test and condition. Raises HealthFailure only when the start-up test fails."""
        try:
            blocks = self._intake.push(samples)
        except HealthFailure as failure:
            self._failed(failure)
            if self._intake.failed_in_startup:
                raise
            return  # on to the start-up test, which alone opens it again
        if self._intake.started and self.state != "delivering":
            if self._trouble:
                notify.log(f"{self._source.name} delivers again", notify.NOTICE)
                self._trouble = ""
            self._set_state("delivering")
        self.outbox.forget_before(self._intake.safe_position)
        if blocks:
            self.outbox.add(blocks)
            self._changed()
        self._say_if_all_blocks_fail()

    def _say_if_all_blocks_fail(self) -> None:
        tests = self.block_tests
        if tests is None:
            return
        if tests.n_dropped_in_a_row < FIPS_FAILURES_TO_SAY:
            self._fips_said = self._fips_said and tests.n_dropped_in_a_row > 0
        elif not self._fips_said:
            self._fips_said = True
            notify.log(
                f"{self._source.name}: {tests.n_dropped_in_a_row} blocks in a row were dropped by"
                f" the FIPS 140-2 tests, the last one for {tests.last_failure}: the raw samples of"
                " this source are not even enough for them; set fips140 = false to be without",
                notify.WARNING,
            )

    def _failed(self, failure: HealthFailure) -> None:
        """A window failed: destroy, recall, count, and say so."""
        was_open = not self._intake.failed_in_startup
        n_destroyed = self.outbox.destroy()
        n_recalled, n_out_of_reach = self.outbox.recall_after(self._intake.recall_position)
        self._changed()
        if not was_open and not n_recalled:
            return  # it was shut, and stays so: `_not_delivering` says it once
        said = f"{self._source.name}: {failure}. {n_destroyed} blocks destroyed"
        if n_recalled:
            said += f", {n_recalled} to be recalled from {self.session.broker_id}"
        if n_out_of_reach:
            said += f", {n_out_of_reach} sent in an earlier session and out of reach"
        now = asyncio.get_running_loop().time()
        if was_open:
            self.n_failures += 1
            self._failed_at_seconds.append(now)
        why_for_good = self._why_for_good(was_open, now)
        if why_for_good:
            self.retired = True
            said += f"; {why_for_good}. Nothing more is read: {_ASK}"
            self._set_state(f"retired, since {why_for_good}: {_ASK}")
        else:
            self._set_state("in its start-up test")
        self._trouble = said
        self.alarms.append((time.time(), said))
        notify.log(f"ALARM: {said}", notify.ERROR)

    def _why_for_good(self, was_open: bool, now_seconds: float) -> str:
        """Why this failure is the last one: the source is retired. "" if it is not."""
        if not was_open:
            return ""  # nothing flowed: it stays shut, and is tried again
        if self._intake.failed_permanently:
            return f"this is beyond chance (2^-{PERMANENT_EXPONENT})"
        failed_at = self._failed_at_seconds
        soon = now_seconds - failed_at[0] <= FAILURES_WITHIN_SECONDS
        if len(failed_at) == FAILURES_TO_RETIRE and soon:
            return f"this was failure number {FAILURES_TO_RETIRE} within an hour"
        return ""

    def _begin_anew(self, reason: str, _: Fresh) -> None:
        """This machine was copied: destroy what the copy has too, and forget the session."""
        n_destroyed = self.outbox.destroy()
        self._intake.restart()
        self._open_anew = True
        fed = self.session.broker_id
        self.session.drop()
        self._changed()
        if self.state in ("delivering", "paused"):
            self._set_state("in its start-up test")
        said = (
            f"{reason}: this machine was cloned, restored or suspended: {n_destroyed} blocks and"
            " all samples are destroyed"
        )
        if fed is not None:
            said += f", the session with {fed} is cut"
        self.alarms.append((time.time(), said))
        notify.log(f"ALARM: {said}", notify.ERROR)

    def _not_delivering(self, why: str, trouble: str) -> None:
        """The source is gone or stays bad: destroy what it began. Each trouble is said once."""
        self._intake.restart()
        self._set_state(trouble)
        if self._trouble != trouble:
            self._trouble = trouble
            notify.log(f"{self._source.name} delivers nothing for now: {why}", notify.WARNING)

    # For those who watch

    def _changed(self) -> None:
        """The outbox or the session is not as it was."""
        room = self.outbox.held_blocks < self._config.max_pending_blocks
        if room and not self.session.full:
            self._may_read.set()
        else:
            self._may_read.clear()
        self.session.wake()
        self._tell_systemd()

    def _set_state(self, state: str) -> None:
        self.state = state
        self._tell_systemd()

    @property
    def figures(self) -> Figures:
        """The figures in force."""
        return self._intake.figures

    @property
    def source_uri(self) -> str:
        return self._source.uri

    @property
    def status_line(self) -> str:
        """One line for `systemctl status`."""
        session = self.session
        if session.broker_id is None:
            where = "no broker answers"
        elif session.full:
            where = f"{session.broker_id} is full"
        else:
            where = f"feeding {session.broker_id}"
        return f"{self._source.name} {self.state}; {where}"

    def _tell_systemd(self) -> None:
        line = self.status_line
        if line != self._status_line:
            self._status_line = line
            notify.notify(f"STATUS={line}")

    async def _watch(self) -> None:
        """Keep systemd's watchdog quiet, and say so when the device does not answer."""
        watchdog_seconds = notify.watchdog_interval_seconds()
        interval_seconds = min(watchdog_seconds or _LOOK_SECONDS, _LOOK_SECONDS)
        while True:
            if watchdog_seconds is not None:
                notify.notify("WATCHDOG=1")
            since = self._waiting_since_seconds
            if (
                since is not None
                and self.state != _SILENT
                and asyncio.get_running_loop().time() - since > self._pace.silence_seconds
            ):
                self._set_state(_SILENT)
                self._trouble = _SILENT
                notify.log(f"{self._source.name} is silent: it does not answer", notify.WARNING)
            await asyncio.sleep(interval_seconds)
