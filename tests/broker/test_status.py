"""What a real broker tells over HTTP, and what it never tells."""

from __future__ import annotations

import asyncio
import base64
import json
import re

from entropy.broker.server import Broker
from entropy.config import AdminConfig, ReservoirConfig
from entropy.wire.codes import DrawKind, Role
from entropy.wire.keys import derive
from tests.broker.fleet import Fleet, a_block, draw, feed

SAMPLE = re.compile(r'([a-z_]+)(\{[a-z]+="[^"]*"\})? (-?[0-9.e+-]+)')


async def get(broker: Broker, path: str) -> tuple[int, str]:
    assert broker.admin_address is not None
    reader, writer = await asyncio.open_connection(*broker.admin_address)
    writer.write(f"GET {path} HTTP/1.1\r\n\r\n".encode())
    head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    return int(head.split()[1]), body


def parse(text: str) -> dict[str, float]:
    """The samples of a metrics page; every family has its HELP and TYPE before it."""
    found: dict[str, float] = {}
    described: dict[str, str] = {}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            assert described[name] == "help"
            assert kind in ("counter", "gauge")
            assert name.endswith("_total") == (kind == "counter")
            described[name] = kind
        elif line.startswith("# HELP "):
            described[line.split()[2]] = "help"
        else:
            match = SAMPLE.fullmatch(line)
            assert match, line
            assert described[match[1]] in ("counter", "gauge")
            found[match[1] + (match[2] or "")] = float(match[3])
    return found


def test_http_and_secrets(fleet: Fleet) -> None:
    async def story() -> None:
        rng1, vm1 = fleet.credential("rng1", "feed"), fleet.credential("vm1", "draw")
        fleet.credential("broker2", "peer")
        admin, marks = AdminConfig("127.0.0.1:0"), ReservoirConfig(64, 1, 2)
        async with fleet.broker(admin=admin, reservoir=marks) as broker:
            assert await get(broker, "/healthz") == (200, "ok\n")
            assert (await get(broker, "/readyz"))[0] == 503
            client = await fleet.connect(broker, vm1)
            seed = a_block(await client.request(draw(kind=DrawKind.SEED)))
            feeder = await fleet.connect(broker, rng1, Role.FEEDER)
            blocks = feed(5)
            await feeder.request(blocks)
            block = a_block(await client.request(draw(100)))
            assert await get(broker, "/readyz") == (200, "ok\n")
            await client.request(feed(1))  # refused
            figures = parse((await get(broker, "/metrics"))[1])
            expected = {
                "held_blocks": 3,
                "held_bits": 3 * 512,
                "fed_bits_total": 5 * 512,
                "delivered_bits_total": 448 + 288,
                "spent_bits_total": 1024 - 448 - 288,
                "lost_bits_total": 0,
                "ready": 1,
                "uncredited_replies_total": 1,
                'refusals_total{code="permission"}': 1,
                'refusals_total{code="authentication"}': 0,
                'feeder_fed_bits_total{feeder="rng1"}': 5 * 512,
                'feeder_connected{feeder="rng1"}': 1,
                'retries_total{why="empty"}': 0,
            }
            assert {name: figures[f"entropy_broker_{name}"] for name in expected} == expected
            code, status = await get(broker, "/status")
            assert code == 200
            assert json.loads(status)["accounting"] == broker.status()["accounting"]
            shown = " ".join([*fleet.lines, status, json.dumps(figures), repr(vars(broker))])
            shown += repr(vars(broker.service))
            secrets = [seed.data, block.data, *blocks.blocks]
            for credential in (rng1, vm1):
                keys = derive(credential.secret)
                secrets += [credential.secret, keys.private, keys.psk]
            for secret in secrets:
                for form in (secret.hex(), base64.b64encode(secret).decode(), repr(secret)[2:-1]):
                    assert form[:20] not in shown

    asyncio.run(story())


def test_ready_while_a_feeder_brings_something(fleet: Fleet) -> None:
    async def story() -> None:
        rng1, vm1 = fleet.credential("rng1", "feed"), fleet.credential("vm1", "draw")
        async with fleet.broker() as broker:
            assert (
                broker.not_ready()
                == "the reservoir is empty, and no feeder or peer brings anything"
            )
            feeder = await fleet.connect(broker, rng1, Role.FEEDER)
            assert broker.not_ready() is not None  # it is there, and has brought nothing
            await feeder.request(feed(1))
            client = await fleet.connect(broker, vm1)
            a_block(await client.request(draw(64)))
            assert broker.service.reservoir.held_blocks == 0
            assert broker.not_ready() is None
            await broker.stop()
            assert broker.not_ready() == "shutting down"

    asyncio.run(story())
