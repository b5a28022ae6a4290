"""Sessions with a real broker over real TLS on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl

import pytest

from entropy.broker import server, session
from entropy.broker.server import Broker
from entropy.credentials import Credential, new_credential
from entropy.errors import EntropyError, Refused, TransportError
from entropy.notify import NOTICE, WARNING
from entropy.transport.aio import connect
from entropy.transport.blocking import BlockingConnection
from entropy.transport.endpoint import parse_endpoint
from entropy.transport.tls import client_context
from entropy.wire.client import ClientConnection
from entropy.wire.codes import DrawKind, RefusedCode, RetryReason, Role
from entropy.wire.frames import Accepted, Feed, Recall, Retry, Welcome
from entropy.wire.frames import Refused as RefusedMessage
from entropy.wire.keys import derive
from tests.broker.fleet import Fleet, a_block, balanced, draw, feed, until


def test_feed_draw_recall(fleet: Fleet) -> None:
    async def story() -> None:
        rng1, vm1 = fleet.credential("rng1", "feed"), fleet.credential("vm1", "draw")
        async with fleet.broker() as broker:
            feeder = await fleet.connect(broker, rng1, Role.FEEDER)
            client = await fleet.connect(broker, vm1)
            assert client.broker_id == "broker1"
            assert (client.welcome.topup_bytes, client.welcome.fill_blocks) == (32, 0)
            assert await client.request(draw()) == Retry(2000, RetryReason.EMPTY)
            seed = a_block(await client.request(draw(kind=DrawKind.SEED)))
            assert (len(seed.data), seed.credit_bits, seed.origins) == (64, 0, ())
            assert await feeder.request(feed(6)) == Accepted(6, 6 * 512, 6, 64)
            block = a_block(await client.request(draw(100)))
            assert (len(block.data), block.credit_bits, block.origins) == (100, 736, ("rng1",))
            assert block.serial == seed.serial + 1
            assert await feeder.request(Recall(5)) == Accepted(5, 0, 3, 64)
            assert await feeder.request(Feed(0, 0, ())) == Accepted(5, 0, 3, 64)
            assert len(a_block(await client.request(draw(1000))).data) == 3 * 64
            assert balanced(broker)
            assert broker.service.reservoir.accounting().lost_bits == 512
            client.close()
            feeder.close()
            await until(lambda: not broker.sessions)
            recalled = "rng1: recalled its blocks from 5 on: 1 were still held and are destroyed"
            assert fleet.lines == [
                "rng1: connected from 127.0.0.1",
                recalled,
                "rng1: disconnected",
            ]
            assert [fleet.priorities[text] for text in fleet.lines] == [NOTICE, WARNING, NOTICE]

    asyncio.run(story())


def test_the_blocking_client(fleet: Fleet) -> None:
    """What runs on a VM, against what runs on a broker."""

    async def story() -> None:
        rng1, vm1 = fleet.credential("rng1", "feed"), fleet.credential("vm1", "draw")
        async with fleet.broker() as broker:

            def on_the_vm() -> tuple[int, int]:
                with BlockingConnection.connect(
                    broker.addresses[0],
                    context=client_context(str(fleet.folder / "ca.pem"), check_dates=True),
                    credential=vm1,
                    keys=derive(vm1.secret),
                    role=Role.CLIENT,
                    boot_id=bytes(16),
                    counter=1,
                    nonce=bytes(32),
                    timeout_seconds=10,
                ) as connection:
                    block = connection.draw(DrawKind.SEED, 64, 10)
                    return len(block.data), block.credit_bits

            drawing = asyncio.create_task(asyncio.to_thread(on_the_vm))
            await until(lambda: len(broker.service.queue) == 1)
            async with await fleet.connect(broker, rng1, Role.FEEDER) as feeder:
                await feeder.request(feed(1))
            assert await drawing == (64, 448)

    asyncio.run(story())


@pytest.mark.parametrize(
    ("permission", "role", "message"),
    [
        ("draw", Role.CLIENT, feed(2)),
        ("draw", Role.CLIENT, Recall(0)),
        ("draw", Role.CLIENT, draw(kind=DrawKind.PEER)),
        ("feed", Role.FEEDER, draw()),
        ("peer", Role.PEER, draw()),
        ("peer", Role.PEER, feed(2)),
    ],
)
def test_what_is_not_permitted_is_refused_and_changes_nothing(
    fleet: Fleet, permission: str, role: Role, message: Feed
) -> None:
    async def story() -> None:
        rng1, other = fleet.credential("rng1", "feed"), fleet.credential("other", permission)
        async with fleet.broker() as broker:
            feeder = await fleet.connect(broker, rng1, Role.FEEDER)
            await feeder.request(feed(5))
            before = broker.service.reservoir.accounting()
            pushing = await fleet.connect(broker, other, role)
            reply = await pushing.request(message)
            assert reply == RefusedMessage(RefusedCode.PERMISSION)
            await until(lambda: len(broker.sessions) == 1)  # the other one goes on
            assert broker.service.reservoir.accounting() == before
            assert broker.service.refusals[RefusedCode.PERMISSION] == 1
            assert isinstance(await feeder.request(feed(1, sequence=5)), Accepted)
            assert "other: refused (permission)" in fleet.lines

    asyncio.run(story())


@pytest.mark.parametrize("role", [Role.FEEDER, Role.PEER])
def test_a_role_without_its_permission(fleet: Fleet, role: Role) -> None:
    async def story() -> None:
        vm1 = fleet.credential("vm1", "draw")
        async with fleet.broker() as broker:
            with pytest.raises(Refused) as caught:
                await fleet.connect(broker, vm1, role)
            assert caught.value.code is RefusedCode.PERMISSION
            await until(lambda: not broker.sessions)

    asyncio.run(story())


async def raw_refusal(broker: Broker, fleet: Fleet, said: bytes) -> tuple[bytes, bool]:
    """Say something instead of AUTH. What came after HELLO, and if it waited for the tick."""
    loop = asyncio.get_running_loop()
    context = client_context(str(fleet.folder / "ca.pem"), check_dates=True)
    stream = await connect(broker.addresses[0], context, 10)
    hello = await stream.receive()
    said_at = loop.time()
    await stream.send(said)
    answer = b""
    while data := await stream.receive():
        answer += data
    tick = session.REFUSAL_TICK_SECONDS
    stream.close()
    assert hello
    return answer, loop.time() // tick > said_at // tick


def test_strangers_are_told_one_thing_at_one_time(fleet: Fleet) -> None:
    async def story() -> None:
        vm1 = fleet.credential("vm1", "draw")
        gone = fleet.credential("gone", "draw")
        fleet.revoke("gone")
        impostor = new_credential("vm1", "lab", ["draw"])
        wrong_key = vm1._replace(secret=bytes(32))
        unknown = new_credential("nobody", "lab", ["feed"])
        loop, tick = asyncio.get_running_loop(), session.REFUSAL_TICK_SECONDS
        async with fleet.broker() as broker:

            async def fails(credential: Credential, role: Role) -> RefusedCode:
                asked_at = loop.time()
                with pytest.raises(Refused) as caught:
                    await fleet.connect(broker, credential, role)
                assert loop.time() // tick > asked_at // tick
                return caught.value.code

            cases = [(impostor, Role.CLIENT), (wrong_key, Role.CLIENT), (wrong_key, Role.FEEDER)]
            cases += [(unknown, Role.CLIENT), (unknown, Role.PEER), (gone, Role.CLIENT)]
            codes = await asyncio.gather(*(fails(*case) for case in cases))
            garbage = await asyncio.gather(
                *(
                    raw_refusal(broker, fleet, said)
                    for said in (b"GET / HTTP/1.1\r\n\r\n", bytes(99))
                )
            )
            assert set(codes) == {RefusedCode.AUTHENTICATION}
            assert set(garbage) == {(b"\x01\x0a\x00\x01\x01", True)}
            assert broker.service.refusals[RefusedCode.AUTHENTICATION] == 8
            assert list(broker.service.logins.ids) == []  # nothing is remembered of strangers
            assert len(fleet.lines) == 1  # and little is said

    asyncio.run(story())


def test_a_client_that_says_nothing_is_refused(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        async with fleet.broker() as broker:
            assert await raw_refusal(broker, fleet, b"\x01") == (b"\x01\x0a\x00\x01\x01", True)
            await until(lambda: not broker.sessions)

    monkeypatch.setattr(session, "AUTH_SECONDS", 0.05)
    asyncio.run(story())


def test_the_idle_are_cut(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        vm1, rng1 = fleet.credential("vm1", "draw"), fleet.credential("rng1", "feed")
        async with fleet.broker() as broker:
            await fleet.connect(broker, vm1)
            await fleet.connect(broker, rng1, Role.FEEDER)
            await until(lambda: not broker.sessions)
        assert fleet.lines[-1] == "rng1: its session ended: it was silent for too long"

    monkeypatch.setitem(session.IDLE_SECONDS, Role.CLIENT, 0.05)
    monkeypatch.setitem(session.IDLE_SECONDS, Role.FEEDER, 0.05)
    asyncio.run(story())


def test_hanging_up_ends_a_waiting_draw(fleet: Fleet) -> None:
    async def story() -> None:
        vm1, rng1 = fleet.credential("vm1", "draw"), fleet.credential("rng1", "feed")
        async with fleet.broker() as broker:
            client, other = await fleet.connect(broker, vm1), await fleet.connect(broker, vm1)
            waiting = asyncio.create_task(client.request(draw(wait_ms=60_000)))
            await until(lambda: len(broker.service.queue) == 1)
            assert await other.request(draw()) == Retry(1000, RetryReason.BUSY)
            client.close()
            await until(lambda: not broker.service.queue)
            with contextlib.suppress(EntropyError):
                await waiting
            assert await other.request(draw()) == Retry(2000, RetryReason.EMPTY)
            async with await fleet.connect(broker, rng1, Role.FEEDER) as feeder:
                await feeder.request(feed(1))
            assert broker.service.reservoir.held_blocks == 1  # nobody took it
            assert not broker.service.refusals  # it broke no rule

    asyncio.run(story())


def test_a_wait_that_ends(fleet: Fleet) -> None:
    async def story() -> None:
        vm1 = fleet.credential("vm1", "draw")
        async with fleet.broker() as broker, await fleet.connect(broker, vm1) as client:
            assert await client.request(draw(wait_ms=10)) == Retry(2000, RetryReason.EMPTY)
            seed = a_block(await client.request(draw(wait_ms=10, kind=DrawKind.SEED)))
            assert (len(seed.data), seed.credit_bits) == (64, 0)

    asyncio.run(story())


def test_revocation_cuts_live_sessions(fleet: Fleet) -> None:
    async def story() -> None:
        vm1, vm2 = fleet.credential("vm1", "draw"), fleet.credential("vm2", "draw")
        async with fleet.broker() as broker:
            idle, drawing = await fleet.connect(broker, vm1), await fleet.connect(broker, vm1)
            stays = await fleet.connect(broker, vm2)
            waiting = asyncio.create_task(drawing.request(draw(wait_ms=60_000)))
            await until(lambda: len(broker.service.queue) == 1)
            fleet.revoke("vm1")
            assert await broker.apply_acl() == {"generation": 3}
            refused = RefusedMessage(RefusedCode.AUTHENTICATION)
            assert await waiting == refused
            assert await idle.request(draw()) == refused
            assert await stays.request(draw()) == Retry(2000, RetryReason.EMPTY)
            await until(lambda: len(broker.sessions) == 1)
            with pytest.raises(Refused):
                await fleet.connect(broker, vm1)

    asyncio.run(story())


def test_a_draw_that_waits_gets_nothing_once_its_key_is_revoked(fleet: Fleet) -> None:
    """Also in the moment before its session has ended."""

    async def story() -> None:
        vm1, vm2 = fleet.credential("vm1", "draw"), fleet.credential("vm2", "draw")
        rng1 = fleet.credential("rng1", "feed")
        async with fleet.broker() as broker:
            revoked, stays = await fleet.connect(broker, vm1), await fleet.connect(broker, vm2)
            await fleet.connect(broker, rng1, Role.FEEDER)
            draws = [
                asyncio.create_task(client.request(draw(wait_ms=60_000)))
                for client in (revoked, stays)
            ]
            await until(lambda: len(broker.service.queue) == 2)
            facts = next(s._facts for s in broker.sessions if s.key == ("rng1", rng1.key_id))
            assert facts is not None
            fleet.revoke("vm1")
            await broker.apply_acl()
            broker.service.feed(facts, feed(2))  # before any other task had its turn
            assert broker.service.reservoir.held_blocks == 1
            assert await draws[0] == RefusedMessage(RefusedCode.AUTHENTICATION)
            assert a_block(await draws[1]).credit_bits == 448
            assert broker.service.reservoir.accounting().delivered_bits == 448

    asyncio.run(story())


def test_shutdown_is_told_to_everybody(fleet: Fleet) -> None:
    async def story() -> None:
        vm1, rng1 = fleet.credential("vm1", "draw"), fleet.credential("rng1", "feed")
        async with fleet.broker() as broker:
            client = await fleet.connect(broker, vm1)
            feeder = await fleet.connect(broker, rng1, Role.FEEDER)
            waiting = asyncio.create_task(client.request(draw(wait_ms=60_000)))
            await until(lambda: len(broker.service.queue) == 1)
            await broker.stop()
            refused = RefusedMessage(RefusedCode.SHUTDOWN)
            assert await waiting == refused
            assert await feeder.request(feed(1)) == refused
            assert not broker.sessions
            with pytest.raises(TransportError):
                await fleet.connect(broker, vm1)
            assert balanced(broker)

    asyncio.run(story())


def test_who_does_not_heed_retry_is_cut(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        vm1 = fleet.credential("vm1", "draw")
        async with fleet.broker() as broker, await fleet.connect(broker, vm1) as client:
            for _ in range(5):
                assert isinstance(await client.request(draw()), Retry)
            assert await client.request(draw()) == RefusedMessage(RefusedCode.LIMIT)

    monkeypatch.setattr(session, "MAX_RETRIES_IN_A_ROW", 5)
    asyncio.run(story())


def test_an_id_has_so_many_sessions(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        vm1, vm2 = fleet.credential("vm1", "draw"), fleet.credential("vm2", "draw")
        async with fleet.broker() as broker:
            sessions = [await fleet.connect(broker, vm1) for _ in range(3)]
            with pytest.raises(Refused) as caught:
                await fleet.connect(broker, vm1)
            assert caught.value.code is RefusedCode.LIMIT
            sessions.append(await fleet.connect(broker, vm2))
            sessions.pop(0).close()
            await until(lambda: len(broker.sessions) == 3)
            sessions.append(await fleet.connect(broker, vm1))

    monkeypatch.setattr(session, "MAX_SESSIONS_OF_ONE_ID", 3)
    asyncio.run(story())


def test_the_ephemeral_key_is_replaced(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        vm1 = fleet.credential("vm1", "draw")
        async with fleet.broker() as broker:
            # A session that began before proves itself after.
            context = client_context(str(fleet.folder / "ca.pem"), check_dates=True)
            stream = await connect(broker.addresses[0], context, 10)
            hello = await stream.receive()
            await until(lambda: broker.ephemeral.public not in hello)
            wire = ClientConnection(
                role=Role.CLIENT,
                site_id="lab",
                id="vm1",
                key_id=vm1.key_id,
                keys=derive(vm1.secret),
                boot_id=bytes(16),
                counter=1,
                nonce=bytes(32),
                certificate_sha256=stream.certificate_sha256,
                certificate_names=stream.certificate_names,
            )
            wire.receive_data(hello)
            await stream.send(wire.data_to_send())
            wire.receive_data(await stream.receive())
            assert [type(message) for message in wire.events()] == [Welcome]
            stream.close()

    monkeypatch.setattr(server, "EPHEMERAL_SECONDS", 0.02)
    asyncio.run(story())


def test_clones_raise_alarms_and_are_served(fleet: Fleet) -> None:
    async def story() -> None:
        vm1 = fleet.credential("vm1", "draw")
        async with fleet.broker() as broker:
            for boot_id, counter in (
                (b"a" * 16, 7),
                (b"a" * 16, 7),
                (b"b" * 16, 1),
                (b"a" * 16, 8),
            ):
                client = await fleet.connect(broker, vm1, boot_id=boot_id, counter=counter)
                async with client:
                    assert a_block(await client.request(draw(kind=DrawKind.SEED)))
            alarms = broker.status()["alarms"]
            assert [alarm["text"][:5] for alarm in alarms] == ["vm1: "] * 2
            assert [fleet.priorities[alarm["text"]] for alarm in alarms] == [WARNING] * 2

    asyncio.run(story())


def test_nothing_that_strangers_send_stops_it(fleet: Fleet) -> None:
    """Thousands of connections with garbage, inside and outside of TLS, while a client draws."""
    n_plain, n_inside = 2000, 60

    async def plain(host: str, port: int) -> None:
        with contextlib.suppress(OSError):
            sock = socket.socket()
            sock.setblocking(False)
            try:
                loop = asyncio.get_running_loop()
                await loop.sock_connect(sock, (host, port))
                await loop.sock_sendall(sock, os.urandom(200))
            finally:
                sock.close()

    async def inside(broker: Broker, i: int) -> None:
        context = client_context(str(fleet.folder / "ca.pem"), check_dates=True)
        with contextlib.suppress(EntropyError, OSError, ssl.SSLError):
            stream = await connect(broker.addresses[0], context, 10)
            garbage = (os.urandom(200), b"\x01\x02\x02\x00" + os.urandom(512), b"\x01\x02\xff\xff")
            await stream.send(garbage[i % 3])
            stream.close()

    async def story() -> None:
        vm1, rng1 = fleet.credential("vm1", "draw"), fleet.credential("rng1", "feed")
        async with fleet.broker() as broker:
            host, port = parse_endpoint(broker.addresses[0])
            feeder = await fleet.connect(broker, rng1, Role.FEEDER)
            client = await fleet.connect(broker, vm1)
            for n in range(20):
                await asyncio.gather(*(plain(host, port) for _ in range(n_plain // 20)))
                await asyncio.gather(*(inside(broker, i) for i in range(n_inside // 20)))
                await feeder.request(feed(1, sequence=n))
                assert a_block(await client.request(draw())).credit_bits == 448
            await until(lambda: len(broker.sessions) == 2)
            await until(lambda: broker.failed_handshakes() + broker.over_limit() > n_plain // 2)
            assert balanced(broker)

    asyncio.run(story())


def test_a_broken_frame_after_the_proof_ends_that_session_only(fleet: Fleet) -> None:
    async def story() -> None:
        vm1 = fleet.credential("vm1", "draw")
        async with fleet.broker() as broker:
            broken, good = await fleet.connect(broker, vm1), await fleet.connect(broker, vm1)
            await broken._stream.send(b"\x01\x04\x00\x17" + bytes(23))
            with contextlib.suppress(EntropyError):
                assert await broken.request(draw()) == RefusedMessage(RefusedCode.PROTOCOL)
            await until(lambda: len(broker.sessions) == 1)
            assert broker.service.refusals[RefusedCode.PROTOCOL] == 1
            assert isinstance(await good.request(draw()), Retry)

    asyncio.run(story())


def test_a_key_that_was_replaced_under_its_id_is_cut_too(fleet: Fleet) -> None:
    async def story() -> None:
        vm1 = fleet.credential("vm1", "draw")
        async with fleet.broker() as broker:
            client = await fleet.connect(broker, vm1)
            fleet.credentials["vm1"] = vm1._replace(secret=bytes(32))
            fleet.publish()
            await broker.apply_acl()
            assert await client.request(draw()) == RefusedMessage(RefusedCode.AUTHENTICATION)

    asyncio.run(story())


def test_ipv6_beside_ipv4(fleet: Fleet) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")

    async def story() -> None:
        vm1 = fleet.credential("vm1", "draw")
        both = ("127.0.0.1:0", "[::1]:0")
        async with fleet.broker(listen=both) as broker:
            assert [address.rpartition(":")[0] for address in broker.addresses] == [
                "127.0.0.1",
                "[::1]",
            ]
            for _ in both:
                client = await fleet.connect(broker, vm1)
                assert isinstance(await client.request(draw()), Retry)
                broker.addresses.reverse()

    asyncio.run(story())


def test_two_draws_of_one_machine_at_a_time_raise_no_alarm(fleet: Fleet) -> None:
    """`entropy draw` beside the client: the later number may prove itself first."""

    async def story() -> None:
        vm1 = fleet.credential("vm1", "draw")
        async with fleet.broker() as broker:
            for counter in (7, 9, 8, 10):
                await fleet.connect(broker, vm1, counter=counter)
            assert broker.service.alarms.n == 0
            await fleet.connect(broker, vm1, counter=8)  # a copy of it
            assert broker.service.alarms.n == 1
            assert "counter went from 10 to 8" in fleet.lines[-1]

    asyncio.run(story())
