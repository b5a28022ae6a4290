"""`entropy draw`: bytes of a broker on standard output, for people and for scripts."""

from __future__ import annotations

import time
from typing import BinaryIO

from entropy import kernel
from entropy.client_state import ClientState
from entropy.config import ClientConfig
from entropy.dial import check, dial, say_where
from entropy.errors import EntropyError, Refused, RetryLater, TransportError
from entropy.notify import log
from entropy.transport.blocking import BlockingConnection
from entropy.wire.codes import DrawKind, RefusedCode

MOST_BYTES_PER_DRAW = 4096
TIMEOUT_SECONDS = 10.0
WAIT_SECONDS = 5.0  # in the broker's queue, for one draw
FIRST_PAUSE_SECONDS = 0.1  # before a broker that failed is tried again; doubles, and is spread
LONGEST_PAUSE_SECONDS = 2.0
GIVE_UP_SECONDS = 30.0  # without an answer from any broker


def run(config: ClientConfig, n_bytes: int, output: BinaryIO) -> int:
    """Write `n_bytes` bytes to `output`; messages go to standard error. Returns 0.

    Waits as long as the brokers say "later"; goes on with the next one when one fails.
    Raises TransportError when none has answered for 30 s, and other EntropyErrors when
    all of them refuse.
    """
    check(config)
    _Draw(config, n_bytes, output).run()
    return 0


def _pause_seconds(n_failures: int) -> float:
    """How long a broker is left alone that has failed now, and n_failures times before in a row.

    From FIRST_PAUSE_SECONDS on it doubles; between half of that and the whole, so that those who
    lost a broker together do not come back together.
    """
    longest = min(FIRST_PAUSE_SECONDS * 2.0 ** min(n_failures, 30), LONGEST_PAUSE_SECONDS)
    noise = kernel.random_bytes(1) or b"\0"
    return longest * (0.5 + noise[0] / 510)


def _passes(error: EntropyError) -> bool:
    """Whether a broker may answer again without a person's help."""
    if isinstance(error, Refused):
        return error.code in (RefusedCode.SHUTDOWN, RefusedCode.LIMIT)
    return isinstance(error, TransportError)


class _Draw:
    def __init__(self, config: ClientConfig, n_bytes: int, output: BinaryIO) -> None:
        self._config = config
        self._state = ClientState(config.state_dir)
        self._left_bytes = n_bytes
        self._output = output
        self._credit_bits = 0
        self._broker_ids: list[str] = []
        self._answered = time.monotonic()

    def run(self) -> None:
        asked_bytes = self._left_bytes
        # When each broker may be asked (again), and what the last thing it did wrong was.
        due = dict.fromkeys(self._config.brokers, 0.0)
        failed: dict[str, EntropyError] = {}
        n_failures = dict.fromkeys(due, 0)  # in a row
        while self._left_bytes:
            endpoint = min(due, key=lambda e: due[e])  # min takes the first of equals
            pause_seconds = due[endpoint] - time.monotonic()
            if pause_seconds > 0:
                time.sleep(pause_seconds)
            try:
                self._draw_from(endpoint)
            except RetryLater as error:
                self._answered = time.monotonic()
                failed.pop(endpoint, None)
                n_failures[endpoint] = 0
                due[endpoint] = self._answered + max(error.after_seconds, 0.05)
                log(say_where(endpoint, error))
            except EntropyError as error:
                now = time.monotonic()
                due[endpoint] = now + _pause_seconds(n_failures[endpoint])
                n_failures[endpoint] += 1
                if str(error) != str(failed.get(endpoint)):
                    log(say_where(endpoint, error))
                failed[endpoint] = error
                lost = [e for e in failed.values() if not _passes(e)]
                if len(failed) == len(due) and (
                    len(lost) == len(due) or now - self._answered > GIVE_UP_SECONDS
                ):
                    raise error
        log(
            f"{asked_bytes} bytes worth {self._credit_bits} bits from {', '.join(self._broker_ids)}"
        )

    def _draw_from(self, endpoint: str) -> None:
        """Draw what is missing from one broker, in as many draws as it takes."""
        with dial(self._config, self._state, endpoint, TIMEOUT_SECONDS) as connection:
            while self._left_bytes:
                self._draw_some(connection)

    def _draw_some(self, connection: BlockingConnection) -> None:
        most_bytes = max(1, min(MOST_BYTES_PER_DRAW, connection.welcome.burst_bytes))
        n_bytes = min(self._left_bytes, most_bytes)
        block = connection.draw(DrawKind.TOPUP, n_bytes, WAIT_SECONDS)
        data = block.data[: self._left_bytes]
        self._output.write(data)
        self._output.flush()
        self._answered = time.monotonic()
        self._left_bytes -= len(data)
        self._credit_bits += block.credit_bits
        broker_id = str(connection.broker_id)
        if broker_id not in self._broker_ids:
            self._broker_ids.append(broker_id)
