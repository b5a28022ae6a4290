"""Work on brokers that serve: one at a time, and never the last."""

from __future__ import annotations

import pytest

from tests.fleet.conftest import Fleet, wait_until

pytestmark = pytest.mark.fleet

BROKERS = "playbooks/brokers.yml"
LIMITS = '{"entropy_broker_limits": {"burst_bytes": 4097}}'


def pid(fleet: Fleet, broker: str) -> str:
    return fleet.ssh(broker, "systemctl show --value -p MainPID entropy-broker").stdout


def test_the_only_broker_that_is_ready_is_not_restarted(fleet: Fleet) -> None:
    fleet.ssh("broker2", "systemctl stop entropy-broker")
    before = pid(fleet, "broker1")
    try:
        run = fleet.play("--limit", "broker1", "-e", LIMITS, playbook=BROKERS)
        assert run.status != 0
        assert "broker1 is the only broker that is ready now" in " ".join(run.output.split())
        assert pid(fleet, "broker1") == before
    finally:
        fleet.ssh("broker2", "systemctl start entropy-broker")
    wait_until(lambda: fleet.status("broker2")["ready"], "broker2 is ready again")
    # What the run before had written is not forgotten, though nothing is left to write.
    run = fleet.play("--limit", "broker1", "-e", LIMITS, playbook=BROKERS)
    assert run.status == 0, run.output[-3000:]
    assert pid(fleet, "broker1") != before
    assert fleet.status("broker1")["reservoir"]["held_blocks"] > 0


def test_a_drill_wants_a_yes(fleet: Fleet) -> None:
    before = pid(fleet, "broker1")
    words = ["-e", "entropy_drill_what=broker", "-e", "entropy_drill_host=broker1"]
    run = fleet.play(*words, playbook="playbooks/drill.yml")
    assert run.status != 0
    assert "nobody said yes" in run.output
    assert pid(fleet, "broker1") == before


def test_a_drill_measures_and_puts_back(fleet: Fleet) -> None:
    wait_until(fleet.vip_holder, "one broker holds the virtual address")
    holder = str(fleet.vip_holder())
    words = ["-e", "entropy_drill_what=haproxy", "-e", f"entropy_drill_host={holder}"]
    words += ["-e", "entropy_drill_seconds=5", "-e", "entropy_drill_confirm=yes"]
    run = fleet.play(*words, playbook="playbooks/drill.yml")
    assert run.status == 0, run.output[-3000:]
    assert "Longest gap in service:" in run.output
    assert fleet.runs(holder, "haproxy")
    timers = fleet.ssh(holder, "systemctl list-units --all 'entropy-drill*' --no-legend").stdout
    assert timers == ""


def test_haproxy_goes_and_what_others_want_of_the_kernel_stays(fleet: Fleet) -> None:
    """From the broker without the virtual address; somebody's file needs one of two keys."""
    wait_until(fleet.vip_holder, "one broker holds the virtual address")
    broker = next(name for name in ("broker1", "broker2") if name != fleet.vip_holder())
    ours, theirs = "/etc/sysctl.d/60-entropy-haproxy.conf", "/etc/sysctl.d/50-other.conf"
    look = (
        f"cat {ours} | sha256sum; systemctl is-active haproxy;"
        " sysctl --values net.ipv4.ip_nonlocal_bind net.ipv6.ip_nonlocal_bind"
    )
    fleet.ssh(broker, f"echo net.ipv4.ip_nonlocal_bind = 1 >{theirs}")
    words = ("--limit", broker)
    absent = "tests/fleet/haproxy_absent.yml"
    try:
        fleet.ssh(broker, "sysctl --write net.ipv6.ip_nonlocal_bind=1")
        before = fleet.ssh(broker, look, check=False).stdout
        run = fleet.play(*words, "--check", playbook=absent)
        assert run.status == 0, run.output[-3000:]
        assert run.recap[broker]["changed"] == 3
        assert fleet.ssh(broker, look, check=False).stdout == before
        run = fleet.play(*words, playbook=absent)
        assert run.recap[broker]["changed"] == 3, run.output[-3000:]
        assert fleet.ssh(broker, look, check=False).stdout.split()[-3:] == ["inactive", "1", "0"]
        assert fleet.ssh(broker, f"test -e {ours}", check=False).returncode != 0
        assert fleet.play(*words, playbook=absent).recap[broker]["changed"] == 0
    finally:
        fleet.ssh(broker, f"rm {theirs}")
        run = fleet.play(*words, playbook=BROKERS)
    assert run.status == 0, run.output[-3000:]
    assert fleet.runs(broker, "haproxy")
