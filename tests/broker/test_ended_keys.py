"""A key that has ended is of no use: not in a new session, and not in one that was open before."""

from __future__ import annotations

import asyncio
import time

import pytest

from entropy.broker.server import Broker
from entropy.broker.session import GOODBYE_SECONDS
from entropy.credentials import Credential
from entropy.errors import EntropyError, Refused
from entropy.transport.aio import AsyncClientConnection, TlsStream
from entropy.wire.codes import DrawKind, RefusedCode, Role
from entropy.wire.frames import Block
from entropy.wire.frames import Refused as RefusedMessage
from tests.broker.fleet import Fleet, draw, feed, until
from tests.broker.test_control import command

CUT_SECONDS = 2.0
REFUSED = RefusedMessage(RefusedCode.AUTHENTICATION)


async def gets_nothing(connection: AsyncClientConnection) -> bool:
    """Whether an open session answers a draw with anything but bytes."""
    try:
        return not isinstance(await connection.request(draw(kind=DrawKind.SEED)), Block)
    except EntropyError:
        return True


async def is_refused(fleet: Fleet, broker: Broker, credential: Credential) -> bool:
    try:
        await fleet.connect(broker, credential)
    except Refused as refused:
        return refused.code is RefusedCode.AUTHENTICATION
    return False


def test_every_session_of_a_revoked_id_is_cut_in_time(fleet: Fleet) -> None:
    """Idle, waiting, busy in the middle of a draw, of both keys of a rotation; others go on.

    Each is cut at once, and given GOODBYE_SECONDS to be told so: two seconds are never reached.
    """
    assert GOODBYE_SECONDS < CUT_SECONDS

    async def story() -> None:
        vm1, other = fleet.credential("vm1", "draw"), fleet.credential("vm2", "draw")
        rng1, fresh = fleet.credential("rng1", "feed"), fleet.second_key("vm1")
        async with fleet.broker() as broker:
            idle = [await fleet.connect(broker, key) for key in (vm1, fresh, vm1)]
            drawing = await fleet.connect(broker, fresh)
            stays = await fleet.connect(broker, other)
            feeder = await fleet.connect(broker, rng1, Role.FEEDER)
            waiting = asyncio.create_task(drawing.request(draw(wait_ms=60_000)))
            await until(lambda: len(broker.service.queue) == 1)
            fleet.second_keys.clear()
            fleet.revoke("vm1")
            assert (await command(broker, "apply-acl"))["ok"]
            assert await waiting == REFUSED
            await until(lambda: len(broker.sessions) == 2)
            assert not broker.service.queue
            await feeder.request(feed(4))
            for session in (*idle, drawing):
                assert await gets_nothing(session)
            for key in (vm1, fresh):
                assert await is_refused(fleet, broker, key)
            assert broker.service.reservoir.held_blocks == 4  # nothing was given
            assert isinstance(await stays.request(draw()), Block)

    asyncio.run(story())


def test_a_client_that_takes_nothing_is_cut_as_well(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker hangs in sending to it, and does not wait for that to end."""

    async def story() -> None:
        vm1 = fleet.credential("vm1", "draw")
        async with fleet.broker() as broker:
            deaf = await fleet.connect(broker, vm1)
            await until(lambda: any(session.key for session in broker.sessions))
            (session,) = broker.sessions
            real_send, deaf_stream = TlsStream.send, session._stream

            async def stuck(stream: TlsStream, data: bytes) -> None:
                if stream is deaf_stream:
                    await asyncio.get_running_loop().create_future()
                await real_send(stream, data)

            monkeypatch.setattr(TlsStream, "send", stuck)
            asking = asyncio.create_task(deaf.request(draw()))
            await until(lambda: session._sending)
            fleet.revoke("vm1")
            await command(broker, "apply-acl")
            await until(lambda: not broker.sessions)
            with pytest.raises(EntropyError):
                await asking

    asyncio.run(story())


def test_only_the_key_that_ended_is_cut(fleet: Fleet) -> None:
    """A rotation that ends: the old key's sessions go, the new key's stay."""

    async def story() -> None:
        old, rng1 = fleet.credential("vm1", "draw"), fleet.credential("rng1", "feed")
        fresh = fleet.second_key("vm1")
        async with fleet.broker() as broker:
            async with await fleet.connect(broker, rng1, Role.FEEDER) as feeder:
                await feeder.request(feed(8))
            with_old = await fleet.connect(broker, old)
            with_new = await fleet.connect(broker, fresh)
            fleet.credentials["vm1"] = fresh
            fleet.second_keys.clear()
            fleet.publish()
            await command(broker, "apply-acl")
            await until(lambda: len(broker.sessions) == 1)
            assert await gets_nothing(with_old)
            assert isinstance(await with_new.request(draw()), Block)
            assert await is_refused(fleet, broker, old)

    asyncio.run(story())


@pytest.mark.parametrize("how", ["not_after", "first use"])
def test_a_key_expires_in_the_middle_of_a_session(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    start_unix = time.time()
    clock: list[float] = [start_unix]
    ends: dict[str, dict[str, int]] = {
        "not_after": {"not_after_unix": int(start_unix) + 100},
        "first use": {"expires_after_use_seconds": 100},
    }

    async def story() -> None:
        vm1, rng1 = fleet.credential("vm1", "draw", **ends[how]), fleet.credential("rng1", "feed")
        async with fleet.broker() as broker:
            broker.service.logins._unix_seconds = lambda: clock[0]
            feeder = await fleet.connect(broker, rng1, Role.FEEDER)
            await feeder.request(feed(8))
            session = await fleet.connect(broker, vm1)
            assert isinstance(await session.request(draw()), Block)
            clock[0] = start_unix + 101
            assert await gets_nothing(session)
            assert await is_refused(fleet, broker, vm1)
            assert "vm1: its credential has expired and is still in use" in fleet.lines
        if how == "first use":  # and a restart of the broker extends nothing
            async with fleet.broker() as broker:
                broker.service.logins._unix_seconds = lambda: clock[0]
                assert await is_refused(fleet, broker, vm1)
                clock[0] = start_unix + 50
                await fleet.connect(broker, vm1)

    asyncio.run(story())
