"""One round of drawing: from a broker, or from two, into this machine's kernel.

Imports TLS and ciphers; the resident client runs it in a child (client_child.py) and stays small.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Sequence
from contextlib import ExitStack

from entropy import kernel
from entropy.client_pace import LONGEST_BACKOFF_SECONDS, Fed, Nothing
from entropy.client_state import ClientState
from entropy.config import ClientConfig
from entropy.dial import dial, say_where
from entropy.errors import EntropyError, KernelError, RetryLater
from entropy.into_kernel import into_kernel
from entropy.notify import NOTICE, WARNING, log
from entropy.transport.blocking import BlockingConnection
from entropy.wire.codes import DrawKind
from entropy.wire.frames import Block, Welcome

MOST_TOPUP_BYTES = 512  # of what WELCOME may name; a kernel's pool holds 32, or once 512
_LABEL = b"entropy/1 two brokers"


class Client:
    """Feeds one kernel from a list of brokers, in the order of the list.

    told: reasons for no credit that were given before, and need not be again.
    """

    def __init__(self, config: ClientConfig, told: Sequence[str] = ()) -> None:
        self.told = list(told)
        self._config = config
        self._state = ClientState(config.state_dir)
        self.last_fed = ""  # by whom and what, in words

    def begin_generation(self, sign: bytes) -> None:
        """This machine is a clone, or restored: it logs in under another boot id from now on.

        sign: whatever its platform tells it apart by. The kernel's generator may be its twin's
        still, and so may the clocks: then both take the same id, and the broker notices.
        """
        boot_id = kernel.boot_id()
        parts = (b"entropy/1 generation", boot_id, sign, kernel.clocks(), kernel.random_bytes(32))
        whole = b"".join(len(part).to_bytes(2, "big") + part for part in parts)
        self._state.begin_generation(boot_id, hashlib.sha256(whole).digest()[:16])

    def feed(self, kind: DrawKind, timeout_seconds: float, n_bytes: int = 0) -> Fed | Nothing:
        """Ask each broker in turn until one gives bytes that are worth something.

        n_bytes: 0 for what the configuration (seeds) or the broker (top-ups) names. Never raises
        what a broker or the network did; KernelError if the kernel takes nothing.
        """
        outcome = self._feed(kind, timeout_seconds, n_bytes)
        self._state.keep()
        return outcome

    def _feed(self, kind: DrawKind, timeout_seconds: float, n_bytes: int) -> Fed | Nothing:
        deadline = time.monotonic() + timeout_seconds
        if kind is DrawKind.SEED and self._config.two_brokers:
            return self._feed_from_two(deadline)
        fed: Fed | None = None
        wait = _Wait()
        brokers = self._config.brokers
        for i, endpoint in enumerate(brokers):
            # A broker that does not answer leaves their share of the time to the others.
            share_seconds = (deadline - time.monotonic()) / (len(brokers) - i)
            try:
                fed = self._feed_from(endpoint, kind, max(share_seconds, 0.1), n_bytes)
            except KernelError:
                raise  # another broker's bytes would be lost as well
            except (EntropyError, OSError) as error:
                wait.note(endpoint, error)
            else:
                if fed.credit_bits:
                    break
        return Nothing(wait.seconds) if fed is None else fed

    def _feed_from(
        self, endpoint: str, kind: DrawKind, timeout_seconds: float, n_bytes: int
    ) -> Fed:
        # A third for getting there and a third for the way back; what is left of the time may
        # go by in the broker's queue.
        step_seconds = timeout_seconds / 3
        queue_end = time.monotonic() + timeout_seconds - step_seconds
        with dial(self._config, self._state, endpoint, step_seconds) as connection:
            welcome = connection.welcome
            if kind is DrawKind.TOPUP:
                n_bytes = max(1, min(n_bytes or welcome.topup_bytes, MOST_TOPUP_BYTES))
                n_bytes = min(n_bytes, max(1, welcome.burst_bytes))
            else:
                n_bytes = self._config.seed_bytes
            block = connection.draw(kind, n_bytes, max(0.0, queue_end - time.monotonic()))
            # Before the goodbyes: the kernel waits for it.
            return self._take(kind, block, welcome, connection.broker_id, endpoint)

    def _feed_from_two(self, deadline: float) -> Fed | Nothing:
        """A seed of two brokers with different ids, both of them logged in before either draws.

        Nothing when they are not to be had: a block of one alone is not even asked for.
        """
        wait = _Wait()
        with ExitStack() as stack:
            found: dict[str, tuple[str, BlockingConnection]] = {}
            brokers = self._config.brokers
            for i, endpoint in enumerate(brokers):
                if len(found) == 2:
                    break
                # Half of the time is for the draws.
                left_seconds = (deadline - time.monotonic()) / (2 * (len(brokers) - i))
                try:
                    connection = dial(self._config, self._state, endpoint, max(left_seconds, 0.1))
                except (EntropyError, OSError) as error:
                    wait.note(endpoint, error)
                    continue
                stack.callback(connection.close)
                # The virtual address leads to a broker that is in the list under its own, too.
                found.setdefault(connection.broker_id, (endpoint, connection))
            if len(found) < 2:
                known = " and ".join(found) or "none"
                log(f"a seed takes two brokers, and these can be had: {known}", WARNING)
                return Nothing(wait.seconds)
            return self._draw_two(found, deadline, wait)

    def _draw_two(
        self, found: dict[str, tuple[str, BlockingConnection]], deadline: float, wait: _Wait
    ) -> Fed | Nothing:
        n_bytes = self._config.seed_bytes
        blocks: dict[str, Block] = {}
        for broker_id, (endpoint, connection) in found.items():
            share_seconds = (deadline - time.monotonic()) / (2 - len(blocks))
            try:
                blocks[broker_id] = connection.draw(
                    DrawKind.SEED, n_bytes, max(0.0, share_seconds / 2)
                )
            except (EntropyError, OSError) as error:
                wait.note(endpoint, error)
                return Nothing(wait.seconds)
        welcome = next(connection.welcome for _, connection in found.values())
        endpoints = ", ".join(endpoint for endpoint, _ in found.values())
        return self._take(
            DrawKind.SEED, combine(blocks), welcome, "+".join(sorted(blocks)), endpoints
        )

    def _take(
        self, kind: DrawKind, block: Block, welcome: Welcome, broker_id: str, endpoint: str
    ) -> Fed:
        config = self._config
        credited_bits, how = into_kernel(
            block.data,
            block.credit_bits,
            credit=config.credit,
            allow_shared_kernel=config.allow_shared_kernel,
        )
        how, _, why = how.partition(": ")
        if why and why not in self.told:
            self.told.append(why)
            log(f"mixing in without credit: {why}", NOTICE)
        self._state.record(
            last_fed_unix=int(time.time()),
            fed_boot_id=kernel.boot_id().hex(),
            last_credit_bits=block.credit_bits,
            credited_to_kernel_bits=credited_bits,
            last_broker=broker_id,
            last_kind=kind.name.lower(),
        )
        what = f"{kind.name.lower()}: {len(block.data)} bytes worth {block.credit_bits} bits"
        log(f"{what} from {broker_id} ({endpoint}), {how}")
        self.last_fed = f"{broker_id}: {what}"
        interval_seconds = config.interval_seconds or welcome.topup_interval_seconds
        return Fed(block.credit_bits, interval_seconds, welcome.rate_bytes_per_second)


def combine(blocks: dict[str, Block]) -> Block:
    """One block out of one of each broker, by id: HMAC-SHA-512 over all of them.

    As long as the shortest, worth as much as the poorest, and as secret as the most secret: a
    broker that knows its own bytes and lies about their worth decides nothing.
    """
    whole = b""
    for broker_id, block in sorted(blocks.items()):
        for part in (broker_id.encode(), block.data):
            whole += len(part).to_bytes(4, "big") + part
    n_bytes = min(len(block.data) for block in blocks.values())
    data = hmac.digest(_LABEL, whole, "sha512")[:n_bytes]
    credit_bits = min(min(block.credit_bits for block in blocks.values()), 8 * len(data))
    origins = tuple(sorted({origin for block in blocks.values() for origin in block.origins}))
    return Block(0, credit_bits, origins, data)


class _Wait:
    """What brokers that gave nothing said: how long to leave them alone."""

    def __init__(self) -> None:
        self.seconds = LONGEST_BACKOFF_SECONDS  # no broker silences us for longer

    def note(self, endpoint: str, error: Exception) -> None:
        told_seconds = error.after_seconds if isinstance(error, RetryLater) else 0.0
        self.seconds = min(self.seconds, told_seconds)
        log(say_where(endpoint, error), WARNING)
