"""The client against brokers over real TLS and the real wire."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from entropy import client, kernel
from entropy.client_feed import Client
from entropy.client_pace import Fed, Nothing
from entropy.client_state import ClientState
from entropy.credentials import dump_credential, new_credential
from entropy.errors import ConfigError, CredentialError, KernelError
from entropy.wire.codes import DrawKind, RefusedCode, RetryReason
from entropy.wire.frames import Block, Refused, Retry

if TYPE_CHECKING:
    from tests.client.conftest import FakeKernel, Fleet

ROOT = Path(__file__).resolve().parent.parent.parent
SEED, TOPUP = DrawKind.SEED, DrawKind.TOPUP
COMMAND = ("-m", "entropy", "client")


def test_a_seed_is_credited_and_taken_up(fleet: Fleet, fake_kernel: FakeKernel) -> None:
    broker = fleet.broker()
    data = bytes(range(64))
    broker.answer = lambda _: Block(7, 448, ("rng1",), data)
    assert client.run(fleet.config(), once=True) == 0
    assert fake_kernel.added == [(data, 448)]
    assert fake_kernel.n_reseeds == 1
    assert [(draw.kind, draw.n_bytes) for draw in broker.draws] == [(SEED, 64)]
    state = ClientState(str(fleet.folder / "state")).read()
    assert state["counter"] == broker.auths[0].counter
    assert state["boot_id"] == broker.auths[0].boot_id.hex()
    assert time.time() - 60 < state["last_fed_unix"] <= time.time()
    assert state["last_credit_bits"] == state["credited_to_kernel_bits"] == 448
    assert (state["last_broker"], state["last_kind"]) == ("broker1", "seed")


def test_what_was_done_is_told(
    fleet: Fleet, fake_kernel: FakeKernel, capsys: pytest.CaptureFixture[str]
) -> None:
    broker = fleet.broker()
    client.run(fleet.config(), once=True)
    assert capsys.readouterr().err == (
        f"seed: 64 bytes worth 448 bits from broker1 ({broker.endpoint}),"
        " 448 bits credited to the kernel\n"
    )


def test_a_topup_is_as_the_broker_wants_it(fleet: Fleet, fake_kernel: FakeKernel) -> None:
    broker = fleet.broker()
    broker.welcome = broker.welcome._replace(topup_bytes=48, topup_interval_seconds=77)
    assert Client(fleet.config()).feed(TOPUP, 5) == Fed(384, 77)
    assert [(draw.kind, draw.n_bytes) for draw in broker.draws] == [(TOPUP, 48)]
    assert Client(fleet.config(interval_seconds=5)).feed(TOPUP, 5) == Fed(384, 5)


def test_no_more_is_credited_than_the_reply_says(fleet: Fleet, fake_kernel: FakeKernel) -> None:
    broker = fleet.broker()
    broker.answer = lambda _: Block(1, 13, (), bytes(64))
    Client(fleet.config()).feed(SEED, 5)
    assert fake_kernel.added == [(bytes(64), 13)]


@pytest.mark.parametrize("case", ["credit=false", "container", "no privilege", "worth nothing"])
def test_mixed_in_without_credit(
    fleet: Fleet,
    fake_kernel: FakeKernel,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    case: str,
) -> None:
    broker = fleet.broker()
    says = {
        "credit=false": "credit = false",
        "container": "container",
        "no privilege": "CAP_SYS_ADMIN",
        "worth nothing": "worth nothing",
    }
    fake_kernel.may_credit = case != "no privilege"
    if case == "container":
        monkeypatch.setattr("entropy.kernel.shares_kernel", lambda: True)
    if case == "worth nothing":
        broker.answer = lambda _: Block(0, 0, (), bytes(64))
    fed_by = Client(fleet.config(credit=case != "credit=false"))
    fed_by.feed(SEED, 5)
    fed_by.feed(SEED, 5)
    assert fake_kernel.added == []
    assert [len(data) for data in fake_kernel.mixed] == [64, 64]
    assert ClientState(str(fleet.folder / "state")).read()["credited_to_kernel_bits"] == 0
    lines = capsys.readouterr().err.splitlines()
    told = [line for line in lines if line.startswith("mixing in") and says[case] in line]
    assert len(told) == 1, "said once, not at every draw"


def test_a_container_credits_when_it_is_told_to(
    fleet: Fleet, fake_kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("entropy.kernel.shares_kernel", lambda: True)
    fleet.broker()
    Client(fleet.config(allow_shared_kernel=True)).feed(SEED, 5)
    assert [credit_bits for _, credit_bits in fake_kernel.added] == [448]


def test_the_next_broker_stands_in(
    fleet: Fleet, fake_kernel: FakeKernel, dead_endpoint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    empty, refusing, hanging_up, good = (fleet.broker() for _ in range(4))
    empty.answer = lambda _: Retry(3000, RetryReason.EMPTY)
    refusing.answer = lambda _: Refused(RefusedCode.LIMIT)
    hanging_up.answer = lambda _: "close"
    endpoints = (dead_endpoint, *(broker.endpoint for broker in fleet.brokers))
    assert Client(fleet.config(*endpoints)).feed(SEED, 30) == Fed(448, 600)
    assert len(good.draws) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 5
    assert all(endpoint in line for endpoint, line in zip(endpoints, lines))


def test_a_worthless_seed_lets_others_try(fleet: Fleet, fake_kernel: FakeKernel) -> None:
    dry, good = fleet.broker(), fleet.broker()
    dry.answer = lambda draw: Block(0, 0, (), bytes(draw.n_bytes))
    assert Client(fleet.config()).feed(SEED, 5) == Fed(448, 600)
    assert len(fake_kernel.mixed) == 1
    assert len(fake_kernel.added) == 1
    assert len(good.draws) == 1


def test_a_silent_broker_leaves_time_for_the_next(fleet: Fleet, fake_kernel: FakeKernel) -> None:
    silent, good = fleet.broker(), fleet.broker()
    silent.answer = lambda _: "hang"
    assert Client(fleet.config()).feed(SEED, 2) == Fed(448, 600)
    assert len(silent.draws) == len(good.draws) == 1


def test_nobody_there(fleet: Fleet, fake_kernel: FakeKernel, dead_endpoint: str) -> None:
    config = fleet.config(dead_endpoint)
    assert Client(config).feed(TOPUP, 5) == Nothing(0)
    assert client.run(config, once=True) == 1
    assert fake_kernel.added == []


def test_told_to_wait(fleet: Fleet, fake_kernel: FakeKernel) -> None:
    for after_ms in (9000, 4000):
        answer = Retry(after_ms, RetryReason.EMPTY)
        fleet.broker().answer = lambda _, answer=answer: answer  # type: ignore[misc]
    assert Client(fleet.config()).feed(TOPUP, 5) == Nothing(4)


def test_every_login_is_another(fleet: Fleet, fake_kernel: FakeKernel) -> None:
    broker = fleet.broker()
    feeder = Client(fleet.config())
    for _ in range(3):
        feeder.feed(TOPUP, 5)
    first = broker.auths[0].counter
    assert [auth.counter for auth in broker.auths] == [first, first + 1, first + 2]
    assert len({auth.nonce for auth in broker.auths}) == 3
    assert len({auth.boot_id for auth in broker.auths}) == 1


def test_a_new_credential_needs_no_restart(fleet: Fleet, fake_kernel: FakeKernel) -> None:
    fleet.broker()
    feeder = Client(fleet.config())
    assert isinstance(feeder.feed(TOPUP, 5), Fed)
    fleet.credential = new_credential("vm1", "lab", ["draw"])  # the broker knows this one only
    assert isinstance(feeder.feed(TOPUP, 5), Nothing)
    fleet.write_credential(dump_credential(fleet.credential))
    assert isinstance(feeder.feed(TOPUP, 5), Fed)


def test_wrong_files_are_told_before_anything(fleet: Fleet) -> None:
    fleet.broker()
    with pytest.raises(ConfigError, match=r"is for the site 'lab', but client\.site_id says"):
        client.run(fleet.config(site_id="other"), once=True)
    with pytest.raises(ConfigError, match="authority"):
        client.run(fleet.config(ca=str(fleet.folder / "none.pem")), once=True)
    fleet.write_credential(dump_credential(new_credential("rng1", "lab", ["feed"])))
    with pytest.raises(CredentialError, match="'rng1' may not draw; its permissions are: feed"):
        client.run(fleet.config(), once=True)
    fleet.write_credential(dump_credential(fleet.credential), mode=0o644)
    with pytest.raises(CredentialError, match="readable by everybody"):
        client.run(fleet.config(), once=True)


class Service:
    """`entropy client` as a process of its own, and the systemd that it reports to."""

    def __init__(self, fleet: Fleet, *arguments: str, program: str = "") -> None:
        path = str(fleet.folder / "notify")
        self.supervisor = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.supervisor.bind(path)
        self.supervisor.settimeout(20)
        self.process = subprocess.Popen(
            [sys.executable, *(["-c", program] if program else COMMAND), *arguments],
            cwd=ROOT,
            env={**os.environ, "NOTIFY_SOCKET": path, "WATCHDOG_USEC": "200000"},
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait_for(self, state: bytes) -> None:
        while state not in self.supervisor.recv(1000):
            pass

    def stop(self) -> str:
        """Ask it to stop; returns what it said all along."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.communicate(timeout=20)[1]

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *_: object) -> None:
        self.supervisor.close()
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()


def test_the_service_seeds_tops_up_and_stops(fleet: Fleet) -> None:
    """As a process: the real kernel, but mixed in without credit."""
    broker = fleet.broker()
    config = fleet.config_file(credit=False, interval_seconds=1)
    with Service(fleet, "--config", config) as service:
        service.wait_for(b"READY=1")
        assert [draw.kind for draw in broker.draws] == [SEED]
        service.wait_for(b"topup")
        service.wait_for(b"WATCHDOG=1")
        error = service.stop()
    assert service.process.returncode == 0
    assert [draw.kind for draw in broker.draws][:2] == [SEED, TOPUP]
    assert "<6>seed: 64 bytes worth 448 bits from broker1" in error
    assert error.rstrip().endswith("<6>stopped")
    assert "Traceback" not in error
    state = json.loads((fleet.folder / "state" / "state.json").read_text())
    assert state["last_kind"] == "topup"
    assert state["credited_to_kernel_bits"] == 0


def test_the_service_outlives_brokers_that_are_away(fleet: Fleet, dead_endpoint: str) -> None:
    config = fleet.config_file(dead_endpoint, credit=False)
    with Service(fleet, "--config", config) as service:
        service.wait_for(b"READY=1")
        service.wait_for(b"WATCHDOG=1")  # of its sleep: it goes on
        error = service.stop()
    assert service.process.returncode == 0
    assert "<4>connecting to" in error
    assert "next try in" in error


def test_what_only_some_may_read_makes_no_clone() -> None:
    """Root, who reads the firmware's UUID, and the service, which does not, share a state file."""
    service, root = {"/etc/machine-id": "aa"}, {"/etc/machine-id": "aa", "uuid": "bb"}
    assert not client._is_another(service, root)
    assert not client._is_another(root, service)
    assert not client._is_another(None, root)
    assert client._is_another(root, {"/etc/machine-id": "aa", "uuid": "cc"})


def test_once_has_a_time_out(
    fleet: Fleet, fake_kernel: FakeKernel, capsys: pytest.CaptureFixture[str]
) -> None:
    """A broker that takes the draw and never answers it."""
    fleet.broker().answer = lambda _: "hang"
    began = time.monotonic()
    assert client.run(fleet.config(seed_timeout_seconds=0.5), once=True) == 1
    assert time.monotonic() - began < 10
    assert "timed out\nno seed: going on without one\n" in capsys.readouterr().err


def test_once_that_is_stopped_brought_nothing(fleet: Fleet) -> None:
    broker = fleet.broker()
    broker.answer = lambda _: "hang"
    config = fleet.config_file(credit=False, seed_timeout_seconds=20)
    with Service(fleet, "--once", "--config", config) as service:
        while not broker.draws:
            assert service.process.poll() is None
            time.sleep(0.01)
        assert service.stop() == "<6>stopped\n"
    assert service.process.returncode == 1


def test_not_even_tls_that_waits_for_the_kernel_holds_it_up(fleet: Fleet) -> None:
    """As ssl.SSLContext() does on a kernel before 5.4 whose generator is not ready."""
    program = (
        "import sys, threading\n"
        "from entropy import cli, client, dial\n"
        "dial.client_context = lambda *_, **__: threading.Event().wait()\n"
        "client.GRACE_SECONDS = 0\n"
        "sys.exit(cli.main(['client', '--once', '--config', sys.argv[1]]))"
    )
    config = fleet.config_file("10.0.0.1:25226", credit=False, seed_timeout_seconds=1)
    done = subprocess.run(
        [sys.executable, "-c", program, config],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        timeout=20,
    )
    assert done.returncode == 1
    assert done.stderr == "no seed within the time-out: going on without one\n"


def test_not_even_a_resolver_that_hangs_holds_it_up(fleet: Fleet) -> None:
    """getaddrinfo(3) has no time-out: whatever the main thread hangs in, the process ends."""
    program = (
        "import socket, sys, threading\n"
        "socket.getaddrinfo = lambda *_, **__: threading.Event().wait()\n"
        "from entropy import cli, client\n"
        "client.GRACE_SECONDS = 0\n"
        "sys.exit(cli.main(['client', '--once', '--config', sys.argv[1]]))"
    )
    config = fleet.config_file("broker1.example:25226", credit=False, seed_timeout_seconds=1)
    done = subprocess.run(
        [sys.executable, "-c", program, config],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        timeout=20,
    )
    assert done.returncode == 1
    assert done.stderr == "no seed within the time-out: going on without one\n"


def test_once_where_nothing_can_be_remembered(
    fleet: Fleet, fake_kernel: FakeKernel, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file in the place of its folder: no traceback, and the seed comes all the same."""
    fleet.broker()
    (fleet.folder / "file").touch()
    config = fleet.config(state_dir=str(fleet.folder / "file"))
    assert client.run(config, once=True) == 0
    assert [bits for _, bits in fake_kernel.added] == [448]
    assert "cannot keep the counter here" in capsys.readouterr().err


def test_a_kernel_that_takes_nothing_costs_one_broker_a_block(
    fleet: Fleet, fake_kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_data: bytes, _credit_bits: int) -> bool:
        raise KernelError("/dev/random: RNDADDENTROPY: Input/output error")

    monkeypatch.setattr(kernel, "add_entropy", refuse)
    first, second = fleet.broker(), fleet.broker()
    with pytest.raises(KernelError, match="Input/output"):
        Client(fleet.config()).feed(SEED, 5)
    assert (len(first.draws), len(second.draws)) == (1, 0)
