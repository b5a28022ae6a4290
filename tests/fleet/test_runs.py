"""Runs of the playbooks: nothing secret in what they say, whole files under --limit, few tasks."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from ansible.parsing.vault import VaultLib, VaultSecret

from entropy.credentials import parse_credential
from entropy.wire.keys import derive
from lab.names import STATE
from tests.fleet.conftest import BROKERS, VMS, Fleet, Run
from tests.fleet.egd import HOST as GATEWAY

pytestmark = pytest.mark.fleet

Hidden = list[tuple[str, str]]
PLAIN_VMS = tuple(vm for vm in VMS if vm != GATEWAY)
FIRST_RUN_TASKS, LATER_TASKS = 14, 9  # one is for the client's timer, where there is none
GATEWAY_TASKS = 10  # more on a host of a gateway
HOSTS = (*BROKERS, "rng1", "rng2", *VMS)
DIGESTS = (
    "find /etc/entropy /etc/haproxy /etc/keepalived /etc/sysctl.d -type f | sort | xargs sha256sum"
)


@pytest.fixture(scope="module")
def anew(fleet: Fleet) -> Run:
    """A run that says all that it can, on VMs that have nothing yet and hosts without secrets."""
    for vm in VMS:
        fleet.ssh(
            vm,
            "apt-get --yes --quiet purge python3-entropy entropy-client entropy-gateway;"
            " rm -rf /etc/entropy /var/lib/entropy-client /var/lib/dpkg/entropy-debs",
        )
    for host in HOSTS:
        fleet.ssh(host, "find /etc/entropy -name credential.json -o -name tls.key | xargs rm -f")
        fleet.ssh(host, "journalctl --rotate --quiet; journalctl --vacuum-time=1s --quiet")
    return fleet.play("-vvv", "--diff")


@pytest.fixture(scope="module")
def hidden(anew: Run) -> Hidden:
    """Whose, and the text: every secret of the store in the forms in which it could be shown."""
    controller = STATE / "controller"
    password = (STATE / "vault_password").read_text().strip()
    vault = VaultLib([("default", VaultSecret(password.encode()))])
    found = [("the vault", password)]
    for path in sorted((controller / "credentials").iterdir()):
        credential = parse_credential(vault.decrypt(path.read_text()).decode(), path.name)
        keys = derive(credential.secret)
        for secret in (credential.secret, keys.private, keys.psk):
            found += [(path.name, secret.hex()), (path.name, base64.b64encode(secret).decode())]
    for path in [*(controller / "tls").glob("*.key"), controller / "ca/ca.key"]:
        lines = vault.decrypt(path.read_text()).decode().splitlines()
        # The first line of a key's body is the same for all; the second is its own.
        found += [(path.name, lines[2])]
    return found


@pytest.fixture(scope="module")
def again(fleet: Fleet, anew: Run) -> Run:
    return fleet.play("--diff")


def n_tasks(run: Run, host: str) -> int:
    of = run.recap[host]
    return of["ok"] + of["failed"] + of["skipped"] + of["unreachable"]


def test_a_first_run_deploys_with_few_tasks_per_vm(anew: Run) -> None:
    assert anew.status == 0, anew.output[-3000:]
    few = dict.fromkeys(PLAIN_VMS, FIRST_RUN_TASKS) | {GATEWAY: FIRST_RUN_TASKS + GATEWAY_TASKS}
    assert {vm: n_tasks(anew, vm) for vm in few if n_tasks(anew, vm) > few[vm]} == {}


def test_a_second_run_changes_nothing_with_fewer(again: Run) -> None:
    assert again.status == 0, again.output[-3000:]
    assert {host: of["changed"] for host, of in again.recap.items()} == dict.fromkeys(HOSTS, 0)
    few = dict.fromkeys(PLAIN_VMS, LATER_TASKS) | {GATEWAY: LATER_TASKS + GATEWAY_TASKS}
    assert {vm: n_tasks(again, vm) for vm in few if n_tasks(again, vm) > few[vm]} == {}


def test_no_secret_is_in_what_a_run_says(anew: Run, hidden: Hidden) -> None:
    assert "credential.json" in anew.output
    assert_none_of(hidden, anew.output, "the run at -vvv --diff")


def test_no_secret_is_in_what_the_hosts_log(fleet: Fleet, hidden: Hidden) -> None:
    for host in HOSTS:
        assert_none_of(hidden, fleet.ssh(host, "journalctl --output=cat").stdout, f"{host}'s log")


def test_no_secret_is_left_in_temporary_files(fleet: Fleet, hidden: Hidden) -> None:
    patterns = "\n".join(secret for _, secret in hidden)
    for host in HOSTS:
        done = fleet.ssh(
            host, "grep -rlF -f - /tmp /var/tmp /root /home", stdin=patterns, check=False
        )
        assert done.stdout == ""
    assert not [path for path in Path.home().glob(".ansible/tmp/*") if path.is_file()]


def test_a_run_for_one_vm_writes_its_files_whole_and_no_others(fleet: Fleet, again: Run) -> None:
    before = {host: fleet.ssh(host, DIGESTS).stdout for host in HOSTS}
    fleet.ssh("vm1", "rm /etc/entropy/client.toml /etc/entropy/ca.pem")
    run = fleet.play("--limit", "vm1", "--diff")
    assert run.status == 0, run.output[-3000:]
    assert list(run.recap) == ["vm1"]
    assert run.recap["vm1"]["changed"] > 0
    assert {host: fleet.ssh(host, DIGESTS).stdout for host in HOSTS} == before
    # It ends with the whole table all the same.
    assert "held by broker" in run.output
    assert all(vm in run.output for vm in VMS)


def test_check_mode_for_one_vm_that_has_nothing(fleet: Fleet, hidden: Hidden) -> None:
    fleet.ssh("vm2", "mv /etc/entropy /etc/entropy.away; systemctl stop entropy-client")
    try:
        run = fleet.play("--limit", "vm2", "--check", "--diff")
        assert run.status == 0, run.output[-3000:]
        assert run.recap["vm2"]["changed"] > 0
        assert fleet.ssh("vm2", "ls /etc/entropy", check=False).returncode != 0
        assert_none_of(hidden, run.output, "a run in check mode")
    finally:
        fleet.ssh("vm2", "mv /etc/entropy.away /etc/entropy; systemctl start entropy-client")


def test_a_configuration_that_is_not_ours_is_left_alone(fleet: Fleet, again: Run) -> None:
    path = "/etc/haproxy/haproxy.cfg"
    fleet.ssh("broker2", f"cp -a {path} {path}.ours; echo '# by hand' >{path}")
    try:
        run = fleet.play("--limit", "broker2", playbook="playbooks/brokers.yml")
        assert run.status != 0
        assert f"{path} on broker2 was not written by these playbooks" in run.output
        assert fleet.ssh("broker2", f"cat {path}").stdout == "# by hand\n"
    finally:
        fleet.ssh("broker2", f"mv {path}.ours {path}")


def assert_none_of(hidden: Hidden, text: str, where: str) -> None:
    # Named by its owner alone: what a test says ends in logs as well.
    assert [whose for whose, secret in hidden if secret in text] == [], f"secrets in {where}"
