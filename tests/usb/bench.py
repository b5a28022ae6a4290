"""How fast the driver reads, and what a whole feeder costs: `make bench-feeder`.

Real libusb and pyusb above a kernel's bus that umockdev plays. The device is another process, so
what it costs is not counted; what libusb spends on asking it is, a little more than a real kernel
would take. Two figures, and the bounds that they should keep:

1. an Alea that gives as much as full-speed USB can carry, 19 packets of 64 bytes in each
   millisecond: read at 1 MB/s or more;
2. an Alea at its own 12.5 kB/s, read by `entropy feeder`, tested, conditioned and pushed to a
   broker over TLS: under 1 % of a core, user and system time together.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from entropy.authority import new_authority
from entropy.sources.uri import source_for
from tests.feeder.site import Site
from tests.usb.worlds import ROOT, UmockdevWorld

FULL_SPEED_BYTES_PER_SECOND = 19 * 64 * 1000
ALEA_BYTES_PER_SECOND = 12_500
LEAST_BYTES_PER_SECOND = 1_000_000
MOST_SHARE = 0.01
_WARM_UP_SECONDS = 5.0
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def rate_bytes_per_second(world: UmockdevWorld, seconds: float) -> tuple[float, float]:
    """What is read from the fast device, and the share of a core that it takes."""
    name = world.plug()
    world.pace(name, FULL_SPEED_BYTES_PER_SECOND)
    source = source_for("alea:")
    source.open()
    source.read(1024)
    n_bytes, start, start_cpu = 0, time.monotonic(), time.process_time()
    while time.monotonic() - start < seconds:
        n_bytes += len(source.read(1024))
    took, took_cpu = time.monotonic() - start, time.process_time() - start_cpu
    source.close()
    world.unplug(name)
    return n_bytes / took, took_cpu / took


async def feeder_share(world: UmockdevWorld, folder: Path, seconds: float) -> tuple[float, float]:
    """The share of a core that a feeder takes, and the bytes per second that it worked on."""
    site = Site(folder, new_authority("lab"))
    async with site.broker(capacity_blocks=100_000) as broker:
        path = folder / "feeder.toml"
        path.write_text(
            "[feeder]\n"
            'site_id = "lab"\n'
            f'credential = "{folder}/rng1.json"\n'
            f'ca = "{folder}/ca.pem"\n'
            f'brokers = ["{broker.addresses[0]}"]\n'
            "[source]\n"
            'uri = "alea:"\n'
        )
        name = world.plug()
        world.pace(name, ALEA_BYTES_PER_SECOND)
        process = subprocess.Popen(
            [sys.executable, "-m", "entropy", "feeder", "--config", str(path)], cwd=ROOT
        )
        try:
            await asyncio.sleep(_WARM_UP_SECONDS)
            start, before, n_before = time.monotonic(), _cpu_seconds(process.pid), _fed_bits(broker)
            await asyncio.sleep(seconds)
            took = time.monotonic() - start
            share = (_cpu_seconds(process.pid) - before) / took
            n_bytes = (_fed_bits(broker) - n_before) / 512 * 144  # 576 bits at 4 for each byte
        finally:
            process.terminate()
            process.wait(30)
    return share, n_bytes / took


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND


def _fed_bits(broker: object) -> int:
    (feeder,) = broker.status()["feeders"]  # type: ignore[attr-defined]
    return int(feeder["fed_bits"])


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=30)
    seconds = parser.parse_args().seconds
    world = UmockdevWorld()
    try:
        rate, rate_share = rate_bytes_per_second(world, min(seconds, 5))
        with tempfile.TemporaryDirectory() as folder:
            share, n_bytes = asyncio.run(feeder_share(world, Path(folder), seconds))
    finally:
        world.end()
    print(f"driver, full-speed device: {rate / 1e6:.2f} MB/s at {100 * rate_share:.1f} % of a core")
    print(
        f"feeder, {ALEA_BYTES_PER_SECOND} B/s: {100 * share:.2f} % of a core"
        f" ({n_bytes:.0f} B/s became credited blocks)"
    )
    kept = rate >= LEAST_BYTES_PER_SECOND and share < MOST_SHARE
    print("both bounds are kept" if kept else "a bound is NOT kept")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
