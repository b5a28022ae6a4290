"""Real virtio-rng over EGD: a guest with Debian's stock kernel and nothing of ours in it.

The tests tell one story, in the order in which they stand here.
"""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Iterator

import pytest

from lab.guest import pieces
from lab.guest.machine import Machine
from lab.names import CHECKOUT
from tests.guest.outside import Outside

pytestmark = pytest.mark.guest

RATE_BYTES_PER_SECOND = 200
BURST_BYTES = 400
LIMITS = {
    "rate_bytes_per_second": RATE_BYTES_PER_SECOND,
    "burst_bytes": BURST_BYTES,
    "total_rate_bytes_per_second": 10_000,
    "total_burst_bytes": 10_000,
}


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outside]:
    with Outside(tmp_path_factory.mktemp("outside"), LIMITS) as made:
        yield made


@pytest.fixture(scope="module")
def guest(outside: Outside) -> Iterator[Machine]:
    folder = pieces.FOLDER / "debs"
    subprocess.run([CHECKOUT / "packaging" / "build", folder], check=True)
    arguments = ["-chardev", f"socket,id=egd,path={outside.tap},reconnect=1"]
    arguments += ["-object", "rng-egd,id=rng,chardev=egd"]
    # QEMU's own limit, as libvirt's <rate> sets it; its period matters for what it has lost.
    arguments += ["-device", "virtio-rng-pci,rng=rng,max-bytes=1000000,period=1000"]
    arguments += ["-qmp", f"unix:{monitor_of(outside)},server=on,wait=off"]
    made = pieces.ensure(sorted(folder.glob("*.deb")))
    with Machine.start("gateway", made, arguments=arguments) as machine:
        yield machine


def monitor_of(outside: Outside) -> str:
    return f"{outside.tap}.qmp"


def tell_qemu(outside: Outside, *commands: str) -> None:
    with socket.socket(socket.AF_UNIX) as channel:
        channel.connect(monitor_of(outside))
        lines = channel.makefile("rw")
        lines.readline()  # a greeting
        for command in ("qmp_capabilities", *commands):
            lines.write(json.dumps({"execute": command}) + "\n")
            lines.flush()
            while "return" not in (answer := json.loads(lines.readline())):
                assert "error" not in answer, answer  # else an event


def read_hwrng(guest: Machine, n_bytes: int) -> bytes:
    """So many bytes of /dev/hwrng."""
    path = "/run/read"
    argv = ["dd", "if=/dev/hwrng", f"of={path}", "bs=16", f"count={n_bytes // 16}"]
    guest.run([*argv, "iflag=fullblock", "status=none"])
    return guest.read(path)


def all_came_through(data: bytes, recorded: bytes) -> bool:
    """Whether every 16 bytes of `data` went through the tap."""
    return all(data[i : i + 16] in recorded for i in range(0, len(data), 16))


def test_virtio_rng_is_the_guests_generator(guest: Machine) -> None:
    guest.until(
        "the kernel reads virtio-rng",
        lambda: guest.read("/sys/class/misc/hw_random/rng_current").startswith(b"virtio_rng"),
    )


def test_with_a_dry_broker_the_guest_waits_and_gets_nothing(
    guest: Machine, outside: Outside
) -> None:
    guest.until("it asked", lambda: outside.n_requests)
    done = guest.run(["timeout", "3", "head", "-c", "1", "/dev/hwrng"], check=False)
    assert done.status == 124, "it waited to the end"
    assert done.stdout == ""
    assert not outside.recorded
    assert outside.delivered_bytes() == 0


def test_the_guest_gets_what_the_broker_delivered(guest: Machine, outside: Outside) -> None:
    outside.feed(16)
    data = read_hwrng(guest, 256)
    assert len(data) == 256
    assert len(set(data)) > 100
    assert all_came_through(data, bytes(outside.recorded))
    buffer = outside.gateway.buffer
    guest.until("all is drawn", lambda: outside.delivered_bytes() == 16 * 64 == buffer.drawn_bytes)
    assert buffer.handed_out_bytes == len(outside.recorded)
    assert buffer.drawn_bits == 8 * (buffer.handed_out_bytes + len(buffer))
    assert buffer.destroyed_bytes == 0


def test_the_rate_holds(guest: Machine, outside: Outside) -> None:
    outside.feed(24)
    before, start = len(outside.recorded), time.monotonic()
    data = read_hwrng(guest, BURST_BYTES + 1008)
    passed_seconds = time.monotonic() - start
    assert len(outside.recorded) - before <= BURST_BYTES + RATE_BYTES_PER_SECOND * passed_seconds
    assert passed_seconds > 2
    assert all_came_through(data, bytes(outside.recorded))


def test_what_qemu_has_lost_by_a_restart_comes_back_when_the_guest_is_stopped_and_continued(
    guest: Machine, outside: Outside
) -> None:
    """QEMU forgets what it had asked for when the gateway restarts, and the guest waits for it."""
    argv = ["systemd-run", "--quiet", "--unit=reader", "dd", "if=/dev/hwrng", "of=/run/all"]
    guest.run([*argv, "bs=16", "count=100000", "iflag=fullblock"])
    gateway = outside.gateway
    guest.until("all is given", lambda: gateway.desk.n_waiting and not len(gateway.buffer))
    outside.restart_gateway()
    guest.until("qemu is there again", lambda: outside.gateway.desk.readers)
    outside.feed(16)
    before = len(guest.read("/run/all"))
    tell_qemu(outside, "stop", "cont")
    guest.until("it goes on", lambda: len(guest.read("/run/all")) > before + 256)
    assert all_came_through(guest.read("/run/all"), bytes(outside.recorded))
