"""The gateway on a KVM host: what its guests are given, and what they cannot do."""

from __future__ import annotations

import subprocess
import threading
from typing import Any

import pytest

from tests.fleet import egd
from tests.fleet.conftest import Fleet, wait_until
from tests.fleet.egd import HOST, ID, UNIT, Books, Gateway
from tests.fleet.test_secrecy import PUSH

pytestmark = pytest.mark.fleet

VERIFY = "playbooks/verify.yml"

# Two readers that want all that they can have: how much came, by when.
GREEDY = """
import threading
began = time.monotonic()
def read(where):
    channel = reader(where)
    for _ in range(2):
        asked(channel, bytes([2, 255]), 255)
    ended[where] = time.monotonic() - began
ended = {}
readers = [threading.Thread(target=read, args=[where]) for where in (SOCKET, ENDPOINT)]
for one in readers: one.start()
for one in readers: one.join()
print(json.dumps([ended[SOCKET], ended[ENDPOINT]]))
"""
N_EACH_BYTES = 2 * 255

# What a reader writes, said to be worth as much as can be said; and what is there before and after.
WRITE = """
channel = reader(SOCKET)
before = asked(channel, bytes([0]), 4)
channel.sendall(bytes([3, 255, 255, 255]) + bytes(255))
after = asked(channel, bytes([0]), 4)
print(json.dumps([int.from_bytes(before, "big"), int.from_bytes(after, "big")]))
"""


@pytest.fixture(scope="module")
def gateway(fleet: Fleet) -> Gateway:
    return Gateway(fleet)


def test_who_is_of_the_group_may_read_and_nobody_else(gateway: Gateway) -> None:
    wait_until(gateway.is_full, "the gateway's buffer is full")
    drawn = gateway.draw(64) + gateway.draw(64)
    assert len(set(drawn)) > 64
    n_digits = len(gateway.pid())
    script = f"print(json.dumps(asked(reader(SOCKET), bytes([4]), {1 + n_digits})[1:].decode()))"
    assert gateway.read(script) == gateway.pid()
    with pytest.raises(subprocess.CalledProcessError) as refused:
        gateway.read("reader(SOCKET)", egd.STRANGER)
    assert "PermissionError" in refused.value.stderr


def test_what_is_handed_out_was_debited_at_a_broker(fleet: Fleet, gateway: Gateway) -> None:
    wait_until(gateway.is_full, "the gateway's buffer is full")
    drawn, delivered = gateway.drawn(), gateway.delivered()
    handed_out = gateway.status()["accounting"]["handed_out_bytes"]
    n_bytes = len(gateway.draw(120))
    wait_until(gateway.is_full, "it has drawn anew")
    after = gateway.status()["accounting"]
    assert after["handed_out_bytes"] - handed_out == n_bytes
    new = Books(*(now - was for now, was in zip(gateway.drawn(), drawn, strict=True)))
    told = Books(*(now - was for now, was in zip(gateway.delivered(), delivered, strict=True)))
    assert new == told
    assert new.n_bytes >= 2 * egd.BLOCK_BYTES
    # Each byte that goes out is worth 8 bits of the brokers' credit.
    assert new.credit_bits == 8 * egd.WORTH_BYTES * (new.n_bytes // egd.BLOCK_BYTES)
    assert after["drawn_bits"] >= 8 * (after["handed_out_bytes"] + after["held_bytes"])


def test_no_reader_gets_more_than_its_rate_nor_all_of_them_together(gateway: Gateway) -> None:
    seconds = gateway.read(GREEDY)
    for of_one in seconds:
        assert egd.BURST_BYTES + egd.RATE_BYTES_PER_SECOND * of_one >= N_EACH_BYTES
    in_all = egd.TOTAL_BURST_BYTES + egd.TOTAL_RATE_BYTES_PER_SECOND * max(seconds)
    assert in_all >= 2 * N_EACH_BYTES


def test_what_a_reader_writes_is_worth_nothing(gateway: Gateway) -> None:
    wait_until(gateway.is_full, "the gateway's buffer is full")
    before = gateway.status()
    level_before, level_after = gateway.read(WRITE)
    assert level_before == level_after
    after = gateway.status()
    assert after["accounting"] == before["accounting"]
    assert after["dropped_bytes"] == before["dropped_bytes"] + 255


def test_its_credential_cannot_push(fleet: Fleet) -> None:
    script = PUSH.replace("entropy.config", "entropy.gateways.config")
    script = script.replace("load_client", "load_gateway").replace("client.toml", "gateway.toml")
    assert fleet.python(HOST, script).strip() == "PERMISSION"
    owner = fleet.ssh(HOST, f"stat -c '%U %G %a' {egd.CREDENTIAL}").stdout.strip()
    assert owner == "root entropy-gateway 640"


def test_readers_notice_nothing_when_a_broker_restarts(fleet: Fleet, gateway: Gateway) -> None:
    """The one that the gateway draws from, while two readers want more than was in the buffer."""
    before, pid = gateway.drawn(), gateway.pid()
    came: list[Any] = []
    reading = threading.Thread(target=lambda: came.append(gateway.read(GREEDY)))
    reading.start()
    used: list[str] = []

    def draws() -> bool:
        used.append(gateway.status()["broker"]["id"])
        return bool(used[-1]) and gateway.drawn().n_bytes > before.n_bytes

    wait_until(draws, "the gateway draws for them")
    at_restart = gateway.drawn()
    fleet.ssh(used[-1], "systemctl restart entropy-broker")
    reading.join(60)
    assert len(came) == 1
    assert len(came[0]) == 2
    assert gateway.drawn().n_bytes > at_restart.n_bytes
    assert gateway.pid() == pid
    wait_until(lambda: fleet.status(used[-1])["ready"], f"{used[-1]} is ready again")


def test_the_table_of_the_fleet_has_the_gateway(fleet: Fleet, gateway: Gateway) -> None:
    wait_until(gateway.is_full, "the gateway's buffer is full")
    run = fleet.play(playbook=VERIFY)
    assert run.status == 0, run.output[-3000:]
    (row,) = [line for line in run.output.splitlines() if line.strip().startswith(f"{ID} ")]
    assert " active " in row
    assert " newest " in row
    assert "0 readers, 0 wait" in row


def test_a_fleet_whose_gateway_does_not_run_is_not_whole(fleet: Fleet) -> None:
    fleet.ssh(HOST, f"systemctl stop {UNIT}")
    try:
        run = fleet.play("-e", "entropy_verify_wait_seconds=2", playbook=VERIFY)
    finally:
        fleet.ssh(HOST, f"systemctl start {UNIT}")
    assert run.status != 0
    assert f"{HOST}: its gateway does not run (inactive)" in " ".join(run.output.split())
    assert run.recap[HOST]["failed"] == 0  # the table says it, and no task before it


def test_a_run_puts_a_gateway_back_and_check_mode_foretells_it(
    fleet: Fleet, gateway: Gateway
) -> None:
    fleet.ssh(
        HOST,
        "apt-get --yes --quiet purge entropy-gateway;"
        " rm -rf /var/lib/dpkg/entropy-debs /etc/entropy/gateway /etc/entropy/gateway.toml",
    )
    check = fleet.play("--limit", HOST, "--check", "--diff")
    assert check.status == 0, check.output[-3000:]
    assert check.recap[HOST]["changed"] > 0
    assert fleet.ssh(HOST, "ls /etc/entropy/gateway.toml", check=False).returncode != 0
    assert not fleet.runs(HOST, UNIT)
    run = fleet.play("--limit", HOST, "--diff")
    assert run.status == 0, run.output[-3000:]
    assert len(gateway.draw(32)) == 32
    check = fleet.play("--limit", HOST, "--check", "--diff")
    assert check.status == 0, check.output[-3000:]
    assert check.recap[HOST]["changed"] == 0, check.output[-3000:]
