"""The feeder against real brokers over real TLS: what is pushed, what never is, what is said."""

from __future__ import annotations

import asyncio
import json
import threading
import urllib.request
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from entropy import feeder as feeder_module
from entropy.authority import issue_broker
from entropy.config import AdminConfig, SourceConfig
from entropy.errors import ConfigError, CredentialError, SourceError, SourceGone
from entropy.feeder import Feeder, check
from entropy.feeder_status import metrics
from entropy.feeder_status import status as status_of
from entropy.sources.base import Figures
from entropy.sources.reader import MOST_BYTES
from tests.feeder.site import (
    CREDIT_BITS,
    FAST,
    GLITCH,
    N_RAW,
    START,
    WINDOW,
    Received,
    Site,
    Strings,
    blocks_of,
    noise,
    running,
    until,
)


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The lines of the log."""
    lines: list[str] = []
    monkeypatch.setattr("entropy.notify.log", lambda text, priority=6: lines.append(text))
    return lines


def account(feeder: Feeder) -> dict[str, int]:
    return feeder.outbox.accounting._asdict()


def balanced(feeder: Feeder) -> bool:
    a = feeder.outbox.accounting
    return a.born_bits == a.held_bits + a.sent_bits + a.destroyed_bits


def test_tested_samples_become_credited_blocks(site: Site, said: list[str]) -> None:
    async def scenario() -> None:
        async with site.broker() as broker:
            received = Received(broker)
            source = Strings()
            samples = noise(10 * WINDOW)
            source.give(START, samples)
            async with running(site.config(broker), source) as feeder:
                expected = blocks_of(samples)
                await until(lambda: account(feeder)["accepted_bits"] == 512 * len(expected))
                assert received.blocks == expected
                assert account(feeder) == {
                    "born_bits": 512 * len(expected),
                    "held_bits": 0,
                    "sent_bits": 512 * len(expected),
                    "accepted_bits": 512 * len(expected),
                    "destroyed_bits": 0,
                    "recalled_bits": 0,
                }
                assert feeder.status_line == "strings delivering; feeding broker1"
            status = broker.status()
            assert status["reservoir"]["held_bits"] == 512 * len(expected)
            (fed,) = status["feeders"]
            assert (fed["id"], fed["fed_bits"]) == ("rng1", 512 * len(expected))

    asyncio.run(scenario())
    assert said[0] == "strings: 4 bits credited for each byte, tested for 7: for this test"


def test_only_blocks_that_may_be_recalled_are_remembered(site: Site, said: list[str]) -> None:
    """Or a feeder would grow for as long as it runs."""

    async def scenario() -> None:
        async with site.broker() as broker:
            source = Strings()
            good = noise(12 * WINDOW)
            source.give(START, good[: 10 * WINDOW])
            async with running(site.config(broker), source) as feeder:
                n_blocks = len(blocks_of(good[: 10 * WINDOW]))
                await until(lambda: account(feeder)["accepted_bits"] == 512 * n_blocks)
                source.give(good[10 * WINDOW :])
                await until(lambda: account(feeder)["born_bits"] > 512 * n_blocks)
                remembered = [sent.end_position for sent in feeder.outbox._sent]
                assert all(end > len(START) + N_RAW * n_blocks for end in remembered)

    asyncio.run(scenario())


def test_a_source_that_stutters(site: Site, said: list[str]) -> None:
    """Nothing of the bad window is pushed, what touches the window before it is recalled, and
    good noise opens the feeder again after a start-up test."""

    async def scenario() -> None:
        async with site.broker() as broker:
            received = Received(broker)
            source = Strings()
            good, after = noise(8 * WINDOW), noise(4 * WINDOW, "after")
            source.give(START, good)
            async with running(site.config(broker), source) as feeder:
                before = blocks_of(good)
                await until(lambda: account(feeder)["accepted_bits"] == 512 * len(before))
                # In one piece: what comes in a later one is no longer handed in with the glitch.
                source.give(GLITCH + noise(WINDOW, "lost with it"))
                await until(lambda: account(feeder)["recalled_bits"])
                n_recalled = sum(N_RAW * (i + 1) > 7 * WINDOW for i in range(len(before)))
                assert n_recalled == 4  # three whole ones, and one that began a window earlier
                assert account(feeder)["recalled_bits"] == 512 * n_recalled
                status = broker.status()
                assert status["feeders"][0]["recalled_bits"] == 512 * n_recalled
                assert status["reservoir"]["held_blocks"] == len(before) - n_recalled
                assert received.blocks == before
                assert feeder.state == "in its start-up test"

                source.give(noise(len(START), "again"), after)
                await until(lambda: len(received.blocks) == len(before + blocks_of(after)))
                assert received.blocks == before + blocks_of(after)
                assert balanced(feeder)
                assert feeder.n_failures == 1
                assert feeder.state == "delivering"

    asyncio.run(scenario())
    (alarm,) = [line for line in said if line.startswith("ALARM")]
    assert "strings: health test failed: repetition count on bytes" in alarm
    assert "4 to be recalled from broker1" in alarm
    assert "strings delivers again" in said
    assert any(line.startswith("broker1 was told to drop") for line in said)


def test_blocks_that_wait_for_a_broker_die_with_their_source(site: Site, said: list[str]) -> None:
    async def scenario() -> None:
        source = Strings()
        source.give(START, noise(8 * WINDOW))
        async with running(site.config("127.0.0.1:1"), source) as feeder:
            await until(lambda: account(feeder)["held_bits"] == 512 * (8 * WINDOW // N_RAW))
            source.give(GLITCH)
            await until(lambda: feeder.n_failures)
            assert account(feeder)["held_bits"] == 0
            assert account(feeder)["destroyed_bits"] == account(feeder)["born_bits"] > 0

    asyncio.run(scenario())
    assert any("28 blocks destroyed" in line for line in said)


def test_blocks_that_wait_die_with_the_feeder(site: Site, said: list[str]) -> None:
    async def scenario() -> None:
        source = Strings()
        source.give(START, noise(8 * WINDOW))
        async with running(site.config("127.0.0.1:1"), source) as feeder:
            await until(lambda: account(feeder)["held_bits"] == 512 * (8 * WINDOW // N_RAW))
        assert account(feeder)["held_bits"] == 0
        assert account(feeder)["destroyed_bits"] == account(feeder)["born_bits"] > 0

    asyncio.run(scenario())


def test_a_source_that_stays_bad_is_an_alarm_once(site: Site, said: list[str]) -> None:
    """A start-up test that fails is no new failure: it goes on being tried, in silence."""

    async def scenario() -> None:
        async with site.broker() as broker:
            source = Strings()
            source.give(START, noise(4 * WINDOW))
            async with running(site.config(broker), source) as feeder:
                await until(lambda: feeder.state == "delivering")
                source.give(GLITCH)
                await until(lambda: feeder.n_failures == 1)
                # Closed, opened, and shut again by its start-up test, as long as zeros come.
                await until(lambda: source.gives(bytes(WINDOW)) and source.n_opened >= 6)
                assert not feeder.retired
                assert feeder.n_failures == 1
                await until(lambda: source.gives(START) and feeder.state == "delivering")

    asyncio.run(scenario())
    assert len([line for line in said if line.startswith("ALARM")]) == 1
    assert len([line for line in said if "start-up test failed" in line]) == 1


def test_the_third_failure_within_an_hour_ends_it(site: Site, said: list[str]) -> None:
    async def scenario() -> None:
        async with site.broker() as broker:
            source = Strings()
            async with running(site.config(broker), source) as feeder:
                for n in (1, 2, 3):
                    source.give(noise(len(START), f"{n}"), noise(2 * WINDOW, f"more {n}"))
                    await until(lambda n=n: account(feeder)["accepted_bits"] == 3584 * n)  # type: ignore[misc]
                    source.give(GLITCH)
                    await until(lambda n=n: feeder.n_failures == n)  # type: ignore[misc]
                assert feeder.retired
                n_read = source.n_read
                source.give(START, noise(8 * WINDOW))
                # It stays up and connected, and reads no more.
                await until(lambda: feeder.session.broker_id == "broker1")
                await until(lambda: account(feeder)["recalled_bits"])
                assert source.n_read - n_read <= len(START)  # by a read that had begun before
                assert "retired, since this was failure number 3" in feeder.status_line
                assert len(feeder.alarms) == 3

    asyncio.run(scenario())
    alarm = [line for line in said if line.startswith("ALARM")][-1]
    assert "failure number 3 within an hour. Nothing more is read: check the device" in alarm


def test_a_source_that_turns_to_zeros_is_retired_at_once(site: Site, said: list[str]) -> None:
    """Chance cannot explain it, so good noise after it does not open the feeder again."""

    async def scenario() -> None:
        async with site.broker() as broker:
            received = Received(broker)
            source = Strings()
            good = noise(8 * WINDOW)
            source.give(START, good)
            config = site.config(broker, admin=AdminConfig("127.0.0.1:0"))
            async with running(config, source) as feeder:
                before = blocks_of(good)
                await until(lambda: account(feeder)["accepted_bits"] == 512 * len(before))
                source.give(noise(100, "the last good ones") + bytes(2 * WINDOW - 100))
                await until(lambda: account(feeder)["recalled_bits"])
                assert feeder.retired
                assert feeder.n_failures == 1
                n_read = source.n_read
                source.give(START, noise(8 * WINDOW, "after"))
                # It stays up and connected, reads nothing, pushes nothing, and says so.
                await until(lambda: broker.status()["feeders"][0]["recalled_bits"])
                assert source.n_read - n_read <= len(START)  # by a read that had begun before
                assert received.blocks == before
                assert "check the device, then restart this feeder" in feeder.status_line
                status = status_of(feeder)
                assert status["source"]["retired"] is True
                (sample,) = [m for m in metrics(feeder) if m.name == "entropy_feeder_retired"]
                assert sample.samples == [({}, 1)]

    asyncio.run(scenario())
    (alarm,) = [line for line in said if line.startswith("ALARM")]
    assert "this is beyond chance (2^-60). Nothing more is read" in alarm


def test_zeros_from_the_start_are_no_reason_to_give_up(site: Site, said: list[str]) -> None:
    """Nothing flowed, so nothing is lost by trying again: a device may take a while to wake."""

    async def scenario() -> None:
        source = Strings()
        async with running(site.config("127.0.0.1:1"), source) as feeder:
            await until(lambda: source.gives(bytes(WINDOW)) and source.n_opened >= 3)
            await until(lambda: source.gives(START) and account(feeder)["born_bits"])
            assert (feeder.retired, feeder.n_failures) == (False, 0)

    asyncio.run(scenario())
    assert len([line for line in said if "start-up test failed" in line]) == 1


def test_blocks_that_fail_fips_140_are_dropped(site: Site, said: list[str]) -> None:
    """Good health windows, but 2500 bytes with two equal words in a row: those are not used."""
    fips140 = SourceConfig("file:/nowhere", CREDIT_BITS, 7, "for this test", fips140=True)

    async def scenario() -> None:
        async with site.broker() as broker:
            received = Received(broker)
            source = Strings()
            blocks = [bytearray(noise(2500, f"block {n}")) for n in range(4)]
            blocks[1][100:108] = b"wordword"
            blocks[3][100:108] = b"wordword"
            # Zeros fail the health tests first; these do not.
            source.give(START, *map(bytes, blocks), noise(2 * WINDOW, "the rest"))
            async with running(site.config(broker, source=fips140), source) as feeder:
                expected = blocks_of(bytes(blocks[0] + blocks[2]))
                await until(lambda: received.blocks == expected)
                await until(lambda: feeder.block_tests and feeder.block_tests.n_dropped == 2)
                assert status_of(feeder)["fips140"] == {
                    "passed_blocks": 2,
                    "dropped_blocks": 2,
                    "last_failure": "continuous run: a word of 32 bits came twice in a row",
                }
                assert not feeder.retired
                assert feeder.state == "delivering"
                values = {m.name: m.samples[0][1] for m in metrics(feeder)}
                assert values["entropy_feeder_fips140_dropped_blocks_total"] == 2

    asyncio.run(scenario())


def test_a_source_that_never_passes_fips_140_is_mentioned_once(site: Site, said: list[str]) -> None:
    fips140 = SourceConfig("file:/nowhere", 1, 4, "for this test", fips140=True)
    uneven = bytes(byte & 0xFC for byte in noise(40 * 2500))  # six bits in each byte

    async def scenario() -> None:
        source = Strings()
        source.own = Figures(1, 1, "uneven")
        source.give(uneven)
        async with running(site.config("127.0.0.1:1", source=fips140), source) as feeder:
            await until(lambda: feeder.block_tests and feeder.block_tests.n_dropped >= 30)
            assert account(feeder)["born_bits"] == 0

    asyncio.run(scenario())
    (line,) = [line for line in said if "FIPS 140-2" in line]
    assert "blocks in a row were dropped by the FIPS 140-2 tests, the last one for monobit" in line


def test_failures_hours_apart_do_not_end_it(
    site: Site, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeder_module, "FAILURES_WITHIN_SECONDS", 0)

    async def scenario() -> None:
        source = Strings()
        async with running(site.config("127.0.0.1:1"), source) as feeder:
            for n in range(1, 6):
                source.give(noise(len(START), f"{n}"), noise(WINDOW, f"more {n}"), GLITCH)
                await until(lambda n=n: feeder.n_failures == n)  # type: ignore[misc]
            assert not feeder.retired

    asyncio.run(scenario())


def test_a_full_reservoir_pauses_the_source(site: Site, said: list[str]) -> None:
    async def scenario() -> None:
        async with site.broker(capacity_blocks=8) as broker:
            received = Received(broker)
            source = Strings()
            source.give(START, *[noise(WINDOW, f"{n}") for n in range(100)])
            async with running(site.config(broker, max_pending_blocks=4), source) as feeder:
                await until(lambda: feeder.session.full)
                await until(lambda: feeder.state == "paused")
                assert feeder.status_line == "strings paused; broker1 is full"
                assert len(received.blocks) == 8
                assert feeder.outbox.held_blocks <= 4 + (MOST_BYTES + WINDOW) // N_RAW + 1
                n_read = source.n_read
                # Room for one: it comes by itself, asked for by an empty frame.
                broker.service.reservoir.take(64, client_id="vm1", session=b"s")
                await until(lambda: len(received.blocks) == 9)
                assert source.n_read <= n_read + MOST_BYTES + WINDOW  # what it reads ahead
            assert broker.status()["accounting"]["lost_bits"] == 0

    asyncio.run(scenario())


def test_the_brokers_cap_on_credit_is_kept(site: Site, said: list[str]) -> None:
    """A feeder that is faster than its cap waits, rather than push what nobody credits."""
    site.feeder_credential(credit_bits_per_second=512 * 40)

    async def scenario() -> None:
        async with site.broker() as broker:
            source = Strings()
            source.give(START, noise(60 * WINDOW))
            async with running(site.config(broker), source) as feeder:
                await until(lambda: account(feeder)["sent_bits"] >= 512 * 20)
                await until(lambda: broker.status()["reservoir"]["held_blocks"] >= 20)
            assert broker.status()["accounting"]["lost_bits"] == 0

    asyncio.run(scenario())


def test_one_broker_at_a_time(site: Site, said: list[str]) -> None:
    """The first that answers; the other when it is away; the first again when it is back."""

    async def scenario() -> None:
        source = Strings()
        source.give(START)
        async with site.broker("broker2") as second:
            received_2 = Received(second)
            async with site.broker("broker1") as first:
                received_1 = Received(first)
                address = first.addresses[0]
                pace = FAST._replace(first_home_seconds=0.1)
                feeding = running(site.config(first, second), source, pace)
                feeder = await feeding.__aenter__()
                source.give(noise(2 * WINDOW, "to the first"))
                await until(lambda: len(received_1.blocks) == 7)
                assert feeder.session.broker_id == "broker1"
                assert not received_2.blocks
            await until(lambda: feeder.session.broker_id == "broker2")
            source.give(noise(2 * WINDOW, "to the second"))
            await until(lambda: len(received_2.blocks) == 7)
            async with site.broker("broker1", listen=address) as first:
                received_1b = Received(first)
                await until(lambda: feeder.session.broker_id == "broker1")
                source.give(noise(2 * WINDOW, "to the first again"))
                await until(lambda: len(received_1b.blocks) == 7)
                await feeding.__aexit__(None, None, None)
            everything = received_1.blocks + received_2.blocks + received_1b.blocks
            assert len(set(everything)) == len(everything)

    asyncio.run(scenario())


def test_a_source_that_goes_and_comes_back(site: Site, said: list[str]) -> None:
    """Said once; what comes after is tested from the start again."""

    async def scenario() -> None:
        async with site.broker() as broker:
            received = Received(broker)
            source = Strings()
            source.refusal = SourceGone("strings: the device is not there")
            async with running(site.config(broker), source) as feeder:
                await until(lambda: feeder.session.broker_id)
                await until(lambda: feeder.state == "strings: the device is not there")
                source.refusal = None
                before = noise(2 * WINDOW)
                source.give(START, before + noise(100, "half a window"))
                await until(lambda: received.blocks == blocks_of(before))
                source.give(SourceGone("strings: unplugged"))
                await until(lambda: feeder.state == "strings: unplugged")
                after = noise(2 * WINDOW, "after")
                source.give(noise(len(START), "start-up test"), after)
                await until(lambda: received.blocks == blocks_of(before) + blocks_of(after))

    asyncio.run(scenario())
    assert len([line for line in said if "unplugged" in line]) == 1
    assert len([line for line in said if "the device is not there" in line]) == 1
    assert said.count("strings delivers again") == 2


def test_a_source_that_comes_back_broken(site: Site, said: list[str]) -> None:
    """What was sent last from before is too near for comfort, and recalled; nothing flowed, so
    it counts as no failure of a source that delivers."""

    async def scenario() -> None:
        async with site.broker() as broker:
            received = Received(broker)
            source = Strings()
            good = noise(4 * WINDOW)
            source.give(START, good)
            async with running(site.config(broker), source) as feeder:
                await until(lambda: account(feeder)["accepted_bits"] == 512 * len(blocks_of(good)))
                source.give(SourceGone("strings: unplugged"))
                await until(lambda: feeder.state == "strings: unplugged")
                source.give(bytes(WINDOW))
                await until(lambda: account(feeder)["recalled_bits"])
                await until(lambda: feeder.state == "the start-up test fails")
                assert account(feeder)["recalled_bits"] == 512 * 4
                assert (feeder.n_failures, feeder.retired, len(feeder.alarms)) == (0, False, 1)
                # It may still be read, on its way to be closed: what comes now would be lost.
                source.give(SourceGone("strings: unplugged again"))
                after = noise(2 * WINDOW, "after")
                source.give(noise(len(START), "again"), after)
                await until(lambda: received.blocks == blocks_of(good) + blocks_of(after))

    asyncio.run(scenario())
    (alarm,) = [line for line in said if line.startswith("ALARM")]
    assert "start-up test failed" in alarm
    assert "4 to be recalled from broker1" in alarm


def test_another_device_brings_its_own_figures(site: Site, said: list[str]) -> None:
    async def scenario() -> None:
        async with site.broker() as broker:
            received = Received(broker)
            source = Strings()
            source.give(START, noise(2 * WINDOW))
            async with running(site.config(broker), source) as feeder:
                await until(lambda: len(received.blocks) == 7)
                source.own = Figures(1, 4, "another device")
                source.give(SourceGone("strings: switched"))
                source.give(noise(len(START), "start-up test"), noise(3 * WINDOW, "other"))
                await until(lambda: len(received.blocks) == 9)  # of 576 raw bytes each
                assert feeder.figures.reason == "another device"
                source.own = Figures(0, 4, "worth nothing")
                source.give(SourceGone("strings: switched"))
                await until(lambda: "earns no credit" in feeder.state)

    asyncio.run(scenario())


def test_a_silent_source_is_mentioned(
    site: Site, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeder_module, "_LOOK_SECONDS", 0.01)

    async def scenario() -> None:
        source = Strings()
        pace = FAST._replace(silence_seconds=0.02)
        async with running(site.config("127.0.0.1:1"), source, pace) as feeder:
            await until(lambda: feeder.state == "silent")
            await asyncio.sleep(0.1)  # several looks
            assert len([line for line in said if "is silent" in line]) == 1
            source.give(START)
            await until(lambda: feeder.state != "silent")

    asyncio.run(scenario())


def test_a_device_that_hangs_as_it_is_opened_is_silent_too(
    site: Site, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeder_module, "_LOOK_SECONDS", 0.01)
    answers = threading.Event()

    class Hanging(Strings):
        def open(self) -> None:
            answers.wait(20)
            super().open()

    async def scenario() -> None:
        source = Hanging()
        pace = FAST._replace(silence_seconds=0.02)
        async with running(site.config("127.0.0.1:1"), source, pace) as feeder:
            await until(lambda: feeder.state == "silent")
            answers.set()
            source.give(START)
            await until(lambda: feeder.state == "delivering")

    asyncio.run(scenario())
    assert "strings is silent: it does not answer" in said


def test_a_refused_feeder_says_so_once_and_goes_on_trying(site: Site, said: list[str]) -> None:
    async def scenario() -> None:
        async with site.broker() as broker:
            broker.access.acl.entries.clear()  # revoked
            async with running(site.config(broker), Strings()):
                await until(lambda: broker.service.refusals.total() >= 2)

    asyncio.run(scenario())
    assert len([line for line in said if "did not accept this credential" in line]) == 1


def test_another_key_is_used_as_soon_as_it_is_there(site: Site, said: list[str]) -> None:
    """In a session that could last for ever, and without a restart."""

    async def scenario() -> None:
        source = Strings()
        async with site.broker() as broker:
            pace = FAST._replace(look_seconds=0.01)
            async with running(site.config(broker), source, pace) as feeder:
                path, old = site.folder / "rng1.json", broker.access.acl.entries

                def key_id() -> str:
                    return str(broker.status()["feeders"][0]["key_id"])

                await until(lambda: feeder.session.broker_id)
                before = key_id()
                # What is no credential leaves the session alone.
                path.write_text("{}")
                opened = feeder.session._opened
                assert opened is not None
                await until(lambda: opened.credential._file == _stat(path))
                assert feeder.session.broker_id
                site.feeder_credential()
                broker.access.reload()
                broker.access.acl.entries.update(old)  # both are valid for a while
                await until(lambda: key_id() != before)
                source.give(START, noise(2 * WINDOW, "with the new key"))
                await until(lambda: account(feeder)["sent_bits"])

    asyncio.run(scenario())
    assert len([line for line in said if "was replaced: logging in anew" in line]) == 1


def _stat(path: Path) -> tuple[int, ...]:
    found = path.stat()
    return found.st_ino, found.st_mtime_ns, found.st_ctime_ns


def test_a_certificate_that_has_expired_is_not_accepted(
    site: Site, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it cannot be asked whether the clock is right, as in the unit's sandbox."""
    monkeypatch.setattr("entropy.kernel.clock_is_synchronised", lambda: False)
    monkeypatch.setattr("tests.feeder.site.issue_broker", partial(issue_broker, days=0))

    async def scenario() -> None:
        async with site.broker() as broker, running(site.config(broker), Strings()):
            await until(lambda: any("certificate has expired" in text for text in said))

    asyncio.run(scenario())
    assert not any(text.startswith("connected") for text in said)


def test_pages_for_monitoring(site: Site, said: list[str]) -> None:
    def page(address: tuple[str, int], path: str) -> tuple[int, str]:
        url = f"http://{address[0]}:{address[1]}{path}"
        try:
            with urllib.request.urlopen(url, timeout=10) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    async def scenario() -> None:
        async with site.broker() as broker:
            source = Strings()
            config = site.config(broker, admin=AdminConfig("127.0.0.1:0"))
            async with running(config, source) as feeder:
                await until(lambda: feeder.admin_address)
                address = feeder.admin_address
                assert address is not None

                async def get(path: str) -> tuple[int, str]:
                    return await asyncio.to_thread(page, address, path)

                assert (await get("/healthz"))[0] == 200
                assert (await get("/readyz"))[0] == 503
                source.give(START, noise(2 * WINDOW))
                await until(lambda: account(feeder)["accepted_bits"] == 3584)
                assert (await get("/readyz"))[0] == 200
                _, text = await get("/metrics")
                assert "entropy_feeder_accepted_bits_total 3584" in text
                status: dict[str, Any] = json.loads((await get("/status"))[1])
                assert status["source"]["credit_bits_per_byte"] == CREDIT_BITS
                assert status["broker"]["id"] == "broker1"
                assert status["accounting"]["born_bits"] == 3584
                feeder.retired = True
                assert (await get("/healthz"))[0] == 503

    asyncio.run(scenario())


# What is wrong with the configuration


def test_check_names_what_is_wrong(site: Site) -> None:
    good = site.config("127.0.0.1:1")
    check(good)
    for source, message in (
        (SourceConfig("kernel:"), "kernel earns no credit .* name another source"),
        (SourceConfig("file:x"), "file:x earns no credit"),
        (SourceConfig("file:x", 4.0, 7.0), "without a reason"),
        (SourceConfig("kernel:", 1.0, 7.0, "because"), "lab_only_credit_kernel"),
        (SourceConfig("dice:"), "'dice:' is not a source"),
        (SourceConfig("file:x", 4.0, 3.0, "because"), "is below credit_bits_per_byte"),
        (SourceConfig("file:x", 0.05, 0.05, "because"), "can be cut from 0.1 to 8 bits"),
    ):
        with pytest.raises(ConfigError, match=message):
            check(site.config("127.0.0.1:1", source=source))
    check(site.config("127.0.0.1:1", source=SourceConfig("kernel:", lab_only_credit_kernel=True)))
    with pytest.raises(ConfigError, match="cannot read the authority's certificate"):
        check(site.config("127.0.0.1:1", ca=str(site.folder / "none.pem")))
    with pytest.raises(CredentialError):
        check(site.config("127.0.0.1:1", credential=str(site.folder / "none.json")))
    (site.folder / "rng1.json").chmod(0o644)
    with pytest.raises(CredentialError, match="chmod 0640"):
        check(good)


def test_a_credential_for_something_else(site: Site) -> None:
    site.feeder_credential(permissions=("draw",))
    with pytest.raises(CredentialError, match="'rng1' may not feed; its permissions are: draw"):
        check(site.config("127.0.0.1:1"))
    site.feeder_credential(site_id="elsewhere")
    with pytest.raises(ConfigError, match="is for the site 'elsewhere'"):
        check(site.config("127.0.0.1:1"))


def test_a_source_error_is_waited_out_too(site: Site, said: list[str]) -> None:
    async def scenario() -> None:
        source = Strings()
        source.refusal = SourceError("strings: Permission denied")
        async with running(site.config("127.0.0.1:1"), source) as feeder:
            await until(lambda: feeder.state == "strings: Permission denied")
            source.refusal = None
            source.give(START)
            await until(lambda: feeder.state == "delivering")

    asyncio.run(scenario())
