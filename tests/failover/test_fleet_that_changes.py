"""Brokers come and go while clients draw: a third one, then whoever holds the address leaves."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from lab.names import CHECKOUT
from tests.failover import records
from tests.failover.clients import CLIENTS
from tests.failover.scene import Scene
from tests.fleet.conftest import BROKERS, Run, wait_until

pytestmark = pytest.mark.fleet

LAYER = CHECKOUT / "molecule/failover/inventory"
NEW = "vm3"  # as a client it becomes another id, so its own draws are not looked at
INVENTORY = f"""
entropy:
  children:
    entropy_brokers:
      hosts:
        {NEW}: {{ansible_host: "{{{{ lab_state.hosts.{NEW}.address }}}}"}}
"""
# Those that stay are restarted one after the other, and reservoirs as small as here may be dry
# until the feeders are back. (Drills of one fault: 5 s.)
MOST_GAP_SECONDS = 15.0


def test_a_broker_is_added_and_the_holder_is_removed(scene: Scene, tmp_path: Path) -> None:
    fleet = scene.fleet
    inventory = tmp_path / "third.yml"
    inventory.write_text(INVENTORY)

    def play(*words: str, playbook: str) -> Run:
        layers = ("-i", str(LAYER), "-i", str(inventory), "-e", f"entropy_version={version}")
        return fleet.play(*layers, *words, playbook=playbook)

    def holders() -> list[str]:
        look = f"ip -o address show to {fleet.vip}"
        return [name for name in (*BROKERS, NEW) if fleet.ssh(name, look, check=False).stdout]

    scene.make_whole()
    # The drill of an upgrade leaves two releases with the controller: stay with the present one.
    version = fleet.status(BROKERS[0])["version"]
    gone = scene.holder()
    stays = next(name for name in BROKERS if name != gone)
    begin = time.monotonic()
    run = play(playbook="site.yml")
    assert run.status == 0, run.output[-4000:]
    # No feeder feeds it: what it has came from the others' surplus.
    wait_until(lambda: fleet.status(NEW)["accounting"]["imported_bits"], f"{NEW} drew from peers")
    assert fleet.status(NEW)["accounting"]["fed_bits"] == 0
    run = play("-e", f"broker={gone}", playbook="playbooks/remove_broker.yml")
    assert run.status == 0, run.output[-4000:]
    assert not any(fleet.runs(gone, unit) for unit in ("entropy-broker", "haproxy", "keepalived"))
    wait_until(lambda: len(holders()) == 1 and gone not in holders(), "another has the address")
    assert [peer["id"] for peer in fleet.status(NEW)["peers"]] == [stays]
    end = time.monotonic()
    wait_until(lambda: scene.load.all_answered_since(end), "every client draws")

    drawn = [r for r in scene.load.since(begin) if r.client not in CLIENTS[NEW]]
    gap = records.longest_gap(drawn, begin, end)
    print(f"added and removed: gap {gap.seconds:.2f} s; {len(drawn)} draws")
    print("\n".join(records.story(drawn, begin, end)))
    assert records.failures(drawn) == []
    assert records.repetitions(scene.load.records) == []
    assert gap.seconds < MOST_GAP_SECONDS
    assert {answer.broker for r in drawn for answer in r.answers} == {*BROKERS, NEW}

    # The last one that is ready is not removed.
    fleet.ssh(stays, "systemctl stop entropy-broker")
    run = play("-e", f"broker={NEW}", playbook="playbooks/remove_broker.yml")
    assert run.status != 0
    assert "No other broker is ready" in " ".join(run.output.split())
    assert fleet.status(NEW)["ready"]
