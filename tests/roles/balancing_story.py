"""Runs where haproxy is: the rendered configuration between clients and two pretended brokers.

Usage: balancing_story.py haproxy.cfg. Ends with an AssertionError where haproxy does something else
than the story says.
"""

from __future__ import annotations

import asyncio
import csv
import os
import signal
import sys
from collections import Counter

VIP = "127.0.0.10"
PATIENCE_SECONDS = 30
PROXY_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"


class Broker:
    """Says its line at the agent's port, and its name to whoever comes by a balancer."""

    def __init__(self, name: str, address: str) -> None:
        self.name, self.address = name, address
        self.line = "up ready 100%"
        self.hangs = False
        self._servers: list[asyncio.Server] = []

    async def start(self) -> None:
        for port, answer in ((25227, self._serve), (25228, self._say)):
            server = await asyncio.start_server(answer, self.address, port)
            self._servers.append(server)

    def die(self) -> None:
        for server in self._servers:
            server.close()
        self._servers.clear()

    async def _say(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self.hangs:
            writer.write(self.line.encode() + b"\n")
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        header = await reader.readexactly(28)
        assert header.startswith(PROXY_SIGNATURE), header
        if not self.hangs:
            writer.write(self.name.encode())
            await reader.read()  # until the client goes
            writer.close()


async def draw() -> str:
    """The name of the broker that answered."""
    reader, writer = await asyncio.open_connection(VIP, 25226)
    name = await reader.read(100)
    writer.close()
    return name.decode()


async def draws(n: int) -> Counter[str]:
    return Counter([await draw() for _ in range(n)])


async def seen(broker: Broker) -> str:
    """State and weight of a broker, as haproxy has them."""
    reader, writer = await asyncio.open_unix_connection("/run/haproxy/admin.sock")
    writer.write(b"show stat\n")
    rows = csv.DictReader((await reader.read()).decode().removeprefix("# ").splitlines())
    writer.close()
    [row] = [r for r in rows if (r["pxname"], r["svname"]) == ("brokers", broker.name)]
    return f"{row['status']} {row['weight']}"


async def until(broker: Broker, state: str) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (now := await seen(broker)) != state:
            print(f"{broker.name}: {now}, not yet {state}", file=sys.stderr)
            await asyncio.sleep(0.2)


async def story(one: Broker, two: Broker) -> None:
    # As full as they are.
    one.line, two.line = "up ready 80%", "up ready 20%"
    await until(one, "UP 80")
    await until(two, "UP 20")
    assert await draws(50) == {"broker1": 40, "broker2": 10}
    # A little is not nothing.
    one.line = "up ready 1%"
    await until(one, "UP 1")
    # Drained, and not any more.
    one.line = "up drain # somebody works there"
    await until(one, "DRAIN (agent) 1")
    assert await draws(10) == {"broker2": 10}
    one.line = "up ready 50%"
    await until(one, "UP 50")
    # Both dry: somebody says so all the same.
    one.line = two.line = "ready down # dry"
    await until(one, "DOWN (agent) 50")
    await until(two, "DOWN (agent) 20")
    assert (await draws(10)).total() == 10
    one.line = two.line = "up ready 50%"
    await until(one, "UP 50")
    await until(two, "UP 50")
    # Dead: whoever comes in the same moment is served by the other.
    one.die()
    assert (answered := await draws(20)) == {"broker2": 20}, answered
    await one.start()
    await until(one, "UP 50")
    # It hangs: the kernel still accepts for it. Whoever waits there is hung up on, and comes again.
    one.hangs = True
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (await draws(2)) != {"broker2": 2}:
            pass
    one.hangs = False
    await until(one, "UP 50")


async def reload(haproxy: asyncio.subprocess.Process) -> None:
    """As the unit does. Nobody is refused meanwhile, and who is connected may stay for a while."""
    reader, writer = await asyncio.open_connection(VIP, 25226)
    assert await reader.read(100) in (b"broker1", b"broker2")
    for _ in range(3):
        haproxy.send_signal(signal.SIGUSR2)
        assert not set(answered := await draws(50)) - {"broker1", "broker2"}, answered
    assert not reader.at_eof()
    # Not for ever: a client that never goes would keep the old process, and its configuration.
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert await reader.read() == b""
    writer.close()
    assert not set(await draws(2)) - {"broker1", "broker2"}


async def main() -> None:
    brokers = [Broker("broker1", "127.0.0.11"), Broker("broker2", "127.0.0.12")]
    for broker in brokers:
        await broker.start()
    os.makedirs("/run/haproxy", exist_ok=True)
    haproxy = await asyncio.create_subprocess_exec("haproxy", "-W", "-db", "-f", sys.argv[1])
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not os.path.exists("/run/haproxy/admin.sock"):
                await asyncio.sleep(0.1)
        await story(*brokers)
        await reload(haproxy)
    finally:
        haproxy.terminate()
        await haproxy.wait()
    print("the end")


if __name__ == "__main__":
    asyncio.run(main())
