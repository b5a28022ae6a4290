"""The packages in a container of their own: install, run for real, upgrade, remove."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from entropy.authority import issue_broker, new_authority
from entropy.credentials import acl_entry, dump_credential, entry_as_json, new_credential
from lab import fleet, image, lifecycle
from lab.names import LABEL, PREFIX
from lab.podman import podman

from .layout import CHECKOUT, SERVICES, SHARED

pytestmark = pytest.mark.lab

NAME = f"{PREFIX}-packages"
FEEDER = "entropy-feeder@noise.service"
GATEWAY = "entropy-gateway@egd.service"
RUNNING = ("entropy-broker.service", FEEDER, "entropy-client.service", GATEWAY)
BROKER_TOML = """
[broker]
id = "broker1"
site_id = "test"
listen = ["127.0.0.1:25226"]
acl = "/etc/entropy/broker/acl.json"
certificate = "/etc/entropy/broker/tls.pem"
key = "/etc/entropy/broker/tls.key"
ca = "/etc/entropy/ca.pem"
"""
FEEDER_TOML = """
[feeder]
site_id = "test"
credential = "/etc/entropy/feeder.d/credential.json"
ca = "/etc/entropy/ca.pem"
brokers = ["127.0.0.1:25226"]
[source]
"""
HWRNG = """
uri = "hwrng:/dev/hwrng"
credit_bits_per_byte = 1
test_bits_per_byte = 4
reason = "whatever it is, this broker feeds nobody but this test"
"""
KERNEL = """
uri = "kernel:"
lab_only_credit_kernel = true
"""
CLIENT_TOML = """
[client]
site_id = "test"
credential = "/etc/entropy/credential.json"
ca = "/etc/entropy/ca.pem"
brokers = ["127.0.0.1:25226"]
"""

GATEWAY_TOML = """
[gateway]
site_id = "test"
credential = "/etc/entropy/gateway/credential.json"
ca = "/etc/entropy/ca.pem"
brokers = ["127.0.0.1:25226"]
[egd]
listen = ["unix:/run/entropy-gateway/egd/socket"]
"""
# As the role writes it; `games` stands in for the group of a hypervisor's machines.
GATEWAY_GROUP = """
[Service]
Group=games
SupplementaryGroups=entropy-gateway
"""
ASK_EGD = """
import socket, sys
with socket.socket(socket.AF_UNIX) as channel:
    channel.settimeout(60)
    channel.connect("/run/entropy-gateway/egd/socket")
    channel.sendall(bytes([2, 200]))
    data = b""
    while len(data) < 200:
        data += channel.recv(200)
print(len(set(data)))
"""


class Machine:
    """A container that has booted. What fails in it is an error, unless `check` is False."""

    def sh(self, script: str, *, check: bool = True) -> str:
        done = podman("exec", NAME, "sh", "-c", script, check=False)
        if check:
            assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
        return done.stdout.strip()

    def show(self, unit: str, key: str) -> str:
        return self.sh(f"systemctl show --value --property {key} {unit}")

    def log(self, unit: str) -> str:
        return self.sh(f"journalctl --no-pager --output cat --unit {unit}")


def wait_for(what: str, is_so: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, f"after {seconds:.0f} s: not {what}"
        time.sleep(0.2)


@pytest.fixture(scope="module", name="debs")
def _debs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("debs")
    subprocess.run([CHECKOUT / "packaging/build", out], check=True, timeout=120)
    return out


@pytest.fixture(scope="module", name="has_device")
def _has_device() -> bool:
    return os.path.exists(fleet.HWRNG)


@pytest.fixture(scope="module", name="machine")
def _machine(debs: Path, has_device: bool) -> Iterator[Machine]:
    lifecycle.prepare()
    image_name = image.ensure(image.FLEET)
    podman("rm", "--force", "--ignore", "--time", "0", NAME)
    device = ["--device", fleet.HWRNG] if has_device else []
    named = ("--name", NAME, "--hostname", NAME, "--label", LABEL)
    folder = ("--network", "none", "--volume", f"{debs}:/mnt:ro")
    podman("run", "--detach", *named, *folder, *fleet.OPTIONS, *device, image_name, "/sbin/init")
    try:
        machine = Machine()
        machine.sh("systemctl is-system-running --wait", check=False)
        machine.sh("dpkg --install /mnt/*.deb")
        yield machine
    finally:
        podman("rm", "--force", "--time", "0", NAME)


@pytest.fixture(scope="module", name="running")
def _running(machine: Machine, has_device: bool, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("etc")
    _write_configuration(folder, HWRNG if has_device else KERNEL)
    podman("cp", f"{folder}/.", f"{NAME}:/etc/entropy")
    machine.sh(
        """
        cd /etc/entropy
        chown -R root:root .
        chgrp entropy-broker broker.toml broker broker/*
        chgrp entropy-client client.toml credential.json
        chgrp entropy-feeder feeder.d feeder.d/*
        chgrp entropy-gateway gateway.toml gateway gateway/*
        chmod 0750 broker feeder.d gateway
        chmod 0640 *.toml *.json broker/* feeder.d/* gateway/*
        mkdir /etc/systemd/system/entropy-gateway@egd.service.d
        mv gateway.conf /etc/systemd/system/entropy-gateway@egd.service.d/group.conf
        systemctl daemon-reload
        chmod 0644 ca.pem
        """
    )
    machine.sh(f"systemctl enable --quiet {' '.join(RUNNING)}")
    machine.sh(f"systemctl start {' '.join(RUNNING)}")


def _write_configuration(folder: Path, source: str) -> None:
    for name in ("broker", "feeder.d", "gateway"):
        (folder / name).mkdir()
    feeder, client, gateway = (
        new_credential(name, "test", [permission])
        for name, permission in (("noise", "feed"), ("vm", "draw"), ("vm.gateway", "draw"))
    )
    entries = [entry_as_json(acl_entry(one)) for one in (feeder, client, gateway)]
    acl = {"version": 1, "site_id": "test", "generation": 1, "entries": entries}
    authority = new_authority("test")
    issued = issue_broker(authority, "broker1", "test")
    (folder / "ca.pem").write_bytes(authority.certificate_pem)
    (folder / "broker.toml").write_text(BROKER_TOML)
    (folder / "broker/acl.json").write_text(json.dumps(acl))
    (folder / "broker/tls.pem").write_bytes(issued.certificate_pem)
    (folder / "broker/tls.key").write_bytes(issued.key_pem)
    (folder / "feeder.d/noise.toml").write_text(FEEDER_TOML + source)
    (folder / "feeder.d/credential.json").write_text(dump_credential(feeder))
    (folder / "client.toml").write_text(CLIENT_TOML)
    (folder / "credential.json").write_text(dump_credential(client))
    (folder / "gateway.toml").write_text(GATEWAY_TOML)
    (folder / "gateway.conf").write_text(GATEWAY_GROUP)
    (folder / "gateway/credential.json").write_text(dump_credential(gateway))


def test_installing_starts_nothing(machine: Machine, has_device: bool) -> None:
    states = "--state=active,activating,failed"
    assert machine.sh(f"systemctl list-units {states} --plain --no-legend 'entropy*'") == ""
    assert "enabled" not in machine.sh("systemctl is-enabled entropy-broker entropy-client || true")
    found = machine.sh("cd /etc/entropy && stat --format '%n %a %U %G' . * | sort")
    assert found.splitlines() == [
        ". 755 root root",
        "broker 750 root entropy-broker",
        "feeder.d 750 root entropy-feeder",
        "gateway 750 root entropy-gateway",
    ]
    if has_device:
        assert machine.sh("stat --format '%a %U %G' /dev/hwrng") == "640 root entropy-feeder"
    assert machine.sh("entropy --version").startswith("entropy ")


@pytest.mark.usefixtures("running")
def test_entropy_flows(machine: Machine) -> None:
    state = "/var/lib/entropy-client/state.json"

    def is_fed() -> bool:
        known = machine.sh(f"cat {state} 2>/dev/null", check=False)
        return bool(known) and json.loads(known).get("last_credit_bits", 0) > 0

    wait_for("fed", is_fed)
    status = json.loads(machine.sh("entropy status --json"))
    assert status["broker_id"] == "broker1"
    assert status["ready"] is True
    drawn = "entropy draw --config /etc/entropy/client.toml --bytes 32 | wc -c"
    assert machine.sh(drawn) == "32"
    # Root drew, and the service still owns what the two share.
    assert machine.sh(f"stat --format '%a %U' {state}") == "600 entropy-client"


@pytest.mark.usefixtures("running")
def test_a_gateway_serves_its_group_and_nobody_else(machine: Machine) -> None:
    folder = "/run/entropy-gateway/egd"
    assert machine.sh(f"stat --format '%a %U %G' {folder} {folder}/socket").splitlines() == [
        "750 entropy-gateway games",
        "660 entropy-gateway games",
    ]
    machine.sh(f"cat >/root/ask.py <<'END'\n{ASK_EGD}\nEND")
    ask = "runuser -u {} -- python3 - </root/ask.py"
    assert int(machine.sh(ask.format("games"))) > 80
    assert "Permission denied" in machine.sh(ask.format("nobody") + " 2>&1", check=False)
    (own,) = [
        client
        for client in json.loads(machine.sh("entropy status --json"))["clients"]
        if client["id"] == "vm.gateway"
    ]
    assert own["delivered_bytes"] >= 256  # 64 for each 56


@pytest.mark.usefixtures("running")
@pytest.mark.parametrize("unit", RUNNING)
def test_a_service_runs_as_its_own_user_and_well(machine: Machine, unit: str) -> None:
    wait_for("active", lambda: machine.show(unit, "ActiveState") == "active")
    assert machine.show(unit, "NRestarts") == "0"
    pid = machine.show(unit, "MainPID")
    user = unit.removesuffix(".service").partition("@")[0]
    assert machine.sh(f"stat --format %U /proc/{pid}") == user
    assert machine.show(unit, "StatusText") != ""
    if unit != FEEDER:  # what opens the signs of clones, whether there are any or not
        assert "code=exited ; status=0" in machine.show(unit, "ExecStartPre")
    for word in ("Traceback", "Warning", "ignoring"):
        assert word not in machine.log(unit)


@pytest.mark.usefixtures("running")
def test_the_client_by_timer_instead(machine: Machine) -> None:
    state, once = "/var/lib/entropy-client/state.json", "entropy-client-once.service"
    before = json.loads(machine.sh(f"cat {state}"))["counter"]
    machine.sh("systemctl start entropy-client.timer")
    assert machine.show("entropy-client.service", "ActiveState") == "inactive"
    # Its time is within a minute or so; whether it came is not what is tested here.
    machine.sh(f"systemctl start {once}")
    assert machine.show(once, "Result") == "success"
    known = json.loads(machine.sh(f"cat {state}"))
    assert known["counter"] > before
    assert known["last_kind"] == "topup", "the machine had its seed"
    machine.sh("systemctl start entropy-client.service")
    assert machine.show("entropy-client.timer", "ActiveState") == "inactive"


@pytest.mark.usefixtures("running")
def test_an_upgrade_restarts_the_client_alone(machine: Machine) -> None:
    before = {unit: machine.show(unit, "MainPID") for unit in RUNNING}
    machine.sh("dpkg --install /mnt/*.deb")
    after = {unit: machine.show(unit, "MainPID") for unit in RUNNING}
    changed = [unit for unit in RUNNING if after[unit] != before[unit]]
    assert changed == ["entropy-client.service"]
    for unit in RUNNING:
        assert machine.show(unit, "ActiveState") == "active"
        assert machine.show(unit, "NeedDaemonReload") == "no"
        assert machine.sh(f"systemctl is-enabled {unit}") == "enabled"


@pytest.mark.usefixtures("running")
def test_a_newer_release_restarts_no_broker_and_no_feeder(machine: Machine, tmp_path: Path) -> None:
    copy = tmp_path / "checkout"
    for name in ("entropy", "packaging"):
        shutil.copytree(CHECKOUT / name, copy / name)
    init = copy / "entropy/__init__.py"
    init.write_text(re.sub(r'__version__ = ".*"', '__version__ = "99.0"', init.read_text()))
    subprocess.run(["packaging/build", tmp_path / "newer"], cwd=copy, check=True, timeout=120)
    before = {unit: machine.show(unit, "MainPID") for unit in RUNNING}
    podman("cp", str(tmp_path / "newer"), f"{NAME}:/root/newer")
    machine.sh("dpkg --install /root/newer/*.deb")
    assert machine.sh("entropy --version") == "entropy 99.0"
    after = {unit: machine.show(unit, "MainPID") for unit in RUNNING}
    assert [unit for unit in RUNNING if after[unit] != before[unit]] == ["entropy-client.service"]
    # What runs is still the release before, and its command talks to it.
    said = json.loads(machine.sh("entropy status --json"))
    assert said["version"] != "99.0"
    machine.sh("dpkg --install /mnt/*.deb")
    assert machine.show(RUNNING[0], "MainPID") == before[RUNNING[0]]


def test_needrestart_leaves_broker_and_feeders_alone(machine: Machine) -> None:
    script = """
        our %nrconf;
        do $_ for glob "/etc/needrestart/conf.d/entropy-*.conf";
        for my $unit (qw(entropy-broker.service entropy-feeder@x.service
                          entropy-gateway@egd.service entropy-client.service)) {
            my @rules = grep { $unit =~ /$_/ } keys %{$nrconf{override_rc}};
            print $unit if @rules && !$nrconf{override_rc}{$rules[0]};
        }
    """
    machine.sh(f"cat >/root/rules.pl <<'END'\n{script}\nEND")
    assert machine.sh("perl -l /root/rules.pl").split() == [
        "entropy-broker.service",
        "entropy-feeder@x.service",
        "entropy-gateway@egd.service",
    ]


@pytest.mark.usefixtures("running")
def test_a_feeder_gets_its_device_at_every_start(machine: Machine, has_device: bool) -> None:
    if not has_device:
        pytest.skip("this machine has no /dev/hwrng")
    machine.sh("chown root:root /dev/hwrng && chmod 600 /dev/hwrng")
    machine.sh(f"systemctl restart {FEEDER}")
    assert machine.sh("stat --format '%a %U %G' /dev/hwrng") == "640 root entropy-feeder"


@pytest.mark.usefixtures("running")
def test_a_wrong_configuration_is_said_once(machine: Machine) -> None:
    path, unit = "/etc/entropy/broker.toml", "entropy-broker.service"
    machine.sh(f"cp -p {path} /root/ && sed -i s/^listen/lisen/ {path}")
    machine.sh(f"systemctl restart {unit}", check=False)
    assert machine.show(unit, "ActiveState") == "failed"
    assert machine.show(unit, "NRestarts") == "0"
    assert machine.show(unit, "ExecMainStatus") == "2"
    assert "broker.lisen: unknown key; did you mean 'listen'?" in machine.log(unit)
    machine.sh(f"cp -p /root/broker.toml {path} && systemctl restart {unit}")
    assert machine.show(unit, "ActiveState") == "active"


@pytest.mark.usefixtures("running")
def test_without_a_broker_the_client_starts_all_the_same(machine: Machine) -> None:
    machine.sh("systemctl stop entropy-broker")
    machine.sh("systemctl restart entropy-client")  # its status is 0 when it has started
    assert machine.show("entropy-client.service", "ActiveState") == "active"
    machine.sh("systemctl start entropy-broker")


@pytest.mark.usefixtures("running")
def test_purging_stops_and_removes_everything(machine: Machine) -> None:
    pids = [machine.show(unit, "MainPID") for unit in RUNNING]
    machine.sh(f"dpkg --purge {' '.join(SERVICES)} {SHARED}")
    assert [pid for pid in pids if machine.sh(f"ls -d /proc/{pid}", check=False)] == []
    left = machine.sh(
        "find /etc /var/lib /usr/lib /run -name '*entropy*' -not -path '/var/lib/dpkg/*'"
    )
    assert left == ""
    # The users stay, so that nobody else ever gets their numbers.
    assert machine.sh("getent passwd entropy-broker") != ""


def test_the_same_sources_give_the_same_bytes(debs: Path, tmp_path: Path) -> None:
    copy = tmp_path / "checkout"  # elsewhere, and with another umask and clock zone
    for name in ("entropy", "packaging"):
        shutil.copytree(CHECKOUT / name, copy / name)
    command = [
        "git",
        "-C",
        str(CHECKOUT),
        "log",
        "-1",
        "--format=%ct",
        "--",
        "entropy",
        "packaging",
    ]
    date = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    environment = {**os.environ, "SOURCE_DATE_EPOCH": date.strip(), "TZ": "Asia/Tokyo"}
    script = ["sh", "-c", "umask 077; exec packaging/build again"]
    subprocess.run(script, cwd=copy, env=environment, check=True, timeout=120)
    for deb in sorted(debs.glob("*.deb")):
        assert (copy / "again" / deb.name).read_bytes() == deb.read_bytes()
