"""The client: draws from a broker and keeps this machine's kernel fresh.

A seed at the start, then a top-up whenever the interval that the broker names has passed.
On a machine made from an image it first waits for its credential (arrival.py).
No network error ends it: it backs off and tries again, and nothing else waits for it.
The kernel is told of no more bits than the broker said the bytes are worth.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from typing import NamedTuple, NoReturn

from entropy import kernel
from entropy.arrival import wait_for_files
from entropy.client_state import ClientState
from entropy.config import ClientConfig
from entropy.dial import check, dial, say_where
from entropy.errors import EntropyError, RetryLater
from entropy.notify import NOTICE, WARNING, log, notify, watchdog_interval_seconds
from entropy.wire.codes import DrawKind
from entropy.wire.frames import Block, Welcome

TOPUP_TIMEOUT_SECONDS = 30.0
GRACE_SECONDS = 1.0  # beyond the seed's time-out, before whatever hangs is left hanging
FIRST_BACKOFF_SECONDS = 2.0
LONGEST_BACKOFF_SECONDS = 300.0
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
SPREAD = 0.2  # a fleet that was started together must not draw together
LONGEST_INTERVAL_SECONDS = 86_400
MOST_TOPUP_BYTES = 512  # of what WELCOME may name; the kernel's pool holds 32


def run(config: ClientConfig, once: bool = False) -> int:
    """Feed the kernel until SIGTERM or SIGINT; with `once`, draw one seed and return.

    Returns the exit status: 0, or 1 if `once` brought nothing or was stopped. Raises
    ConfigError, CredentialError or KernelError before the first draw only.
    """
    before = {number: signal.signal(number, _stop) for number in STOP_SIGNALS}
    try:
        if once:
            return _seed_once(config)
        wait_for_files((config.credential, config.ca), lambda: check(config))
        check(config)
        Client(config).serve()
    except _Stopped:
        notify("STOPPING=1")
        log("stopped")
        return 1 if once else 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _seed_once(config: ClientConfig) -> int:
    """Draw one seed within the time-out. Returns 0, or 1 if there was none."""
    # Over the check as well: on a young kernel TLS may wait for the very bytes that we bring.
    deadline = _Deadline(config.seed_timeout_seconds + GRACE_SECONDS, _give_up)
    deadline.start()
    try:
        check(config)
        outcome = Client(config).feed(DrawKind.SEED, config.seed_timeout_seconds)
    finally:
        deadline.cancel()
    if isinstance(outcome, Nothing):
        log("no seed: going on without one", WARNING)
        return 1
    return 0


class _Stopped(BaseException):
    """A signal asked for the end. Not an Exception, so that no handler keeps it."""


def _stop(*_: object) -> None:
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)  # we are on our way
    raise _Stopped


class Fed(NamedTuple):
    """What one round over the brokers brought."""

    credit_bits: int  # what the broker said that the bytes are worth
    interval_seconds: int  # until the next top-up, as the broker or the configuration has it


class Nothing(NamedTuple):
    """No broker gave anything; ask again after this time or more."""

    after_seconds: float


class Client:
    """Feeds one kernel from a list of brokers, in the order of the list."""

    def __init__(self, config: ClientConfig) -> None:
        self._config = config
        self._state = ClientState(config.state_dir)
        self._shares_kernel = kernel.shares_kernel()
        self._told: set[str] = set()

    def serve(self) -> NoReturn:
        """Seed, then top up for ever. Ready after the first attempt, whatever came of it."""
        kind, failures = DrawKind.SEED, 0
        timeout_seconds: float = self._config.seed_timeout_seconds
        ready_at_last = _Deadline(timeout_seconds + GRACE_SECONDS, _say_ready)
        ready_at_last.start()
        while True:
            outcome = self.feed(kind, timeout_seconds)
            if ready_at_last.cancel():
                _say_ready()
            if isinstance(outcome, Fed) and (outcome.credit_bits or kind is DrawKind.TOPUP):
                kind, failures, timeout_seconds = DrawKind.TOPUP, 0, TOPUP_TIMEOUT_SECONDS
                wait_seconds = spread(outcome.interval_seconds)
            else:
                # A seed worth nothing makes twins diverge, but a worthy one is still due.
                failures += 1
                wait_seconds = backoff_seconds(failures)
                if isinstance(outcome, Nothing):
                    # Not sooner than we were told; feed() bounds for how long that may be.
                    told_seconds = outcome.after_seconds * (1 + SPREAD * _fraction())
                    wait_seconds = max(wait_seconds, told_seconds)
                log(f"next try in {wait_seconds:.0f} s")
            _sleep(wait_seconds)

    def feed(self, kind: DrawKind, timeout_seconds: float) -> Fed | Nothing:
        """Ask each broker in turn until one gives bytes that are worth something."""
        deadline = time.monotonic() + timeout_seconds
        brokers = self._config.brokers
        fed: Fed | None = None
        after_seconds = LONGEST_BACKOFF_SECONDS  # no broker silences us for longer
        for i, endpoint in enumerate(brokers):
            notify("WATCHDOG=1")
            # A broker that does not answer leaves their share of the time to the others.
            share_seconds = (deadline - time.monotonic()) / (len(brokers) - i)
            try:
                fed = self._feed_from(endpoint, kind, max(share_seconds, 0.1))
            except RetryLater as error:
                after_seconds = min(after_seconds, error.after_seconds)
                log(say_where(endpoint, error), WARNING)
            except (EntropyError, OSError) as error:
                after_seconds = 0
                log(say_where(endpoint, error), WARNING)
            else:
                if fed.credit_bits:
                    break
        return Nothing(after_seconds) if fed is None else fed

    def _feed_from(self, endpoint: str, kind: DrawKind, timeout_seconds: float) -> Fed:
        # A third for getting there and a third for the way back; what is left of the time may
        # go by in the broker's queue.
        step_seconds = timeout_seconds / 3
        queue_end = time.monotonic() + timeout_seconds - step_seconds
        with dial(self._config, self._state, endpoint, step_seconds) as connection:
            welcome = connection.welcome
            n_bytes = self._config.seed_bytes
            if kind is DrawKind.TOPUP:
                n_bytes = max(1, min(welcome.topup_bytes, MOST_TOPUP_BYTES))
            block = connection.draw(kind, n_bytes, max(0.0, queue_end - time.monotonic()))
            broker_id = connection.broker_id
        credited_bits, how = self._into_kernel(block)
        self._state.record(
            last_fed_unix=int(time.time()),
            last_credit_bits=block.credit_bits,
            credited_to_kernel_bits=credited_bits,
            last_broker=broker_id,
            last_kind=kind.name.lower(),
        )
        what = f"{kind.name.lower()}: {len(block.data)} bytes worth {block.credit_bits} bits"
        log(f"{what} from {broker_id} ({endpoint}), {how}")
        notify(f"STATUS=last fed by {broker_id}: {what}")
        return Fed(block.credit_bits, self._interval_seconds(welcome))

    def _into_kernel(self, block: Block) -> tuple[int, str]:
        """Give the bytes to the kernel; returns the bits credited, and in words what was done."""
        credit_bits = min(block.credit_bits, 8 * len(block.data))
        why = ""
        if not self._config.credit:
            why = "the configuration says credit = false"
        elif self._shares_kernel and not self._config.allow_shared_kernel:
            why = "this is a container, and its kernel is the host's"
        elif not credit_bits:
            why = "the broker had nothing to vouch for"
        elif kernel.add_entropy(block.data, credit_bits):
            kernel.reseed()
            return credit_bits, f"{credit_bits} bits credited to the kernel"
        else:
            why = "this process lacks CAP_SYS_ADMIN"
        kernel.mix(block.data)
        kernel.reseed()
        if why not in self._told:
            self._told.add(why)
            log(f"mixing in without credit: {why}", NOTICE)
        return 0, "mixed into the kernel, no credit"

    def _interval_seconds(self, welcome: Welcome) -> int:
        named = self._config.interval_seconds or welcome.topup_interval_seconds
        return max(1, min(named, LONGEST_INTERVAL_SECONDS))


def spread(seconds: float) -> float:
    """`seconds`, give or take 20 %."""
    return seconds * (1 - SPREAD + 2 * SPREAD * _fraction())


def backoff_seconds(failures: int) -> float:
    """How long to wait after so many failures in a row (1 or more): doubling, jittered, bounded."""
    longest = min(FIRST_BACKOFF_SECONDS * 2.0 ** min(failures - 1, 30), LONGEST_BACKOFF_SECONDS)
    return longest * (0.5 + 0.5 * _fraction())


def _fraction() -> float:
    """A number from 0 to 1. Not secret; `random` would cost memory, and block on a young kernel."""
    noise = kernel.random_bytes(4) or time.monotonic_ns().to_bytes(8, "big")[4:]
    return int.from_bytes(noise, "big") / 2**32


def _sleep(seconds: float) -> None:
    """Sleep, keeping systemd's watchdog at rest."""
    end = time.monotonic() + seconds
    watchdog_seconds = watchdog_interval_seconds() or seconds
    while True:
        notify("WATCHDOG=1")
        left_seconds = end - time.monotonic()
        if left_seconds <= 0:
            return
        time.sleep(min(left_seconds, watchdog_seconds))


class _Deadline:
    """Calls `late` after so many seconds, unless cancelled, whatever the main thread hangs in.

    Time-outs on sockets do not bound everything: a name server that is away holds
    getaddrinfo(3) for as long as the resolver likes.
    """

    def __init__(self, seconds: float, late: Callable[[], None]) -> None:
        self._timer = threading.Timer(seconds, late)
        self._timer.daemon = True

    def start(self) -> None:
        self._timer.start()

    def cancel(self) -> bool:
        """True if this call came in time, and was the first."""
        in_time = not self._timer.finished.is_set()
        self._timer.cancel()
        return in_time


def _give_up() -> None:
    log("no seed within the time-out: going on without one", WARNING)
    os._exit(1)  # the main thread may hang in the resolver


def _say_ready() -> None:
    notify("READY=1")
