"""Whole feeders on emulated devices, pushing to a real broker: hotplug, faults, two at once."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from entropy.authority import Issued, new_authority
from entropy.broker.server import Broker
from entropy.config import FeederConfig, SourceConfig
from entropy.credentials import acl_entry, dump_credential, entry_as_json, new_credential
from entropy.feeder import Feeder, check
from tests.feeder.site import FAST, Received, Site, running, until
from tests.usb.worlds import MemoryWorld, World


@pytest.fixture(scope="session")
def authority() -> Issued:
    return new_authority("lab")


@pytest.fixture
def site(tmp_path: Path, authority: Issued) -> Site:
    return Site(tmp_path, authority)


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr("entropy.notify.log", lambda text, priority=6: lines.append(text))
    return lines


def config(site: Site, broker: Broker, uri: str = "alea:") -> FeederConfig:
    return dataclasses.replace(site.config(broker), source=SourceConfig(uri))


def feeder(site: Site, broker: Broker, uri: str = "alea:") -> Any:
    from entropy.sources.uri import source_for

    return running(config(site, broker, uri), source_for(uri), FAST)


def accepted(one: Feeder) -> int:
    return one.outbox.accounting.accepted_bits


def test_it_waits_for_a_device_and_says_so_once(site: Site, world: World, said: list[str]) -> None:
    async def scenario() -> None:
        async with site.broker(capacity_blocks=10**6) as broker, feeder(site, broker) as one:
            check(config(site, broker))
            await until(lambda: one.state == "alea: no Araneus Alea is plugged in")
            await asyncio.sleep(0.1)  # several looks
            world.plug()
            await until(lambda: accepted(one) > 0)
            assert one.figures.credit_bits_per_byte == 4

    asyncio.run(scenario())
    assert len([line for line in said if "no Araneus Alea is plugged in" in line]) == 1
    assert "alea delivers again" in said


def test_unplugged_and_plugged_in_elsewhere(site: Site, world: World, said: list[str]) -> None:
    """Nothing that was begun survives, and the start-up test comes before anything more."""

    async def scenario() -> None:
        async with site.broker(capacity_blocks=10**6) as broker, feeder(site, broker) as one:
            name = world.plug(kernel_driver="chaoskey")
            await until(lambda: accepted(one) > 0)
            world.script(name, ["short", 100], ["gone"])
            world.unplug(name)
            await until(lambda: "no Araneus Alea" in one.state)
            before = accepted(one)
            world.plug(ports=(7,), address=11)
            await until(lambda: accepted(one) > before)
            assert (one.n_failures, one.retired) == (0, False)

    asyncio.run(scenario())
    gone = [line for line in said if "delivers nothing for now" in line]
    assert any("was unplugged" in line for line in gone)


def test_zeros_are_caught_and_nothing_of_them_is_pushed(
    site: Site, memory: MemoryWorld, said: list[str]
) -> None:
    async def scenario() -> None:
        async with site.broker(capacity_blocks=10**6) as broker, feeder(site, broker) as one:
            received = Received(broker)
            name = memory.plug()
            await until(lambda: accepted(one) > 0)
            memory.script(name, *[["zeros"]] * 1000)
            await until(lambda: one.retired)
            await until(lambda: one.outbox.recall is None)
            n_blocks = len(received.blocks)
            account = one.outbox.accounting
            assert account.held_bits == 0
            assert account.sent_bits == 512 * n_blocks
            # Of all that it was given, no block can have come from the zeros.
            n_good = memory.look(name)["n_bytes_given"]
            assert 144 * n_blocks <= n_good - 1024

    asyncio.run(scenario())
    (alarm,) = [line for line in said if line.startswith("ALARM")]
    assert alarm.startswith("ALARM: alea: health test failed")


def test_two_devices_two_feeders(
    tmp_path: Path, authority: Issued, world: World, said: list[str]
) -> None:
    """Each takes one, by serial number; the loss of one does not touch the other."""
    sites = []
    entries = []
    for name in ("rng1", "rng2"):
        (tmp_path / name).mkdir()
        site = Site(tmp_path / name, authority)
        credential = new_credential(name, "lab", ["feed"])
        site.secret("rng1.json", dump_credential(credential).encode())
        entries.append(entry_as_json(acl_entry(credential)))
        sites.append(site)
    acl = {"version": 1, "site_id": "lab", "generation": 1, "entries": entries}
    sites[0].secret("acl.json", json.dumps(acl).encode())
    first = world.plug()
    world.plug(serial_number="B2", ports=(3,), address=3)

    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            broker = await stack.enter_async_context(sites[0].broker(capacity_blocks=10**6))
            one = await stack.enter_async_context(feeder(sites[0], broker, "alea:serial=A1"))
            two = await stack.enter_async_context(feeder(sites[1], broker, "alea:serial=B2"))
            await until(lambda: accepted(one) > 0 and accepted(two) > 0)
            world.unplug(first)
            await until(lambda: "no Araneus Alea with the serial number A1" in one.state)
            before = accepted(two)
            await until(lambda: accepted(two) > before)
            world.plug(address=5)
            before = accepted(one)
            await until(lambda: accepted(one) > before)
            fed = {f["id"]: f["fed_bits"] for f in broker.status()["feeders"]}
            assert set(fed) == {"rng1", "rng2"}

    asyncio.run(scenario())


def test_a_feeder_without_usb_does_not_load_it() -> None:
    import subprocess
    import sys

    program = (
        "import sys, entropy.feeder, entropy.sample, entropy.sources.uri as uri\n"
        "for one in ('hwrng:', 'jitter:', 'kernel:', 'file:x', 'exec:x'): uri.source_for(one)\n"
        "uri.source_for('alea:'); uri.source_for('serial:/dev/x?model=raw')\n"
        "print(*sorted({'usb', 'serial', 'ctypes'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.split() == []
    assert done.stderr == ""


def test_without_the_library_it_says_which_package(monkeypatch: pytest.MonkeyPatch) -> None:
    from entropy.errors import ConfigError
    from entropy.sources import uri

    monkeypatch.setattr(uri, "find_spec", lambda name: None)
    for one, package in (
        ("alea:", "python3-usb"),
        ("chaoskey:", "python3-usb"),
        ("serial:/dev/x?model=raw", "python3-serial"),
    ):
        with pytest.raises(ConfigError, match=f"needs the Debian package {package}"):
            uri.source_for(one)
