"""The life of a gateway's credential: a new key while it serves, the end of it, and its return."""

from __future__ import annotations

import pytest

from tests.fleet.conftest import wait_until
from tests.fleet.egd import CREDENTIAL, HOST, ID, READER, SOCKET, UNIT, Gateway
from tests.lifecycle.conftest import Story

pytestmark = pytest.mark.fleet

SITE, ROTATE, REVOKE = "site.yml", "playbooks/rotate.yml", "playbooks/revoke.yml"

# One connection, as QEMU's is, that reads for as long as a file is there; how often it could.
LOAD = "/run/entropy-egd-load"
STEADY = f"""
import os
channel, n_reads = reader(SOCKET), 0
while os.path.exists({LOAD!r}):
    asked(channel, bytes([2, 8]), 8)
    n_reads += 1
    time.sleep(0.25)
print("read", n_reads, "times")
"""


@pytest.fixture(scope="module")
def gateway(story: Story) -> Gateway:
    return Gateway(story.fleet)


def test_a_gateway_takes_its_new_key_and_cuts_nobody_off(story: Story, gateway: Gateway) -> None:
    fleet = story.fleet
    before, pid, own = story.key_id(HOST, CREDENTIAL), gateway.pid(), story.key_id(HOST)
    fleet.ssh(HOST, f"cat >{LOAD}.py; touch {LOAD}", stdin=READER + STEADY)
    fleet.ssh(HOST, f"nohup /usr/bin/python3 {LOAD}.py </dev/null >{LOAD}.log 2>&1 &")
    try:
        run = story.play(ROTATE, "-e", f"ids={ID}")
    finally:
        fleet.ssh(HOST, f"rm {LOAD}")
    wait_until(lambda: fleet.ssh(HOST, f"cat {LOAD}.log").stdout, "the reader has ended")
    words = fleet.ssh(HOST, f"cat {LOAD}.log").stdout.split()
    assert run.status == 0, run.output[-3000:]
    assert f"The new key was seen and the old one has ended: {ID}." in run.output
    assert story.key_id(HOST, CREDENTIAL) != before
    assert story.key_id(HOST) == own  # the client's on the same host is another
    assert gateway.pid() == pid
    assert words[::2] == ["read", "times"], " ".join(words)
    assert int(words[1]) > 10
    # What it draws from now on it draws with the new key.
    wait_until(gateway.is_full, "it draws")
    used = {
        client["key_id"]
        for broker in ("broker1", "broker2")
        for client in fleet.status(broker)["clients"]
        if client["id"] == ID
    }
    assert story.key_id(HOST, CREDENTIAL) in used


def test_a_revoked_gateway_stops_and_its_host_goes_on(story: Story) -> None:
    fleet = story.fleet
    run = story.play(REVOKE, "-e", f"ids={ID}")
    assert run.status == 0, run.output[-3000:]
    assert not fleet.runs(HOST, UNIT)
    gone = fleet.ssh(HOST, f"ls {CREDENTIAL} {SOCKET}", check=False)
    assert gone.stdout == ""
    assert story.draws(HOST)
    # It is not put back, and is not missed.
    run = story.play(SITE, "--limit", HOST)
    assert run.status == 0, run.output[-3000:]
    assert f"Revoked earlier, so skipped: {ID}." in run.output, run.output[-9000:]
    assert run.recap[HOST]["changed"] == 0
    assert not fleet.runs(HOST, UNIT)


def test_a_revoked_gateway_is_admitted_again(story: Story, gateway: Gateway) -> None:
    run = story.play(SITE, "--limit", HOST, "-e", f"reissue={ID}")
    assert run.status == 0, run.output[-3000:]
    assert len(gateway.draw(64)) == 64
