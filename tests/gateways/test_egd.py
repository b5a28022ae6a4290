"""The EGD gateway between real brokers over TLS and readers on real sockets."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from pathlib import Path

import pytest

from entropy.broker.server import Broker
from entropy.config import AdminConfig, LimitsConfig
from entropy.credentials import dump_credential
from entropy.errors import ConfigError
from entropy.gateways.egd import EgdGateway
from tests.broker.fleet import balanced
from tests.gateways.site import FAST_IN_ALL, WORTH_BYTES, Site, asked, reading, until


def delivered_bytes(broker: Broker) -> int:
    (client,) = [c for c in broker.status()["clients"] if c["id"] == "gw1"]
    return int(client["delivered_bytes"])


def test_readers_get_what_the_broker_was_debited_for(site: Site) -> None:
    async def scenario() -> None:
        async with site.fleet.broker() as broker, site.gateway(broker) as gateway:
            await site.feed(broker, 20)
            async with reading(site.socket) as one, reading(site.socket) as other:
                got = await asked(one, b"\x02\xff", 255)
                got += await asked(other, b"\x02\xff", 255)
                await until(lambda: not gateway.buffer.has_room)
                assert await asked(one, b"\x00", 4) == (8 * len(gateway.buffer)).to_bytes(4, "big")
                assert await asked(one, b"\x04", 1) == bytes([len(str(os.getpid()))])
            buffer = gateway.buffer
            assert buffer.handed_out_bytes == 510
            assert buffer.drawn_bytes == delivered_bytes(broker)
            assert buffer.drawn_bytes // 64 * WORTH_BYTES == 510 + len(buffer)
            assert buffer.drawn_bits == 8 * (510 + len(buffer))
            assert balanced(broker)
            assert len(set(got)) > 150, "bytes that look like any"
        assert len(gateway.buffer) == 0
        assert not site.socket.exists()

    asyncio.run(scenario())


def test_without_a_broker_who_waits_waits_and_who_does_not_gets_nothing(site: Site) -> None:
    async def scenario() -> None:
        with socket.socket() as held:  # a port at which nobody answers
            held.bind(("127.0.0.1", 0))
            endpoint = f"127.0.0.1:{held.getsockname()[1]}"
            async with site.gateway(endpoint) as gateway, reading(site.socket) as streams:
                assert await asked(streams, b"\x01\xff", 1) == b"\x00"
                assert await asked(streams, b"\x00", 4) == bytes(4)
                streams[1].write(b"\x02\x08")
                await until(lambda: gateway.drawing.last_error and gateway.desk.n_waiting)
                assert gateway.not_ready() == gateway.drawing.last_error
                dry = f"1 readers, 1 wait; no broker; dry: {gateway.drawing.last_error}"
                assert gateway.summary() == dry
                assert await asked(streams, b"\x00", 0) == b""
            held.close()
            async with site.gateway(endpoint) as gateway, reading(site.socket) as streams:
                streams[1].write(b"\x02\x08")
                await until(lambda: gateway.drawing.last_error)
                async with site.fleet.broker(listen=(endpoint,)) as broker:
                    await site.feed(broker, 4)
                    assert len(await asked(streams, b"", 8)) == 8
                    assert gateway.summary() == "1 readers, 0 wait; broker1"

    asyncio.run(scenario())
    assert len([line for line in site.said if "refused" in line.lower()]) == 2, "each trouble once"


def test_an_empty_broker_gives_way_to_the_next(site: Site) -> None:
    async def scenario() -> None:
        at_once = LimitsConfig(max_wait_seconds=0)
        async with (
            site.fleet.broker("broker1", limits=at_once) as dry,
            site.fleet.broker("broker2") as broker,
        ):
            await site.feed(broker, 4)
            async with site.gateway(dry, broker) as gateway, reading(site.socket) as streams:
                await asked(streams, b"\x02\x70", 112)
                assert delivered_bytes(broker) == gateway.buffer.drawn_bytes
                assert "clients" in dry.status()

    asyncio.run(scenario())


def test_a_clone_uses_nothing_that_its_twin_holds_too(site: Site) -> None:
    async def scenario() -> None:
        async with site.fleet.broker() as broker, site.gateway(broker) as gateway:
            await site.feed(broker, 2)
            await until(lambda: len(gateway.buffer) == 2 * WORTH_BYTES)
            session = gateway.drawing._connection
            site.generation.write_text("2")
            async with reading(site.socket) as streams:
                # Before anything goes out, and not at the next look only.
                assert await asked(streams, b"\x01\xff", 1) == b"\x00"
                assert gateway.buffer.destroyed_bytes == 2 * WORTH_BYTES
                assert session is not None
                assert session.closed
                assert gateway.resets == 1
                await site.feed(broker, 1)
                assert len(await asked(streams, b"\x02\x10", 16)) == 16
            assert gateway.drawing._connection is not session

    asyncio.run(scenario())
    assert any("112 bytes destroyed" in line for line in site.said)


def test_what_was_on_its_way_when_the_machine_was_cloned_is_not_used(site: Site) -> None:
    async def scenario() -> None:
        async with site.fleet.broker() as broker, site.gateway(broker) as gateway:
            await until(lambda: broker.service.queue)  # it waits in the broker's queue
            site.generation.write_text("2")
            await site.feed(broker, 1)
            await until(lambda: gateway.resets == 1 and delivered_bytes(broker) == 64)
            assert gateway.buffer.drawn_bytes == 0
            await site.feed(broker, 1)
            await until(lambda: gateway.buffer.drawn_bytes == 64)

    asyncio.run(scenario())


def test_a_new_credential_is_used_though_nothing_is_wanted(site: Site) -> None:
    async def scenario() -> None:
        async with site.fleet.broker() as broker, site.gateway(broker) as gateway:
            await site.feed(broker, 2)
            await until(lambda: not gateway.buffer.has_room and gateway.tasks)
            await until(lambda: gateway.drawing.broker_id)
            session = gateway.drawing._connection
            new = site.fleet.second_key("gw1")
            await broker.apply_acl()
            site.fleet.secret("gw1.json", dump_credential(new).encode())
            await until(lambda: gateway.drawing._connection not in (session, None))
            (client,) = [c for c in broker.status()["clients"] if c["id"] == "gw1"]
            assert client["key_id"] == new.key_id.hex()
            assert gateway.buffer.destroyed_bytes == 0

    asyncio.run(scenario())


@pytest.mark.parametrize("what", ["connection", "all"])
def test_rates(site: Site, what: str) -> None:
    """A burst at once, and after it only what the rate lets through, here next to nothing."""
    of_one = {"rate_bytes_per_second": 1, "burst_bytes": 30}
    of_all = {"total_rate_bytes_per_second": 1, "total_burst_bytes": 30}
    egd = {**FAST_IN_ALL, **of_one} if what == "connection" else of_all

    async def scenario() -> None:
        async with site.fleet.broker() as broker:
            await site.feed(broker, 8)
            async with site.gateway(broker, egd=egd) as gateway:
                await until(lambda: not gateway.buffer.has_room)
                start = asyncio.get_running_loop().time()
                async with reading(site.socket) as one, reading(site.socket) as other:
                    n_bytes = (await asked(one, b"\x01\xff", 1))[0]
                    assert n_bytes >= 30
                    assert len(await one[0].readexactly(n_bytes)) == n_bytes
                    more = (await asked(other, b"\x01\xff", 1))[0]
                    passed = asyncio.get_running_loop().time() - start
                    assert more >= 30 if what == "connection" else n_bytes + more <= 30 + passed + 1
                    assert n_bytes <= 30 + passed + 1

    asyncio.run(scenario())


def test_a_reader_that_speaks_something_else_is_cut_off(site: Site) -> None:
    async def scenario() -> None:
        async with site.gateway("127.0.0.1:1", listen=("127.0.0.1:0",)) as gateway:
            for _ in range(3):
                async with reading(gateway.addresses[0]) as (reader, writer):
                    writer.write(b"GET / HTTP/1.1\r\n\r\n")
                    assert await reader.read() == b""
            await until(lambda: not gateway.desk.readers)
            assert gateway.desk.not_understood == 3
            said = [line for line in site.said if "no command of EGD" in line]
            assert len(said) == 1, "or whoever may connect could fill the log"

    asyncio.run(scenario())


def test_too_many_readers_are_turned_away_and_the_others_stay(site: Site) -> None:
    async def scenario() -> None:
        async with (
            site.gateway("127.0.0.1:1", egd={"max_connections": 1}) as gateway,
            reading(site.socket) as first,
        ):
            assert await asked(first, b"\x00", 4) == bytes(4)
            async with reading(site.socket) as second:
                assert await second[0].read() == b""
            assert await asked(first, b"\x00", 4) == bytes(4)
            assert gateway.over_limit == 1

    asyncio.run(scenario())


def test_a_reader_that_takes_nothing_is_given_nothing_more(site: Site) -> None:
    async def scenario() -> None:
        async with site.fleet.broker() as broker, site.gateway(broker) as gateway:
            async with reading(site.socket) as streams:
                await until(lambda: gateway.desk.readers)
                (reader,) = gateway.desk.readers
                streams[1].transport.pause_reading()  # type: ignore[attr-defined]
                for _ in range(20_000):  # answers that nobody takes
                    streams[1].write(b"\x00" * 64)
                await until(lambda: not reader.may_send and reader.full)
                assert len(reader.input) <= 2048, "however much it says"
                streams[1].transport.abort()
            await until(lambda: not gateway.desk.readers)

    asyncio.run(scenario())


def test_only_the_group_may_connect_and_a_stale_socket_is_replaced(site: Site) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(site.socket))

    async def scenario() -> None:
        async with site.gateway("127.0.0.1:1"):
            assert site.socket.stat().st_mode & 0o777 == 0o660
            with pytest.raises(ConfigError, match="somebody listens there"):
                await EgdGateway(site.config("127.0.0.1:1")).start()
        site.socket.write_text("a file")
        with pytest.raises(ConfigError, match="is no socket"):
            await EgdGateway(site.config("127.0.0.1:1")).start()

    asyncio.run(scenario())


def test_its_pages(site: Site, tmp_path: Path) -> None:
    async def page(address: tuple[str, int], path: str) -> tuple[str, str]:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(f"GET {path} HTTP/1.1\r\n\r\n".encode())
        head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
        writer.close()
        return head.split()[1], body

    async def scenario() -> None:
        async with (
            site.fleet.broker() as broker,
            site.gateway(broker, admin=AdminConfig("127.0.0.1:0")) as gateway,
        ):
            assert gateway.admin is not None
            address = gateway.admin.address
            assert (await page(address, "/readyz"))[0] == "503"
            await site.feed(broker, 2)
            async with reading(site.socket) as streams:
                await asked(streams, b"\x02\x0a", 10)
            assert (await page(address, "/readyz"))[0] == "200"
            assert (await page(address, "/healthz"))[0] == "200"
            status = json.loads((await page(address, "/status"))[1])
            books = status["accounting"]
            parts = ("held_bytes", "handed_out_bytes", "surplus_bytes", "destroyed_bytes")
            assert books["drawn_bytes"] == sum(books[part] for part in parts) == 128
            assert status["clone"] == {"sign": "generation file", "last_reason": None, "resets": 0}
            figures = (await page(address, "/metrics"))[1]
            assert "entropy_gateway_handed_out_bytes_total 10\n" in figures
            assert 'entropy_gateway_commands_total{command="read_all"} 1\n' in figures

    asyncio.run(scenario())
