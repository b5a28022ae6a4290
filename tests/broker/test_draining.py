"""A broker that is taken away: nobody is left waiting, and everybody is told to go elsewhere."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from entropy import drain as drain_command
from entropy import errors
from entropy.broker import draining
from entropy.config import AgentConfig
from entropy.wire.codes import DrawKind, RefusedCode, RetryReason, Role
from entropy.wire.frames import Refused, Retry
from tests.broker.fleet import Fleet, a_block, balanced, draw, feed, until
from tests.broker.test_agent import ask as ask_agent
from tests.broker.test_control import ask
from tests.broker.test_process import ask as ask_process
from tests.broker.test_process import running, write_config

ROOT = Path(__file__).resolve().parents[2]
ON, OFF = b'{"command": "drain", "on": true}', b'{"command": "drain", "on": false}'
ELSEWHERE = Retry(1000, RetryReason.EMPTY)


def test_from_its_begin_to_its_end(fleet: Fleet) -> None:
    async def story() -> None:
        rng1, vm1 = fleet.credential("rng1", "feed"), fleet.credential("vm1", "draw")
        vm2, two = fleet.credential("vm2", "draw"), fleet.credential("broker2", "peer")
        agent = AgentConfig(("127.0.0.1:0",), ("127.0.0.1",))
        async with fleet.broker(agent=agent) as broker:
            waiting_client = await fleet.connect(broker, vm2)
            waiting = asyncio.create_task(
                waiting_client.request(draw(wait_ms=60_000, kind=DrawKind.SEED))
            )
            await until(lambda: len(broker.service.queue))
            peer = await fleet.connect(broker, two, Role.PEER)
            feeder = await fleet.connect(broker, rng1, Role.FEEDER)
            client = await fleet.connect(broker, vm1)
            [answer] = await ask(broker, ON)
            assert answer == {"ok": True, "draining": True, "sessions": 4}
            # who waits is not kept waiting, and a seed is not met with bytes worth nothing
            assert await waiting == ELSEWHERE
            shutdown = Refused(RefusedCode.SHUTDOWN)
            assert await feeder.request(feed(1)) == shutdown
            assert await peer.request(draw(kind=DrawKind.PEER)) == shutdown
            assert await client.request(draw()) == ELSEWHERE
            with pytest.raises(errors.Refused, match="shutting down"):
                await fleet.connect(broker, rng1, Role.FEEDER)
            late = await fleet.connect(broker, vm1)  # by another way than haproxy
            assert await late.request(draw()) == ELSEWHERE
            assert await ask_agent(broker.agent_addresses[0]) == (
                b"up drain # this broker is drained\n"
            )
            assert broker.not_ready() == "draining"
            status = broker.status()
            assert (status["draining"], status["ready"]) == (True, False)
            waiting_client.close()
            client.close()
            await until(lambda: broker._draining.n_sessions == 0)
            assert (await ask(broker, ON))[0]["sessions"] == 0  # the late one does not count
            [answer] = await ask(broker, OFF)
            assert answer == {"ok": True, "draining": False, "sessions": 0}
            feeder = await fleet.connect(broker, rng1, Role.FEEDER)
            await feeder.request(feed(4))
            assert a_block(await late.request(draw())).credit_bits == 448
            assert broker.not_ready() is None
            assert balanced(broker)
            assert broker.service.retries[RetryReason.EMPTY] == 0
            assert broker.service.draining_retries == 3

    asyncio.run(story())


def test_clients_that_stay_are_cut_in_the_end(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draining, "GRACE_SECONDS", 0.01)

    async def story() -> None:
        vm1 = fleet.credential("vm1", "draw")
        async with fleet.broker() as broker:
            client = await fleet.connect(broker, vm1)
            [answer] = await ask(broker, ON)
            assert answer["sessions"] == 1
            await until(lambda: not broker.sessions)
            assert await client.request(draw()) == Refused(RefusedCode.SHUTDOWN)

    asyncio.run(story())


@pytest.mark.parametrize("line", [b'{"command": "drain"}', b'{"command": "drain", "on": 1}'])
def test_a_request_that_is_none(fleet: Fleet, line: bytes) -> None:
    async def story() -> None:
        async with fleet.broker() as broker:
            [answer] = await ask(broker, line)
            assert answer == {"ok": False, "error": 'drain takes "on": true or false'}
            assert not broker.service.draining

    asyncio.run(story())


def test_a_broker_that_is_drained_draws_from_no_peer(fleet: Fleet) -> None:
    async def story() -> None:
        fleet.credential("broker2", "peer")
        rng1 = fleet.credential("rng1", "feed")
        async with fleet.broker("broker1") as one:
            peers = (fleet.peer("broker1", one, "broker2"),)
            feeder = await fleet.connect(one, rng1, Role.FEEDER)
            await feeder.request(feed(32))
            async with fleet.broker("broker2", peers=peers) as two:
                await until(lambda: two.service.reservoir.imported_blocks)
                await ask(two, ON)
                two.service.reservoir.destroy_all()
                two.service.watch_low_mark()
                assert two.peers[0]._missing_blocks() == 0

    asyncio.run(story())


def command(fleet: Fleet, *words: str) -> subprocess.CompletedProcess[str]:
    control = str(fleet.folder / "broker1.sock")
    return subprocess.run(
        [sys.executable, "-m", "entropy", "drain", "--control", control, *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )


def test_the_command_on_a_real_process(fleet: Fleet) -> None:
    fleet.credential("vm1", "draw")
    with running(fleet, write_config(fleet)) as broker:
        broker.wait_for_notice("READY=1")
        done = command(fleet)
        assert (done.returncode, done.stderr) == (0, "drained: nobody is being served\n")
        done = command(fleet, "--off")
        assert (done.returncode, done.stderr) == (0, "the broker serves again\n")
    done = command(fleet)
    assert done.returncode == 1
    assert "cannot ask the broker" in done.stderr


def test_a_playbook_ends_a_drain_without_the_command(fleet: Fleet) -> None:
    fleet.credential("vm1", "draw")
    script = ROOT / "playbooks" / "files" / "drain_off.py"
    with running(fleet, write_config(fleet)) as broker:
        broker.wait_for_notice("READY=1")
        assert command(fleet).returncode == 0
        assert ask_process(fleet, "status")["status"]["draining"]
        subprocess.run([sys.executable, "-I", script, fleet.folder / "broker1.sock"], check=True)
        assert not ask_process(fleet, "status")["status"]["draining"]


def test_the_command_waits_so_long_and_no_longer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = [2, 1, 0]
    monkeypatch.setattr(drain_command, "ask", lambda *_, **__: {"sessions": answers.pop(0)})
    monkeypatch.setattr(drain_command, "POLL_SECONDS", 0)
    assert drain_command.run("", off=False, wait_seconds=60) == 0
    answers[:] = [2]
    assert drain_command.run("", off=False, wait_seconds=0) == 1
    assert capsys.readouterr().err.splitlines() == [
        "drained: nobody is being served",
        "draining: 2 sessions are still open after 0 s",
    ]
