"""Two real brokers, feeders and clients that come, go and hang up, all at once.

Both brokers' kernels give nothing but zeros and every feeder feeds the same block over and over:
still no two replies share their bytes, and the fleet's sum holds.
"""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from entropy.broker.server import Broker
from entropy.config import LimitsConfig, ReservoirConfig
from entropy.credentials import Credential
from entropy.wire.codes import DrawKind, Role
from entropy.wire.frames import Block, Feed, Recall
from tests.broker.fleet import Fleet, balanced, draw, until

pytestmark = pytest.mark.usefixtures("fast_peers")

MARKS = ReservoirConfig(48, 8, 16)
LIMITS = LimitsConfig(rate_bytes_per_second=10**6, burst_bytes=10**6, seed_interval_seconds=1)
SAME_BLOCK = bytes(range(64))


class Storm:
    """What everybody does, and what came of it."""

    def __init__(self, fleet: Fleet, brokers: list[Broker], seed: int) -> None:
        self.fleet = fleet
        self.brokers = brokers
        self.chance = random.Random(seed)
        self.claimed_bits = 0
        self.received_bits = 0
        self.n_hung_up = 0
        self.pieces: list[bytes] = []

    async def feeder(self, credential: Credential, broker: Broker) -> None:
        session = await self.fleet.connect(broker, credential, Role.FEEDER)
        sequence = 0
        for _ in range(40):
            n_blocks = self.chance.randrange(9)
            self.claimed_bits += 512 * n_blocks
            await session.request(Feed(sequence, 512 * n_blocks, (SAME_BLOCK,) * n_blocks))
            sequence += n_blocks
            if self.chance.random() < 0.1:
                await session.request(Recall(max(0, sequence - 3)))
            await asyncio.sleep(0)
        session.close()

    async def client(self, credential: Credential) -> None:
        for _ in range(8):
            session = await self.fleet.connect(self.chance.choice(self.brokers), credential)
            for _ in range(self.chance.randrange(1, 5)):
                kind = self.chance.choice((DrawKind.SEED, DrawKind.TOPUP))
                n_bytes = self.chance.choice((32, 64, 200))
                message = draw(n_bytes, kind=kind, wait_ms=self.chance.choice((0, 5, 20)))
                asking = asyncio.create_task(session.request(message))
                if self.chance.random() < 0.15:
                    await asyncio.sleep(0)
                    asking.cancel()  # closes the connection
                    await asyncio.gather(asking, return_exceptions=True)
                    self.n_hung_up += 1
                    break
                reply = await asking
                if isinstance(reply, Block):
                    assert reply.credit_bits <= 8 * len(reply.data)
                    self.received_bits += reply.credit_bits
                    data = reply.data
                    self.pieces += [data[at : at + 16] for at in range(0, len(data) - 15, 64)]
            session.close()


@pytest.mark.parametrize("seed", [1, 2])
def test_storm(fleet: Fleet, seed: int) -> None:
    async def story() -> None:
        loop_errors: list[dict[str, Any]] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: loop_errors.append(context))
        fleet.credential("broker2", "peer")
        feeders = [fleet.credential(f"rng{i}", "feed") for i in (1, 2)]
        clients = [fleet.credential(f"vm{i}", "draw") for i in range(10)]
        settings: dict[str, Any] = {"random": bytes, "reservoir": MARKS, "limits": LIMITS}
        async with fleet.broker("broker1", **settings) as one:
            peers = (fleet.peer("broker1", one, "broker2"),)
            async with fleet.broker("broker2", peers=peers, **settings) as two:
                storm = Storm(fleet, [one, two], seed)
                await asyncio.gather(
                    storm.feeder(feeders[0], one),
                    storm.feeder(feeders[1], one),
                    *(storm.client(client) for client in clients),
                )
                session = await fleet.connect(one, feeders[0], Role.FEEDER)
                storm.claimed_bits += 32 * 512
                await session.request(Feed(0, 32 * 512, (SAME_BLOCK,) * 32))
                await until(lambda: two.service.reservoir.accounting().imported_bits)
            # both at rest: broker2 has stopped, and draws no more
            accounts = [broker.service.reservoir.accounting() for broker in (one, two)]
            assert all(map(balanced, (one, two)))
            assert storm.claimed_bits == accounts[0].fed_bits
            assert accounts[1].imported_bits <= accounts[0].exported_bits
            delivered_bits = sum(account.delivered_bits for account in accounts)
            assert storm.received_bits <= delivered_bits
            if not storm.n_hung_up:
                assert storm.received_bits == delivered_bits
            assert len(set(storm.pieces)) == len(storm.pieces) > 50
        assert loop_errors == []

    asyncio.run(story())
