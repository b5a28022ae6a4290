"""Every row of the table of faults: what the driver makes of it, on both buses."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from entropy.errors import ConfigError, SourceError, SourceGone
from entropy.sources import usb, usb_find
from entropy.sources.base import Source
from entropy.sources.chaoskey import ChaosKeySource
from entropy.sources.uri import source_for
from tests.usb.backend import raise_fault
from tests.usb.emulated import CHAOSKEY
from tests.usb.worlds import MemoryWorld, Step, World


def opened(uri: str = "alea:") -> Source:
    source = source_for(uri)
    source.open()
    return source


def take(source: Source, n_bytes: int) -> bytes:
    """Exactly so many bytes, in as many reads as it takes."""
    samples = b""
    while len(samples) < n_bytes:
        some = source.read(n_bytes - len(samples))
        assert some
        samples += some
    return samples


def test_it_reads_as_it_is(world: World) -> None:
    name = world.plug()
    source = opened()
    samples = take(source, 10_000)
    assert len(set(samples)) == 256
    source.close()
    looked = world.look(name)
    assert looked["calls"][0] == "claim"
    assert "set_configuration" not in looked["calls"]
    assert "release" in looked["calls"]
    assert {request[0] for request in looked["requests"]} == {0x81}
    assert looked["requests"][0][1] == 4096


@pytest.mark.parametrize(
    "steps",
    [
        [["short", 1]],
        [["short", 63], ["short", 64], ["short", 65]],
        [["empty"]] * 3,
        [["part", 100]],
        [["silence"]],
        [["silence"], ["part", 7], ["silence"]],
        [["stall"]],
        [["stall"], ["stall"]],
        [["io"]],
        [["io"], ["io"], ["short", 5], ["io"], ["io"]],
        [["babble"]],
        [["stall"], ["io"], ["short", 1], ["babble"], ["empty"], ["silence"]],
    ],
    ids=lambda steps: " ".join(str(step[0]) for step in steps),
)
def test_it_goes_on_through_it(world: World, steps: list[Step]) -> None:
    """All that the device gives comes out, in order, without reopening it."""
    name = world.plug()
    source = opened()
    world.script(name, *steps)
    samples = take(source, 20_000)
    looked = world.look(name)
    assert looked["left"] == 0
    # Nothing of what it gave is lost or doubled: it is the device's own sequence of bytes.
    assert samples == expected(20_000, steps)
    assert looked["calls"].count("clear_halt") == steps.count(["stall"])
    assert looked["calls"].count("claim") == 1
    source.close()


def expected(n_bytes: int, steps: list[Step]) -> bytes:
    import random

    noise, samples = random.Random(1), b""
    for step in steps:
        if len(step) == 2:
            assert isinstance(step[1], int)
            samples += noise.randbytes(step[1])
    while len(samples) < n_bytes:
        samples += noise.randbytes(4096)
    return samples[:n_bytes]


@pytest.mark.parametrize(
    ("steps", "why"),
    [
        ([["io"]] * 3, "gave 3 errors in a row, the last one: Input/Output Error"),
        ([["babble"]] * 3, "gave 3 errors in a row, the last one: Overflow"),
        ([["stall"], ["io"], ["babble"]], "gave 3 errors in a row"),
        ([["silence"]] * 20, "gave nothing for 0.3 s; .* unplug it and plug it in again"),
        ([["empty"]] * 100, "gave nothing for 0.3 s"),
    ],
)
def test_what_does_not_end_is_opened_anew(world: World, steps: list[Step], why: str) -> None:
    name = world.plug()
    source = opened()
    world.script(name, *steps)
    with pytest.raises(SourceGone, match=f"alea: the Araneus Alea at bus 1, port 2.*, {why}"):
        take(source, 10_000)
    source.open()
    world.script(name)
    assert len(take(source, 10_000)) == 10_000
    assert world.look(name)["calls"].count("claim") == 2
    source.close()


@pytest.mark.parametrize(
    ("fault", "message"), [("gone", "was unplugged"), ("io", "gave 3 errors in a row")]
)
def test_a_stall_that_cannot_be_cleared(
    memory: MemoryWorld, monkeypatch: pytest.MonkeyPatch, fault: str, message: str
) -> None:
    name = memory.plug()
    source = opened()
    monkeypatch.setattr(memory.devices[name], "clear_halt", lambda: raise_fault(fault))
    memory.script(name, ["stall"])
    with pytest.raises(SourceGone, match=f"alea: the Araneus Alea at bus 1, .* {message}"):
        take(source, 1)
    source.close()


def test_empty_packets_are_nothing_however_seldom_they_come(
    memory: MemoryWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """15 s are 15 s of the clock: a device that sends one in each second is opened anew, too."""
    now = 0.0

    def clock() -> float:
        nonlocal now
        now += 0.1
        return now

    monkeypatch.setattr(usb, "time", SimpleNamespace(monotonic=clock, sleep=lambda seconds: None))
    name = memory.plug()
    source = opened()
    memory.script(name, *[["empty"]] * 10)
    with pytest.raises(SourceGone, match=r"gave nothing for 0\.3 s"):
        take(source, 1)
    assert memory.look(name)["left"] >= 6
    source.close()


def test_a_fast_device_is_asked_for_more_at_once(
    memory: MemoryWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sizes(n_transfers: int) -> list[int]:
        for _ in range(n_transfers):
            source.read(2**20)
        return [request[1] for request in memory.look(name)["requests"]][-n_transfers:]

    name = memory.plug()
    source = opened()
    assert sizes(6) == [4096, 8192, 16384, 32768, 65536, 65536]
    memory.script(name, ["short", 100], ["short", 32768])
    assert sizes(3) == [65536, 32768, 65536]
    monkeypatch.setattr(usb, "TRANSFER_SECONDS", 0.0)  # now every transfer takes too long
    assert sizes(6) == [65536, 32768, 16384, 8192, 4096, 4096]
    source.close()


def test_zeros_are_no_error_here(world: World) -> None:
    """The health tests see them; a driver that dropped them would hide a fault."""
    name = world.plug()
    world.script(name, ["zeros"])
    source = opened()
    assert take(source, 4096) == bytes(4096)
    source.close()


@pytest.mark.parametrize("step", [["gone"], ["io"]])
def test_unplugged_in_the_middle_of_a_read_and_back_elsewhere(world: World, step: Step) -> None:
    """Some buses say 5 before they say 19."""
    name = world.plug()
    source = opened()
    assert take(source, 4096)
    world.script(name, step, ["gone"])
    with pytest.raises(SourceGone, match="at bus 1, port 2, serial number A1, was unplugged"):
        take(source, 4096)
    world.unplug(name)
    with pytest.raises(SourceGone, match=r"^alea: no Araneus Alea is plugged in$"):
        source.open()
    again = world.plug(address=3, ports=(4, 1))
    source.open()
    assert len(take(source, 10_000)) == 10_000
    assert world.look(again)["calls"][0] == "claim"
    source.close()


def test_replugged_while_nobody_looked(world: World) -> None:
    name = world.plug()
    source = opened()
    take(source, 4096)
    world.unplug(name)
    world.plug(address=9)
    with pytest.raises(SourceGone, match="was unplugged"):
        take(source, 4096)
    source.open()
    assert take(source, 4096)
    source.close()


def test_a_kernel_driver_lets_go(world: World) -> None:
    name = world.plug(kernel_driver="chaoskey")
    source = opened()
    assert take(source, 4096)
    source.close()
    looked = world.look(name)
    assert looked["calls"][:2] == ["detach", "claim"]
    assert looked["driver"] == ""
    assert "set_configuration" not in looked["calls"]


def test_a_kernel_driver_that_binds_again_at_once(world: World) -> None:
    name = world.plug(kernel_driver="chaoskey", n_rebinds=2)
    source = opened()
    assert take(source, 4096)
    source.close()
    assert world.look(name)["calls"][:4] == ["detach", "detach", "detach", "claim"]


def test_a_kernel_driver_that_lets_go_by_itself(
    memory: MemoryWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = memory.devices[memory.plug(kernel_driver="chaoskey")]

    def late() -> None:
        device.kernel_driver = ""
        raise_fault("not found")

    monkeypatch.setattr(device, "detach", late)
    source = opened()
    assert take(source, 1)
    source.close()
    assert device.calls[0] == "claim"


def test_what_else_may_be_in_the_way(memory: MemoryWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    device = memory.devices[memory.plug()]
    monkeypatch.setattr(device, "claim", lambda: "io")
    message = "^alea: the Araneus Alea .* cannot be claimed: Input/Output Error; unplug it and"
    with pytest.raises(SourceError, match=message) as caught:
        opened()
    assert not isinstance(caught.value, SourceGone)


def test_unplugged_as_it_is_claimed(memory: MemoryWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    device = memory.devices[memory.plug()]
    monkeypatch.setattr(device, "claim", lambda: "gone")
    with pytest.raises(SourceGone, match=r"^alea: the Araneus Alea .* was unplugged"):
        opened()


def test_claimed_for_a_moment(world: World) -> None:
    world.plug(claimed_elsewhere=3)
    source = opened()
    assert take(source, 4096)
    source.close()


def test_claimed_by_another_process(world: World) -> None:
    world.plug(claimed_elsewhere=100)
    with pytest.raises(SourceError, match="is claimed by another process: end that") as caught:
        opened()
    assert "as root, `entropy sources` says which process it is" in str(caught.value)
    assert not isinstance(caught.value, SourceGone)


def test_claimed_by_a_process_that_may_be_seen(
    memory: MemoryWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usb_find, "_ROOT", str(tmp_path))
    other = 2**22 + 1  # above any process of Linux: this one comes first, and is not meant
    for number in (os.getpid(), other):
        (tmp_path / f"proc/{number}/fd").mkdir(parents=True)
        (tmp_path / f"proc/{number}/fd/5").symlink_to("/dev/bus/usb/001/002")
        (tmp_path / f"proc/{number}/comm").write_text("rngd\n")
    memory.plug(claimed_elsewhere=100)
    message = rf"^alea: the Araneus Alea .*, is claimed by process {other} \(rngd\): end that, or"
    with pytest.raises(SourceError, match=message):
        opened()


def test_a_kernel_driver_that_does_not_let_go(
    memory: MemoryWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usb_find, "_ROOT", str(tmp_path))
    interface = tmp_path / "sys/bus/usb/devices/1-2:1.0"
    interface.mkdir(parents=True)
    (interface / "driver").symlink_to("../../../../bus/usb/drivers/chaoskey")
    memory.plug(kernel_driver="chaoskey", n_rebinds=100)
    message = (
        r"^alea: the Araneus Alea at bus 1, port 2.*: the kernel driver chaoskey does not let .*"
    )
    message += "`modprobe -r chaoskey`"
    with pytest.raises(SourceError, match=message):
        opened()


def test_a_device_that_has_no_configuration_gets_one(world: World) -> None:
    name = world.plug(configuration=0)
    source = opened()
    assert take(source, 4096)
    source.close()
    assert world.look(name)["calls"].count("set_configuration") == 1


def test_no_permission_for_good(memory: MemoryWorld) -> None:
    name = memory.plug(forbidden=1000)
    with pytest.raises(SourceError, match="no permission to open /dev/bus/usb/001/002") as caught:
        opened()
    assert "60-entropy-feeder.rules" in str(caught.value)
    memory.devices[name].forbidden = 0
    source = opened()
    assert take(source, 1)
    source.close()


def test_permission_that_comes_a_moment_later(memory: MemoryWorld) -> None:
    memory.plug(forbidden=3)
    source = opened()
    assert take(source, 1)
    source.close()


def test_the_first_read_may_take_five_seconds(
    memory: MemoryWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # the waits as they are
    monkeypatch.setattr(usb, "new_backend", memory.bus.new_backend)
    name = memory.plug()
    source = opened()
    memory.script(name, ["silence"])
    take(source, 9000)
    timeouts = [request[2] for request in memory.look(name)["requests"]]
    assert timeouts == [5000, 1000, 1000]
    source.close()
    source.open()
    take(source, 1)
    assert memory.look(name)["requests"][-1][2] == 5000
    take(source, 5000)  # more than the rest of that transfer
    assert memory.look(name)["requests"][-1][2] == 1000
    source.close()


def test_every_opening_has_a_context_of_its_own_and_none_is_left(memory: MemoryWorld) -> None:
    name = memory.plug()
    source = opened()
    for _ in range(5):
        memory.script(name, ["io"], ["io"], ["io"])
        with pytest.raises(SourceGone):
            source.read(1)
        source.open()
    memory.unplug(name)
    with pytest.raises(SourceGone):
        source.read(1)
    for _ in range(3):
        with pytest.raises(SourceGone, match="no Araneus Alea is plugged in"):
            source.open()
    source.close()
    assert len(memory.bus.contexts) == 9
    assert memory.bus.open_contexts == 0


# Which device


def test_two_devices_at_once(world: World) -> None:
    first, second = world.plug(), world.plug(serial_number="B2", ports=(3,), address=3)
    one, two = opened("alea:serial=A1"), opened("alea:bus=1,port=3")
    for source in (one, two):
        assert take(source, 10_000)
    assert world.look(first)["n_bytes_given"] >= 10_000
    assert world.look(second)["n_bytes_given"] >= 10_000
    world.unplug(first)
    with pytest.raises(SourceGone, match="serial number A1, was unplugged"):
        take(one, 300_000)
    assert take(two, 10_000)
    with pytest.raises(SourceGone, match=r"no Araneus Alea with the serial number A1 .*B2"):
        one.open()
    world.plug(bus=2, ports=(1,), address=5)
    one.open()
    assert take(one, 1)
    one.close()
    two.close()


def test_any_two_feeders_take_one_each(world: World) -> None:
    world.plug()
    world.plug(serial_number="B2", ports=(3,), address=3)
    one, two = opened(), opened()
    assert take(one, 100) + take(two, 100)
    with pytest.raises(SourceError, match="is claimed by another process"):
        opened()
    one.close()
    three = opened()
    assert take(three, 1)
    two.close()
    three.close()


def test_without_a_serial_number_the_place_tells(world: World) -> None:
    world.plug(serial_number="", ports=(1, 4))
    with pytest.raises(
        SourceGone, match=r"no Araneus Alea at bus 1, port 2 is plugged in; there is"
    ):
        opened("alea:bus=1,port=2")
    source = opened("alea:bus=1,port=1.4")
    assert take(source, 1)
    source.close()


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("alea:serial=A1,bus=1", "not by both"),
        ("alea:port=2", "say bus= too"),
        ("alea:bus=one", "bus is a number"),
        ("alea:bus=1,port=2-3", "port is written 2, or 2.3"),
        ("alea:seriel=1", r"did you mean serial=\?"),
        ("alea:serial=", "serial needs a value"),
        ("alea:bus=1,bus=2", "bus stands there twice"),
        ("chaoskey:endpoint=boiled", "endpoint is one of cooked, raw"),
    ],
)
def test_what_cannot_be_meant(uri: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        source_for(uri)


# Endpoints


def test_the_first_bulk_in_endpoint_and_its_packets(world: World) -> None:
    name = world.plug(endpoints=[[0x83, 3, 8], [0x02, 2, 64], [0x84, 2, 48], [0x85, 2, 64]])
    source = opened()
    assert take(source, 1)
    endpoint, n_bytes = world.look(name)["requests"][-1][:2]
    assert endpoint == 0x84
    assert n_bytes >= 4096
    assert n_bytes % 48 == 0
    source.close()


def test_a_device_without_such_an_endpoint(world: World) -> None:
    world.plug(endpoints=[[0x83, 3, 8], [0x02, 2, 64]])
    with pytest.raises(SourceError, match="has no bulk IN endpoint in interface 0"):
        opened()


CHAOSKEY_ENDPOINTS = [[0x85, 2, 64], [0x86, 2, 64], [0x87, 2, 64]]


def test_chaoskey_cooked(world: World) -> None:
    name = world.plug(ids=CHAOSKEY, endpoints=CHAOSKEY_ENDPOINTS)
    source = opened("chaoskey:")
    assert len(set(take(source, 5000))) == 256
    assert world.look(name)["requests"][-1][0] == 0x85
    source.close()


def test_chaoskey_raw_is_the_lower_byte_of_each_sample(world: World) -> None:
    name = world.plug(ids=CHAOSKEY, endpoints=CHAOSKEY_ENDPOINTS)
    source = opened("chaoskey:endpoint=raw,serial=A1")
    world.script(name, ["short", 5], ["short", 1], ["short", 4])
    raw = expected(10 + 4096, [["short", 5], ["short", 1], ["short", 4]])
    assert take(source, 5 + 2048) == raw[::2]
    assert world.look(name)["requests"][-1][0] == 0x86
    assert source.figures.test_bits_per_byte == 4
    # Half a sample from before it was opened anew is no part of one after.
    assert isinstance(source, ChaosKeySource)
    assert source.decode(b"\1\2\3") == b"\1"
    source.open()
    assert source.decode(b"\4\5") == b"\4"
    source.close()
