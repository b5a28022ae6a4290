"""What a client is given is what its rate says, over a real connection.

Measured with the clock of the broker itself, from the moment its limit is first reached to a
moment at which it is reached again: between the two exactly the rate flows, however late this
machine is, as long as it is not later than the burst lasts.
"""

from __future__ import annotations

import asyncio
import time

from entropy.config import ReservoirConfig
from entropy.wire.codes import RetryReason, Role
from entropy.wire.frames import Block, Retry
from tests.broker.fleet import Fleet, draw, feed

RATE, BURST = 40_000, 100_000  # two seconds and a half of being late cost nothing
N_BYTES = 512
MEASURED_SECONDS = 0.5


def test_the_rate_is_delivered_within_a_tenth(fleet: Fleet) -> None:
    async def story() -> None:
        rng1 = fleet.credential("rng1", "feed", credit_bits_per_second=10**9)
        limits = {"rate_bytes_per_second": RATE, "burst_bytes": BURST}
        vm1 = fleet.credential("vm1", "draw", **limits)
        async with fleet.broker(reservoir=ReservoirConfig(4096, 8, 16)) as broker:
            asked_at_seconds = 0.0  # by the broker's clock, when it looked at the latest draw

            def clock() -> float:
                nonlocal asked_at_seconds
                asked_at_seconds = time.monotonic()
                return asked_at_seconds

            broker.service._monotonic_seconds = clock
            feeder = await fleet.connect(broker, rng1, Role.FEEDER)
            client = await fleet.connect(broker, vm1)
            sequence = 0

            async def drawn_until_limited() -> tuple[int, float]:
                """Bytes drawn until the rate says no, and when that was by the broker's clock."""
                nonlocal sequence
                n_bytes = 0
                while True:
                    while broker.service.reservoir.held_blocks < N_BYTES // 64:
                        await feeder.request(feed(32, sequence=sequence))
                        sequence += 32
                    reply = await client.request(draw(N_BYTES))
                    if isinstance(reply, Retry):
                        assert reply.why is RetryReason.RATE
                        return n_bytes, asked_at_seconds
                    assert isinstance(reply, Block)
                    n_bytes += len(reply.data)

            burst_bytes, start_seconds = await drawn_until_limited()
            assert burst_bytes >= BURST - N_BYTES
            n_bytes, now_seconds = 0, start_seconds
            while now_seconds < start_seconds + MEASURED_SECONDS:
                await asyncio.sleep(0.05)
                more_bytes, now_seconds = await drawn_until_limited()
                n_bytes += more_bytes
            delivered = n_bytes / (now_seconds - start_seconds)
            assert 0.9 * RATE < delivered < 1.1 * RATE

    asyncio.run(story())
