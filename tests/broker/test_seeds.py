"""The port for first seeds: no TLS, the same proofs and seals inside, and nothing but seeds."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from entropy import errors
from entropy.broker.server import Broker
from entropy.config import LimitsConfig, SeedsConfig
from entropy.credentials import Credential, new_credential
from entropy.transport.endpoint import parse_endpoint
from entropy.transport.plain import NO_CERTIFICATE_SHA256, PlainConnection
from entropy.wire.client import ClientConnection
from entropy.wire.codes import DrawKind, RefusedCode, RetryReason, Role
from entropy.wire.frames import Block, Draw, Feed, Message, Recall, Refused, Welcome
from entropy.wire.keys import derive
from tests.broker.fleet import PATIENCE_SECONDS, Fleet, feed, until

SEEDS = SeedsConfig(("127.0.0.1:0",))
SEED = Draw(DrawKind.SEED, 64, 0)


class Guest:
    """A session without TLS, whoever it is of; remembers all that was on the wire."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, wire: ClientConnection
    ) -> None:
        self.reader, self.writer, self.wire = reader, writer, wire
        self.on_the_wire = b""

    async def next(self, message: Draw | Feed | Recall | None = None) -> Message:
        if message is not None:
            self.wire.send(message)
        while True:
            data = self.wire.data_to_send()
            self.on_the_wire += data
            self.writer.write(data)
            data = await asyncio.wait_for(self.reader.read(4096), PATIENCE_SECONDS)
            assert data, "it hung up"
            self.on_the_wire += data
            self.wire.receive_data(data)
            for event in self.wire.events():
                return event


@asynccontextmanager
async def guest(
    broker: Broker, credential: Credential, role: Role = Role.CLIENT
) -> AsyncIterator[Guest]:
    reader, writer = await asyncio.open_connection(*parse_endpoint(broker.seeds_addresses[0]))
    wire = ClientConnection(
        role=role,
        site_id="lab",
        id=credential.id,
        key_id=credential.key_id,
        keys=derive(credential.secret),
        boot_id=bytes(16),
        counter=1,
        nonce=bytes(32),
        certificate_sha256=NO_CERTIFICATE_SHA256,
        certificate_names=None,
    )
    try:
        yield Guest(reader, writer, wire)
    finally:
        writer.close()


def test_there_is_none_unless_told(fleet: Fleet) -> None:
    async def story() -> None:
        async with fleet.broker() as broker:
            assert broker.seeds_addresses == []

    asyncio.run(story())


def test_the_client_of_a_first_boot(fleet: Fleet) -> None:
    vm1 = fleet.credential("vm1", "draw")

    def draw_a_seed(endpoint: str) -> Block:
        with PlainConnection.connect_plain(
            endpoint,
            credential=vm1,
            keys=derive(vm1.secret),
            boot_id=bytes(16),
            counter=1,
            nonce=bytes(32),
            timeout_seconds=PATIENCE_SECONDS,
        ) as connection:
            assert connection.broker_id == "broker1"
            return connection.draw(DrawKind.SEED, 64, 0)

    async def story() -> None:
        rng1 = fleet.credential("rng1", "feed")
        async with fleet.broker(seeds=SEEDS) as broker:
            feeder = await fleet.connect(broker, rng1, Role.FEEDER)
            await feeder.request(feed(2))
            block = await asyncio.to_thread(draw_a_seed, broker.seeds_addresses[0])
            assert (len(block.data), block.credit_bits, block.origins) == (64, 448, ("rng1",))

    asyncio.run(story())


def test_what_is_on_the_wire_is_no_seed(fleet: Fleet) -> None:
    async def story() -> None:
        vm1, rng1 = fleet.credential("vm1", "draw"), fleet.credential("rng1", "feed")
        async with fleet.broker(seeds=SEEDS) as broker:
            feeder = await fleet.connect(broker, rng1, Role.FEEDER)
            await feeder.request(feed(2))
            async with guest(broker, vm1) as session:
                assert isinstance(await session.next(), Welcome)
                block = await session.next(SEED)
                assert isinstance(block, Block)
                assert block.data not in session.on_the_wire
                assert b"vm1" in session.on_the_wire  # which TLS would hide: see the threat model

    asyncio.run(story())


@pytest.mark.parametrize(
    "message",
    [
        Draw(DrawKind.TOPUP, 32, 0),
        Draw(DrawKind.SEED, 65, 0),
        Draw(DrawKind.PEER, 64, 0),
        feed(1),
        Recall(0),
    ],
    ids=lambda message: type(message).__name__,
)
def test_all_but_a_seed_is_refused(fleet: Fleet, message: Draw | Feed | Recall) -> None:
    async def story() -> None:
        everything = fleet.credential("vm1", "draw", "feed", "peer")
        rng1 = fleet.credential("rng1", "feed")
        async with fleet.broker(seeds=SEEDS) as broker:
            feeder = await fleet.connect(broker, rng1, Role.FEEDER)
            await feeder.request(feed(8))
            async with guest(broker, everything) as session:
                assert isinstance(await session.next(), Welcome)
                assert await session.next(message) == Refused(RefusedCode.PERMISSION)
            assert broker.service.reservoir.held_blocks == 8

    asyncio.run(story())


@pytest.mark.parametrize("role", [Role.FEEDER, Role.PEER])
def test_only_clients_are_let_in(fleet: Fleet, role: Role) -> None:
    async def story() -> None:
        everything = fleet.credential("vm1", "draw", "feed", "peer")
        async with fleet.broker(seeds=SEEDS) as broker:
            async with guest(broker, everything, role) as session:
                assert await session.next() == Refused(RefusedCode.PERMISSION)
            await until(lambda: not broker.sessions)

    asyncio.run(story())


def test_a_stranger_is_refused_as_ever(fleet: Fleet) -> None:
    async def story() -> None:
        fleet.credential("vm1", "draw")
        impostor = new_credential("vm1", "lab", ["draw"])
        async with fleet.broker(seeds=SEEDS) as broker:
            async with guest(broker, impostor) as session:
                assert await session.next() == Refused(RefusedCode.AUTHENTICATION)
            # who speaks TLS there does not speak the protocol
            broker.addresses[:] = broker.seeds_addresses
            with pytest.raises(errors.EntropyError):
                await fleet.connect(broker, fleet.credentials["vm1"])

    asyncio.run(story())


def test_its_limits_are_its_own(fleet: Fleet) -> None:
    """Who fills this port keeps nobody from the other."""

    async def story() -> None:
        vm1 = fleet.credential("vm1", "draw")
        limits = LimitsConfig(max_connections=2, max_connections_per_address=2)
        async with fleet.broker(seeds=SEEDS, limits=limits) as broker:
            place = parse_endpoint(broker.seeds_addresses[0])
            open_ones = [await asyncio.open_connection(*place) for _ in range(3)]
            await until(lambda: broker.over_limit() == 1)
            client = await fleet.connect(broker, vm1)
            reply = await client.request(Draw(DrawKind.TOPUP, 32, 0))
            assert reply.why is RetryReason.EMPTY  # type: ignore[union-attr]
            for _, writer in open_ones:
                writer.close()

    asyncio.run(story())


def test_a_guest_that_is_silent_or_leaves(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("entropy.broker.session.AUTH_SECONDS", 0.05)

    async def story() -> None:
        vm1 = fleet.credential("vm1", "draw")
        async with fleet.broker(seeds=SEEDS) as broker:
            place = parse_endpoint(broker.seeds_addresses[0])
            _, silent = await asyncio.open_connection(*place)
            _, leaving = await asyncio.open_connection(*place)
            leaving.write(os.urandom(3))
            leaving.close()
            await until(lambda: broker.service.refusals[RefusedCode.AUTHENTICATION])
            await until(lambda: not broker.sessions)
            silent.close()
            # and one that leaves while its draw waits leaves no claim behind
            async with guest(broker, vm1) as session:
                await session.next()
                session.wire.send(Draw(DrawKind.SEED, 64, 60_000))
                session.writer.write(session.wire.data_to_send())
                await until(lambda: len(broker.service.queue))
            await until(lambda: not broker.sessions)
            assert len(broker.service.queue) == 0

    asyncio.run(story())
