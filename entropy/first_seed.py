"""`entropy first-seed`: draws one seed after the network is up, before host keys are made.

Waits for the network itself, within one time limit over everything, instead of being ordered after
network-online.target: a boot must never wait longer than that limit, also when there is no network
at all. While the kernel's generator is not ready TLS would wait for it: then brokers' ports for
seeds are asked first (transport/plain.py), and the brokers themselves after that.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

from entropy import kernel
from entropy.client_state import ClientState
from entropy.config import ClientConfig
from entropy.dial import dial, dial_plain, say_where
from entropy.errors import ConfigError, CredentialError, EntropyError, Refused
from entropy.into_kernel import into_kernel
from entropy.notify import NOTICE, WARNING, log
from entropy.transport.blocking import BlockingConnection
from entropy.wire.codes import DrawKind, RefusedCode
from entropy.wire.frames import Block

Dial = Callable[[ClientConfig, ClientState, str, float], BlockingConnection]

FIRST_PAUSE_SECONDS = 0.2  # between two rounds over the brokers; it doubles
LONGEST_PAUSE_SECONDS = 1.0
_FOR_GOOD = (RefusedCode.AUTHENTICATION, RefusedCode.PERMISSION)
LONGEST_TRY_SECONDS = 3.0  # for one broker
LAST_SECONDS = 0.5  # of the limit: for what cannot be interrupted in time
# To try in, on a machine that took all of the limit to start Python: it waits this much longer,
# or has waited in vain. The unit's own limit of 30 s stands.
LEAST_SECONDS = 2.0


def run(config: ClientConfig) -> int:
    """Seed the kernel within seed_timeout_seconds. Returns 0, with or without a seed.

    Raises ConfigError or CredentialError when what is configured cannot work.
    """
    if not config.first_seed:
        log("the configuration says first_seed = false: nothing to do")
        return 0
    if not config.credit:  # as on a broker's machine, whose broker is starting, too
        log("the configuration says credit = false: no boot waits for what is worth nothing")
        return 0
    limit_seconds = max(LEAST_SECONDS, config.seed_timeout_seconds - _age_seconds())
    late = threading.Timer(limit_seconds, _give_up)
    late.daemon = True
    late.start()
    try:
        said = _FirstSeed(config, limit_seconds - LAST_SECONDS).draw()
    finally:
        late.cancel()
    if said:
        limit = f"{config.seed_timeout_seconds} s"
        log(f"no seed within {limit}: going on without one ({said})", WARNING)
    return 0


class _FirstSeed:
    def __init__(self, config: ClientConfig, limit_seconds: float) -> None:
        self._config = config
        self._state = ClientState(config.state_dir)
        self._n_wanted = 2 if config.two_brokers else 1
        self._blocks: dict[str, Block] = {}  # by broker
        self._worthless: dict[str, Block] = {}  # of brokers whose reservoir was empty
        self._refused: set[str] = set()  # endpoints that will not have us, however often we ask
        self._was_ready = bool(kernel.random_bytes(1))
        now = time.monotonic()
        self._end = now + limit_seconds
        # A kernel that is ready has no need of a port without TLS. One that is not is spared TLS
        # for half of the time, if there is such a port.
        self._seeds = () if self._was_ready else config.seeds
        self._tls_from = now + limit_seconds / 2 if self._seeds else now

    def draw(self) -> str:
        """Ask again and again. Returns "" once the kernel was fed, else why it was not."""
        said, pause_seconds = "", FIRST_PAUSE_SECONDS
        while self._left_seconds() > 0:
            said = self._round() or said
            # All were asked, and nobody had more: better than to keep the boot waiting.
            for broker_id, block in self._worthless.items():
                if len(self._blocks) < self._n_wanted:
                    self._blocks.setdefault(broker_id, block)
            if len(self._blocks) == self._n_wanted:
                self._feed(enough=True)
                return ""
            if self._refused >= {*self._seeds, *self._config.brokers}:
                break
            time.sleep(max(0.0, min(pause_seconds, self._left_seconds())))
            pause_seconds = min(2 * pause_seconds, LONGEST_PAUSE_SECONDS)
        if self._blocks:
            self._feed(enough=False)
            return "one broker answered, and two_brokers asks for two"
        return said

    def _round(self) -> str:
        """Ask each broker once, or fewer. Returns what the last that gave nothing said."""
        said = ""
        asked: list[tuple[str, Dial]] = [(endpoint, dial_plain) for endpoint in self._seeds]
        if time.monotonic() >= self._tls_from:
            asked += [(endpoint, dial) for endpoint in self._config.brokers]
        for i, (endpoint, dial_one) in enumerate(asked):
            if len(self._blocks) < self._n_wanted and endpoint not in self._refused:
                # A broker that is empty leaves their share of the time to the others.
                share_seconds = self._left_seconds() / (len(asked) - i)
                said = self._ask(endpoint, dial_one, share_seconds) or said
        return said

    def _left_seconds(self) -> float:
        return self._end - time.monotonic()

    def _ask(self, endpoint: str, dial_one: Dial, share_seconds: float) -> str:
        """Draw from one broker, within about its share. Returns "", or why it gave nothing."""
        left_seconds = self._left_seconds()
        if left_seconds <= 0:
            return "the time is up"
        step_seconds = min(left_seconds, LONGEST_TRY_SECONDS)
        try:
            with dial_one(self._config, self._state, endpoint, step_seconds) as connection:
                if connection.broker_id in self._blocks:
                    return f"{endpoint}: {connection.broker_id} has given its part already"
                wait_seconds = min(share_seconds, self._left_seconds()) - step_seconds
                block = connection.draw(
                    DrawKind.SEED, self._config.seed_bytes, max(0.0, wait_seconds)
                )
                blocks = self._blocks if block.credit_bits else self._worthless
                blocks[connection.broker_id] = block
        except (ConfigError, CredentialError):
            raise  # no later try can mend that
        except Refused as refused:
            if refused.code in _FOR_GOOD:
                self._refused.add(endpoint)
            return say_where(endpoint, refused)
        except (EntropyError, OSError) as error:
            return say_where(endpoint, error)
        return ""

    def _feed(self, *, enough: bool) -> None:
        """Give the kernel what came: with credit if it is from as many brokers as it must be."""
        (block, *others), broker_id = self._blocks.values(), "+".join(sorted(self._blocks))
        if others:
            from entropy.client_feed import combine

            block = combine(self._blocks)
        credited_bits, how = into_kernel(
            block.data,
            block.credit_bits if enough else 0,
            credit=self._config.credit,
            allow_shared_kernel=self._config.allow_shared_kernel,
        )
        self._state.record(
            last_fed_unix=int(time.time()),
            fed_boot_id=kernel.boot_id().hex(),
            last_credit_bits=block.credit_bits,
            credited_to_kernel_bits=credited_bits,
            last_broker=broker_id,
            last_kind="seed",
        )
        ready = "was ready before" if self._was_ready else "was not ready before"
        log(f"first seed from {broker_id}: {how}; the generator {ready}", NOTICE)


def _age_seconds() -> float:
    """How long this process has been running; starting Python counts, too. See proc(5), stat."""
    try:
        with open("/proc/self/stat", encoding="ascii", errors="replace") as file:
            after_name = file.read().rpartition(")")[2].split()
        started_seconds = int(after_name[19]) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return 0.0
    return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - started_seconds)


def _give_up() -> None:
    log("no seed within the time-out: going on without one", WARNING)
    os._exit(0)  # the main thread may hang in the resolver, or in a kernel that is not ready
