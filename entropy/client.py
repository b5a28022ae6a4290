"""The client: keeps this machine's kernel fresh from brokers.

Resident, it waits: for the next top-up, for a sign that this machine was cloned, restored or
suspended, and on kernels that keep count for /dev/random to run short. Each draw is the work of a
child (client_child.py, client_feed.py); the keys of a session are gone with it, and so is whatever
hangs. On a machine made from an image it first waits for its credential (arrival.py).

No network error ends it: it backs off and tries again, and nothing else waits for it.
"""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn

from entropy import client_warm, kernel
from entropy.arrival import wait_for_files
from entropy.client_child import Child
from entropy.client_pace import Fed, Nothing, Pace
from entropy.client_state import ClientState
from entropy.clone import CloneWatch
from entropy.config import ClientConfig
from entropy.errors import EntropyError, KernelError
from entropy.notify import NOTICE, WARNING, log, notify, watchdog_interval_seconds
from entropy.wire.codes import DrawKind

TOPUP_TIMEOUT_SECONDS = 30.0
CHECK_TIMEOUT_SECONDS = 5.0  # with the seed's, less than the unit's TimeoutStartSec=30
GRACE_SECONDS = 1.0  # beyond a draw's time-out, before whatever hangs is left hanging
LOOK_SECONDS = 0.5  # between two looks for signs that nothing announces
LOG_PAUSE_SECONDS = 0.1  # a kernel that says much wakes us this often at most
WALL_JUMP_SECONDS = 60.0
DEMAND_BYTES = 256  # what a kernel that runs short is given: half of the pool that it counts in
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def run(config: ClientConfig, once: bool = False) -> int:
    """Feed the kernel until SIGTERM or SIGINT; with `once`, draw once and return.

    Returns the exit status: 0, or 1 if `once` brought nothing or was stopped. Raises
    ConfigError, CredentialError or KernelError before the first draw only.
    """
    before = {number: signal.signal(number, _stop) for number in STOP_SIGNALS}
    try:
        if once:
            return _feed_once(config)
        wait_for_files((config.credential, config.ca), lambda: _prepare(config))
        _prepare(config)
        Resident(config).serve()
    except _Stopped:
        notify("STOPPING=1")
        log("stopped")
        return 1 if once else 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Stopped(BaseException):
    """A signal asked for the end. Not an Exception, so that no handler keeps it."""


def _stop(*_: object) -> None:
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)  # we are on our way
    raise _Stopped


def _feed_once(config: ClientConfig) -> int:
    """Draw once within the seed's time-out. Returns 0, or 1 if there was nothing.

    A seed, or a top-up on a machine that has had its seed since it booted or was cloned.
    """
    # Over the check as well: on a young kernel TLS may wait for the very bytes that we bring.
    late = threading.Timer(config.seed_timeout_seconds + GRACE_SECONDS, _give_up)
    late.daemon = True
    late.start()
    try:
        from entropy import dial
        from entropy.client_feed import Client
        from entropy.client_seed import SavedSeed

        dial.check(config)
        watch = CloneWatch(config.clone.generation_file)
        sign, names, state = watch.generation(), watch.names(), ClientState(config.state_dir)
        watch.close()
        try:
            known = state.read()
        except OSError:  # which is told when the counter cannot be kept
            known = {}
        fed_before = known.get("fed_boot_id") == kernel.boot_id().hex()
        client, kind = Client(config), DrawKind.SEED
        if not fed_before:
            SavedSeed(config.state_dir).use()
        elif not _is_another(known.get("platform"), names):
            kind = DrawKind.TOPUP
        else:
            log("this platform calls the machine another: it was cloned or restored", NOTICE)
            _diverge(sign)
            client.begin_generation(sign)
        outcome = client.feed(kind, config.seed_timeout_seconds)
        if isinstance(outcome, Fed):
            state.record(platform=names)
            SavedSeed(config.state_dir).save()
    finally:
        late.cancel()
    if isinstance(outcome, Nothing):
        log(f"no {kind.name.lower()}: going on without one", WARNING)
        return 1
    return 0


def _diverge(sign: bytes) -> None:
    """Before any broker is asked, so that twins part although none answers."""
    try:
        kernel.diverge(sign)
    except KernelError as error:
        log(str(error), WARNING)


def _is_another(before: Any, now: dict[str, str]) -> bool:
    """Whether something that was called one thing is called another now (CloneWatch.names)."""
    if not isinstance(before, dict):
        return False
    return any(before[where] != name for where, name in now.items() if where in before)


def _give_up() -> None:
    log("no seed within the time-out: going on without one", WARNING)
    os._exit(1)  # the main thread may hang in the resolver


def _prepare(config: ClientConfig) -> None:
    """Read every file once, so that a wrong one is told before the first draw."""

    def work() -> None:
        from entropy import dial

        dial.check(config)

    child = Child(work)
    try:
        if not _readable(child.descriptor, CHECK_TIMEOUT_SECONDS):
            return  # TLS waits for a kernel that is not ready; the draws will have it so too
        child.report()
    finally:
        child.end()


def _draw(
    config: ClientConfig,
    kind: DrawKind,
    timeout_seconds: float,
    n_bytes: int,
    sign: bytes | None,
    told: list[str],
) -> dict[str, Any]:
    """The child's part: one round, and what the parent is told of it."""
    from entropy.client_feed import Client
    from entropy.client_seed import SavedSeed

    client = Client(config, told)
    if sign is not None:
        client.begin_generation(sign)
    outcome = client.feed(kind, timeout_seconds, n_bytes)
    if isinstance(outcome, Fed):
        SavedSeed(config.state_dir).save()
        return {"fed": list(outcome), "what": client.last_fed, "told": client.told}
    return {"nothing": list(outcome)}


def _use_saved_seed(config: ClientConfig) -> bool:
    from entropy.client_seed import SavedSeed

    return SavedSeed(config.state_dir).use()


class Resident:
    """The client that stays: a loop that draws, rests, and looks around while it does either."""

    def __init__(self, config: ClientConfig) -> None:
        self._config = config
        self._pace = Pace()
        self._watch = CloneWatch(config.clone.generation_file, wall_jump_seconds=WALL_JUMP_SECONDS)
        self._sign: bytes | None = None  # of a generation that no login has told a broker of yet
        self._told: list[str] = []  # why there is no credit, as far as it was said
        self._short = kernel.wants_entropy()
        self._short_from_seconds = 0.0
        self._log_from_seconds = 0.0
        self._ready_at_seconds: float | None = None
        self._watchdog_seconds = watchdog_interval_seconds()
        self._watchdog_at_seconds = 0.0

    def serve(self) -> NoReturn:
        """Seed, then top up for ever. Ready after the first attempt, whatever came of it."""
        timeout_seconds: float = self._config.seed_timeout_seconds
        self._ready_at_seconds = time.monotonic() + timeout_seconds + GRACE_SECONDS
        self._say_what_is_here()
        saved = self._in_child(lambda: _use_saved_seed(self._config), CHECK_TIMEOUT_SECONDS)
        reason, n_bytes = saved[0], 0
        while True:
            while reason:  # a sign that this machine is another; and perhaps one more
                reason, n_bytes = self._cloned(reason)
            reason, outcome = self._draw(timeout_seconds, n_bytes)
            if reason:
                continue
            wait_seconds = pause_seconds = self._pace.after(outcome)
            self._say_ready()
            client_warm.load()
            if self._pace.failures:
                log(f"next try in {wait_seconds:.0f} s")
            elif isinstance(outcome, Fed):
                timeout_seconds = TOPUP_TIMEOUT_SECONDS
                pause_seconds = max(1.0, DEMAND_BYTES / max(1, outcome.rate_bytes_per_second))
            self._short_from_seconds = time.monotonic() + pause_seconds
            reason, n_bytes = self._rest(wait_seconds)

    def _draw(self, timeout_seconds: float, n_bytes: int) -> tuple[str | None, Fed | Nothing]:
        """One round in a child. If a sign comes first: what it says, and the round is void."""
        config, kind, sign, told = self._config, self._pace.kind, self._sign, self._told
        reason, report = self._in_child(
            lambda: _draw(config, kind, timeout_seconds, n_bytes, sign, told),
            timeout_seconds + GRACE_SECONDS,
        )
        if not report:
            return reason, Nothing(0.0)
        self._sign = None  # the state file has it, and each login says it from now on
        if "nothing" in report:
            return reason, Nothing(*report["nothing"])
        self._told = report["told"]
        notify(f"STATUS=last fed by {report['what']}")
        return reason, Fed(*report["fed"])

    def _in_child(self, work: Callable[[], Any], timeout_seconds: float) -> tuple[str | None, Any]:
        """Have a child do it, for so long at most. Returns a sign, if one came, or the report."""
        end = time.monotonic() + timeout_seconds
        try:
            child = Child(work)
        except OSError as error:  # no room for another process
            log(f"cannot start a process to draw with: {error.strerror}", WARNING)
            return None, None
        try:
            while True:
                if self._wait(end, child.descriptor) == child.descriptor:
                    return None, child.report()
                reason = self._watch.look()
                if reason:
                    return reason, None
                if time.monotonic() >= end:
                    log(f"no end after {timeout_seconds:.0f} s: given up", WARNING)
                    return None, None
        except EntropyError as error:
            log(str(error), WARNING)
            return None, None
        finally:
            child.end()

    def _rest(self, wait_seconds: float) -> tuple[str | None, int]:
        """Wait for the time, a sign, or the kernel's need; returns the sign, and bytes to draw."""
        end = time.monotonic() + wait_seconds
        while time.monotonic() < end:
            ready = self._wait(end, self._short)
            reason = self._watch.look()
            if reason:
                return reason, 0
            if ready >= 0 and ready == self._short:
                return None, DEMAND_BYTES
        return None, 0

    def _cloned(self, reason: str) -> tuple[str | None, int]:
        """This machine is another now: reseed at once, and tell the broker by another boot id."""
        self._sign = self._watch.generation()
        _diverge(self._sign)
        wait_seconds = self._pace.cloned(time.monotonic())
        log(f"{reason}: reseeding {f'in {wait_seconds:.0f} s' if wait_seconds else 'now'}", NOTICE)
        return self._rest(wait_seconds)

    def _wait(self, end: float, descriptor: int) -> int:
        """Until the descriptor is ready, the kernel says something, or it is time to look."""
        now = time.monotonic()
        self._keep_supervisor_quiet(now)
        poller = select.poll()
        log_descriptor = self._watch.descriptor()
        if log_descriptor >= 0 and now >= self._log_from_seconds:
            poller.register(log_descriptor, select.POLLIN)
        if descriptor >= 0 and descriptor != self._short:
            poller.register(descriptor, select.POLLIN)
        elif descriptor >= 0 and now >= self._short_from_seconds:
            poller.register(descriptor, select.POLLOUT)
        look_seconds = LOOK_SECONDS if now >= self._log_from_seconds else LOG_PAUSE_SECONDS
        found = poller.poll(1000 * max(0.0, min(end - now, look_seconds)))
        ready = [number for number, _ in found]
        if log_descriptor in ready:
            self._log_from_seconds = time.monotonic() + LOG_PAUSE_SECONDS
        return descriptor if descriptor in ready else -1

    def _keep_supervisor_quiet(self, now: float) -> None:
        if self._ready_at_seconds is not None and now >= self._ready_at_seconds:
            self._say_ready()
        if self._watchdog_seconds and now >= self._watchdog_at_seconds:
            notify("WATCHDOG=1")
            self._watchdog_at_seconds = now + max(0.0, self._watchdog_seconds - LOOK_SECONDS)

    def _say_ready(self) -> None:
        if self._ready_at_seconds is not None:
            self._ready_at_seconds = None
            notify("READY=1")

    def _say_what_is_here(self) -> None:
        fed = "by timer and when it runs short" if self._short >= 0 else "by timer"
        log(f"feeding this kernel {fed}; sign of clones: {self._watch.sign()}")
        try:
            can = kernel.probe()
        except KernelError as error:
            log(str(error), WARNING)
        else:
            if can.credits and not can.reseeds:
                log("this kernel takes up what it is given within minutes, not at once")


def _readable(descriptor: int, timeout_seconds: float) -> bool:
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    return bool(poller.poll(1000 * timeout_seconds))
