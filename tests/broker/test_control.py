"""The control socket of a real broker."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import stat
import time
from pathlib import Path
from typing import Any

import pytest

from entropy.authority import certificate_fingerprint
from entropy.broker.server import Broker
from entropy.config import CloneConfig
from entropy.credentials import new_credential
from entropy.errors import ConfigError
from entropy.wire.codes import Role
from tests.broker.fleet import Fleet, a_block, draw, feed


async def ask(broker: Broker, *lines: bytes) -> list[dict[str, Any]]:
    reader, writer = await asyncio.open_unix_connection(broker.config.control_socket)
    answers = []
    for line in lines:
        writer.write(line + b"\n")
        answers.append(json.loads(await reader.readline()))
    writer.close()
    await writer.wait_closed()
    return answers


async def command(broker: Broker, name: str) -> dict[str, Any]:
    return (await ask(broker, json.dumps({"command": name}).encode()))[0]


def test_status(fleet: Fleet) -> None:
    async def story() -> None:
        rng1, vm1 = fleet.credential("rng1", "feed"), fleet.credential("vm1", "draw")
        fleet.credential("rng2", "feed")
        fleet.credential("vm2", "draw")
        clone = CloneConfig(str(fleet.folder / "ca.pem"))  # it does not change
        async with fleet.broker(clone=clone) as broker:
            client = await fleet.connect(broker, vm1)
            feeder = await fleet.connect(broker, rng1, Role.FEEDER)
            await feeder.request(feed(3))
            a_block(await client.request(draw(32)))
            answer = await command(broker, "status")
        assert answer["ok"] is True
        status = answer["status"]
        assert status.pop("epoch") == broker.epoch.hex()
        assert isinstance(status.pop("uptime_seconds"), int)
        feeder_row, client_row = status["feeders"][0], status["clients"][0]
        assert abs(feeder_row.pop("last_feed_unix") - client_row.pop("last_draw_unix")) < 60
        assert status == {
            "version": "0.1.0",
            "broker_id": "broker1",
            "site_id": "lab",
            "ready": True,
            "draining": False,
            "clone": {"sign": "generation file", "last_reason": None, "resets": 0},
            "acl_generation": 4,
            "certificate_fingerprint": certificate_fingerprint(
                Path(broker.config.certificate).read_bytes()
            ),
            "reservoir": {
                "held_blocks": 2,
                "imported_blocks": 0,
                "capacity_blocks": 64,
                "held_bits": 1024,
                "low_mark_blocks": 8,
                "high_mark_blocks": 16,
            },
            "accounting": {
                "fed_bits": 1536,
                "imported_bits": 0,
                "held_bits": 1024,
                "delivered_bits": 256,
                "exported_bits": 0,
                "spent_bits": 256,
                "lost_bits": 0,
            },
            "feeders": [
                {
                    "id": "rng1",
                    "connected": True,
                    "fed_bits": 1536,
                    "lost_bits": 0,
                    "recalled_bits": 0,
                    "key_id": rng1.key_id.hex(),
                    "outside_logins": 0,
                },
                {  # never seen
                    "id": "rng2",
                    "connected": False,
                    "fed_bits": 0,
                    "lost_bits": 0,
                    "recalled_bits": 0,
                    "last_feed_unix": None,
                    "key_id": None,
                    "outside_logins": 0,
                },
            ],
            "peers": [],
            "clients": [
                {
                    "id": "vm1",
                    "connected": True,
                    "draws": 1,
                    "delivered_bytes": 32,
                    "delivered_bits": 256,
                    "last_credit_bits": 256,
                    "last_kind": "topup",
                    "key_id": vm1.key_id.hex(),
                    "outside_logins": 0,
                }
            ],
            "sessions": 2,
            "waiting_draws": 0,
            "refusals": {
                "authentication": 0,
                "permission": 0,
                "protocol": 0,
                "shutdown": 0,
                "limit": 0,
            },
            "alarms": [],
        }

    asyncio.run(story())


def test_apply_acl(fleet: Fleet) -> None:
    async def story() -> None:
        fleet.credential("vm1", "draw")
        async with fleet.broker() as broker:
            vm2 = fleet.credential("vm2", "draw")
            assert await command(broker, "apply-acl") == {"ok": True, "generation": 2}
            await fleet.connect(broker, vm2)
            acl = fleet.folder / "acl.json"
            for spoiled in ("{}", acl.read_text().replace('"lab"', '"other"')):
                acl.write_text(spoiled)
                answer = await command(broker, "apply-acl")
                assert answer["ok"] is False
                assert str(acl) in answer["error"]
            acl.unlink()
            assert (await command(broker, "apply-acl"))["ok"] is False
            await fleet.connect(broker, vm2)  # the one before is still in force
            assert broker.status()["acl_generation"] == 2

    asyncio.run(story())


def test_keys(fleet: Fleet) -> None:
    """What the controller must know to end keys, and nothing of those that stay."""

    async def story() -> None:
        old, fresh = fleet.credential("vm1", "draw"), fleet.second_key("vm1")
        handed_out = fleet.credential("vm2", "draw", expires_after_use_seconds=60)
        fleet.credential("vm3", "draw")
        async with fleet.broker() as broker:
            answer = await command(broker, "keys")
            assert {name: answer.pop(name) for name in ("ok", "broker_id", "site_id")} == {
                "ok": True,
                "broker_id": "broker1",
                "site_id": "lab",
            }
            never = {"first_use_unix": None, "sessions": 0}
            assert answer == {
                "generation": fleet.generation,
                "keys": {
                    "vm1": {old.key_id.hex(): never, fresh.key_id.hex(): never},
                    "vm2": {handed_out.key_id.hex(): never},
                },
            }
            await fleet.connect(broker, fresh)
            uses = (await command(broker, "keys"))["keys"]["vm1"]
            assert uses[old.key_id.hex()] == never
            assert uses[fresh.key_id.hex()]["sessions"] == 1
            assert abs(uses[fresh.key_id.hex()]["first_use_unix"] - time.time()) < 60
            assert broker.status()["clients"][0]["key_id"] == fresh.key_id.hex()

    asyncio.run(story())


@pytest.mark.parametrize(
    "line", [b'{"command": "drained"}', b"{}", b"[]", b"null", b"status", b"", b"\xff", b"[" * 9999]
)
def test_unknown_commands(fleet: Fleet, line: bytes) -> None:
    async def story() -> None:
        async with fleet.broker() as broker:
            first, second = await ask(broker, line, b'{"command": "status"}')
            known = "apply-acl, drain, keys, status"
            assert first == {"ok": False, "error": f"unknown command; known are: {known}"}
            assert second["ok"] is True

    asyncio.run(story())


def test_a_line_without_end_is_cut(fleet: Fleet) -> None:
    async def story() -> None:
        async with fleet.broker() as broker:
            reader, writer = await asyncio.open_unix_connection(broker.config.control_socket)
            writer.write(b"x" * 200_000)
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
            writer.transport.abort()
            assert (await command(broker, "status"))["ok"] is True

    asyncio.run(story())


def test_the_file(fleet: Fleet) -> None:
    """Closed to others, replaced when a dead broker left it, removed at the end."""

    async def story() -> None:
        path = fleet.folder / "broker1.sock"
        with socket.socket(socket.AF_UNIX) as left_behind:
            left_behind.bind(str(path))
        async with fleet.broker() as broker:
            assert stat.S_IMODE(os.stat(path).st_mode) == 0o660
            with pytest.raises(ConfigError, match="another broker listens there"):
                async with fleet.broker():
                    pass
            assert (await command(broker, "status"))["ok"] is True
        assert not path.exists()
        path.write_text("precious")
        with pytest.raises(ConfigError, match="is no socket"):
            async with fleet.broker():
                pass
        assert path.read_text() == "precious"

    asyncio.run(story())


def test_a_long_list_does_not_hold_up_the_others(fleet: Fleet) -> None:
    """The loop goes on turning while a list is read, and while its limits come into force."""

    async def story() -> None:
        fleet.publish()
        async with fleet.broker() as broker:
            generation = fleet.generation
            names = [f"vm{i}" for i in range(3000)]
            fleet.credentials |= {name: new_credential(name, "lab", ["draw"]) for name in names}
            fleet.limits |= {name: {} for name in names}
            fleet.publish()
            n_turns = [0, 0]  # with the old list in force, with the new one
            applying = asyncio.create_task(command(broker, "apply-acl"))
            while not applying.done():
                n_turns[broker.access.acl.generation != generation] += 1
                await asyncio.sleep(0)
            assert (await applying)["generation"] == generation + 1
            assert min(n_turns) >= 10

    asyncio.run(story())
