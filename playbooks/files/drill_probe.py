"""What a client notices: draw again and again from these endpoints, and say how long each took.

    drill_probe.py SECONDS ENDPOINT...

Runs on a client's machine with its client.toml. Prints one line of JSON: how many draws were
answered, by which brokers, and how long the slowest took from its first try to its answer.
"""

from __future__ import annotations

import json
import sys
import time

from entropy.client_state import ClientState
from entropy.config import load_client
from entropy.dial import dial
from entropy.errors import EntropyError, RetryLater
from entropy.wire.codes import DrawKind

CONFIG = "/etc/entropy/client.toml"
N_BYTES = 8  # 32 bytes per second: half of what one client may draw by default
INTERVAL_SECONDS = 0.25
TRY_SECONDS = 2.0  # for one try; a balancer that hangs is not waited for longer
PAUSE_SECONDS = 0.1


def main() -> None:
    seconds, endpoints = float(sys.argv[1]), sys.argv[2:]
    config = load_client(CONFIG)
    state = ClientState(config.state_dir)
    start = time.monotonic()
    by_broker: dict[str, int] = {}
    errors: dict[str, int] = {}
    slowest_seconds, slowest_at_seconds = 0.0, 0.0
    while time.monotonic() - start < seconds:
        begun, n_tries, broker_id = time.monotonic(), 0, ""
        while not broker_id and time.monotonic() - start < seconds + 60:
            endpoint = endpoints[n_tries % len(endpoints)]
            n_tries += 1
            try:
                with dial(config, state, endpoint, TRY_SECONDS) as connection:
                    connection.draw(DrawKind.TOPUP, N_BYTES, 1.0)
                    broker_id = str(connection.broker_id)
            except EntropyError as error:
                later = isinstance(error, RetryLater)
                what = "told to come later" if later else str(error)
                errors[what] = errors.get(what, 0) + 1
                time.sleep(PAUSE_SECONDS)
        took_seconds = time.monotonic() - begun
        if broker_id:
            by_broker[broker_id] = by_broker.get(broker_id, 0) + 1
        if took_seconds > slowest_seconds:
            slowest_seconds, slowest_at_seconds = took_seconds, begun - start
        time.sleep(max(0.0, INTERVAL_SECONDS - took_seconds))
    print(
        json.dumps(
            {
                "draws": sum(by_broker.values()),
                "by_broker": by_broker,
                "slowest_seconds": round(slowest_seconds, 2),
                "slowest_at_seconds": round(slowest_at_seconds, 1),
                "errors": errors,
            }
        )
    )


if __name__ == "__main__":
    main()
