"""Runs where haproxy is: a real agent, a real haproxy, and what it makes of each line.

Usage: haproxy_story.py. Prints one JSON object for each line of the story.
"""

from __future__ import annotations

import asyncio
import contextlib
import csv
import json
import os
import sys
from pathlib import Path

sys.path.insert(0, os.getcwd())

from entropy.broker.agent import Agent, words

PATIENCE_SECONDS = 20
STATS = "/run/story.sock"
CONFIGURATION = """
global
    stats socket {stats} mode 600 level admin
defaults
    mode tcp
    timeout connect 1s
    timeout client 5s
    timeout server 5s
backend brokers
    default-server inter 100ms agent-inter 100ms
    default-server weight 100 check agent-check agent-addr 127.0.0.1 agent-port {agent}
    server one 127.0.0.1:{served}
"""
DRY = "the reservoir is empty, and no feeder or peer brings anything"
# held blocks of 100, draining, problem; then what haproxy is to say: status and weight
STORY: list[tuple[int, bool, str | None, str, int]] = [
    (75, False, None, "UP", 75),
    (75, True, None, "DRAIN (agent)", 75),  # which is what it gets back
    (75, False, None, "UP", 75),
    (0, False, DRY, "DOWN (agent)", 75),
    (1, False, None, "UP", 1),
    (0, False, None, "UP", 1),
    (0, False, DRY, "DOWN (agent)", 1),
    (0, True, DRY, "DRAIN (agent)", 1),
    (0, False, DRY, "DOWN (agent)", 1),
    (100, True, None, "DRAIN (agent)", 1),
    (100, False, None, "UP", 100),
]


async def server_line() -> tuple[str, int]:
    """Status and weight of the one server, as haproxy's statistics say."""
    reader, writer = await asyncio.open_unix_connection(STATS)
    writer.write(b"show stat brokers 4 -1\n")
    text = (await reader.read()).decode()
    writer.close()
    [row] = csv.DictReader(text.removeprefix("# ").strip().splitlines())
    return row["status"], int(row["weight"])


async def story() -> None:
    facts = STORY[0]

    def line() -> str:
        held_blocks, draining, problem = facts[:3]
        return words(
            draining=draining, problem=problem, held_blocks=held_blocks, capacity_blocks=100
        )

    agent = Agent(["127.0.0.1:0"], ["127.0.0.1"], line)
    await agent.start()
    served = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    path = Path("/tmp/haproxy.cfg")
    path.write_text(
        CONFIGURATION.format(
            stats=STATS,
            served=served.sockets[0].getsockname()[1],
            agent=agent.addresses[0].rpartition(":")[2],
        )
    )
    haproxy = await asyncio.create_subprocess_exec("haproxy", "-db", "-f", str(path))
    try:
        for facts in STORY:
            seen = ("", -1)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE_SECONDS):
                    while seen != facts[3:]:
                        await asyncio.sleep(0.05)
                        with contextlib.suppress(OSError):
                            seen = await server_line()
            print(json.dumps({"said": line(), "wanted": facts[3:], "seen": seen}), flush=True)
    finally:
        haproxy.terminate()
        await haproxy.wait()
        await agent.stop()


if __name__ == "__main__":
    asyncio.run(story())
