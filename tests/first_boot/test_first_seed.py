"""The seed from the network: asked for until it comes or the time is up, with and without TLS."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from entropy import first_seed, kernel
from entropy.client_feed import combine
from entropy.errors import CredentialError
from entropy.wire import frames
from entropy.wire.codes import DrawKind, RefusedCode
from entropy.wire.frames import Block, Retry
from tests.first_boot.conftest import FakeKernel, Fleet, PlainBroker

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def young(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that is not ready, and a process that has just started."""
    monkeypatch.setattr(kernel, "random_bytes", lambda _n_bytes: b"")
    monkeypatch.setattr(first_seed, "_age_seconds", lambda: 0.0)
    monkeypatch.setattr(first_seed, "LEAST_SECONDS", 0.1)
    monkeypatch.setattr(first_seed, "LAST_SECONDS", 0.1)


def test_a_seed_without_tls(
    fleet: Fleet,
    plain_broker: PlainBroker,
    fake_kernel: FakeKernel,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = fleet.config("127.0.0.1:1", seeds=(plain_broker.endpoint,))
    assert first_seed.run(config) == 0
    assert [(len(data), bits) for data, bits in fake_kernel.added] == [(64, 448)]
    assert fake_kernel.n_reseeds == 1
    assert [draw.kind for draw in plain_broker.draws] == [DrawKind.SEED]
    assert "first seed from broker1" in capsys.readouterr().err
    state = json.loads((fleet.folder / "state/state.json").read_text())
    assert (state["last_broker"], state["credited_to_kernel_bits"]) == ("broker1", 448)


def test_a_kernel_that_is_ready_has_no_need_of_it(
    fleet: Fleet,
    plain_broker: PlainBroker,
    fake_kernel: FakeKernel,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kernel, "random_bytes", bytes)
    broker = fleet.broker()
    assert first_seed.run(fleet.config(broker.endpoint, seeds=(plain_broker.endpoint,))) == 0
    assert (len(plain_broker.draws), len(broker.draws)) == (0, 1)
    assert [bits for _, bits in fake_kernel.added] == [448]


def test_a_broker_on_that_port_proves_itself(
    fleet: Fleet, plain_broker: PlainBroker, fake_kernel: FakeKernel, dead_endpoint: str
) -> None:
    """One that does not know the credential gives nothing that is taken."""
    plain_broker._fleet = Fleet.__new__(Fleet)  # another fleet's
    plain_broker._fleet.credential = fleet.credential._replace(secret=b"s" * 32)
    config = fleet.config(dead_endpoint, seeds=(plain_broker.endpoint,), seed_timeout_seconds=1)
    assert first_seed.run(config) == 0
    assert (fake_kernel.added, fake_kernel.mixed) == ([], [])
    assert len(plain_broker.auths) == 1, "it was asked again"


def test_who_is_refused_everywhere_does_not_wait(
    fleet: Fleet, fake_kernel: FakeKernel, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet.broker()
    fleet.broker()
    config = fleet.config(seed_timeout_seconds=20)
    fleet.credential = fleet.credential._replace(secret=b"s" * 32)
    began = time.monotonic()
    assert first_seed.run(config) == 0
    assert time.monotonic() - began < 10
    assert [len(broker.auths) for broker in fleet.brokers] == [1, 1]
    assert "did not accept this credential" in capsys.readouterr().err


@pytest.mark.parametrize("code", [RefusedCode.SHUTDOWN, RefusedCode.AUTHENTICATION])
def test_a_broker_that_refuses_leaves_the_others(
    fleet: Fleet, fake_kernel: FakeKernel, code: RefusedCode
) -> None:
    fleet.broker().answer = lambda _draw: frames.Refused(code)
    fleet.broker()
    assert first_seed.run(fleet.config()) == 0
    assert [bits for _, bits in fake_kernel.added] == [448]


@pytest.mark.parametrize("all_are_empty", [False, True])
def test_a_broker_that_is_empty_leaves_it_to_the_others(
    fleet: Fleet, fake_kernel: FakeKernel, all_are_empty: bool
) -> None:
    """And some of the time; what it gave is used when nobody has better."""
    empty, other = fleet.broker(), fleet.broker()
    for broker in (empty, other)[: 2 if all_are_empty else 1]:
        broker.answer = lambda _draw: Block(1, 0, (), bytes(64))
    assert first_seed.run(fleet.config(seed_timeout_seconds=10)) == 0
    assert [bits for _, bits in fake_kernel.added] == ([] if all_are_empty else [448])
    assert fake_kernel.mixed == ([bytes(64)] if all_are_empty else [])
    assert (len(empty.draws), len(other.draws)) == (1, 1)
    assert empty.draws[0].wait_ms <= 5000 < other.draws[0].wait_ms


def test_without_such_ports_it_is_tls(fleet: Fleet, fake_kernel: FakeKernel) -> None:
    broker = fleet.broker()
    assert first_seed.run(fleet.config()) == 0
    assert [bits for _, bits in fake_kernel.added] == [448]
    assert [draw.kind for draw in broker.draws] == [DrawKind.SEED]


def test_a_dead_port_for_seeds_leaves_tls(
    fleet: Fleet, fake_kernel: FakeKernel, dead_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once on a kernel that is ready; else after half of the time."""
    fleet.broker()
    for ready, least_seconds in ((b"x", 0.0), (b"", 0.4)):
        monkeypatch.setattr(kernel, "random_bytes", lambda _n, ready=ready: ready)
        began = time.monotonic()
        config = fleet.config(seeds=(dead_endpoint,), seed_timeout_seconds=1)
        assert first_seed.run(config) == 0
        assert time.monotonic() - began >= least_seconds
    assert len(fake_kernel.added) == 2


@pytest.mark.parametrize("with_seeds", [False, True])
def test_a_broker_that_comes_up_late_is_found(
    fleet: Fleet, plain_broker: PlainBroker, fake_kernel: FakeKernel, with_seeds: bool
) -> None:
    broker = plain_broker if with_seeds else fleet.broker()
    n_asked = 0

    def answer(draw: object) -> object:
        nonlocal n_asked
        n_asked += 1
        return "close" if n_asked < 3 else Block(1, 448, ("rng1",), bytes(64))

    broker.answer = answer  # type: ignore[assignment]
    seeds = (plain_broker.endpoint,) if with_seeds else ()
    assert first_seed.run(fleet.config(broker.endpoint, seeds=seeds)) == 0
    assert fake_kernel.added == [(bytes(64), 448)]
    assert n_asked == 3


def test_it_gives_up_in_time_and_fails_nothing(
    fleet: Fleet, fake_kernel: FakeKernel, dead_endpoint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = fleet.config(dead_endpoint, seeds=(dead_endpoint,), seed_timeout_seconds=1)
    began = time.monotonic()
    assert first_seed.run(config) == 0
    assert time.monotonic() - began >= 0.9
    assert (fake_kernel.added, fake_kernel.mixed) == ([], [])
    assert "no seed within 1 s: going on without one" in capsys.readouterr().err


def test_a_broker_that_says_later_is_asked_again(
    fleet: Fleet, plain_broker: PlainBroker, fake_kernel: FakeKernel
) -> None:
    from entropy.wire.codes import RetryReason

    answers: list[object] = [Retry(100, RetryReason.EMPTY), Block(1, 0, (), bytes(64))]
    plain_broker.answer = lambda _draw: answers.pop(0)  # type: ignore[assignment,return-value]
    first_seed.run(fleet.config("127.0.0.1:1", seeds=(plain_broker.endpoint,)))
    assert (fake_kernel.added, fake_kernel.mixed) == ([], [bytes(64)])


@pytest.mark.parametrize("credits", [(448, 320), (320, 448)])
def test_of_two_brokers_the_lower_credit_counts(
    fleet: Fleet, fake_kernel: FakeKernel, credits: tuple[int, int]
) -> None:
    for bits in credits:
        fleet.broker().answer = lambda _draw, bits=bits: Block(
            1, bits, ("rng1",), bytes([bits % 256]) * 64
        )
    assert first_seed.run(fleet.config(two_brokers=True)) == 0
    parts = {
        f"broker{i}": Block(1, bits, ("rng1",), bytes([bits % 256]) * 64)
        for i, bits in enumerate(credits, 1)
    }
    assert fake_kernel.added == [(combine(parts).data, 320)]
    assert fake_kernel.mixed == []


def test_one_broker_where_two_are_asked_for_earns_nothing(
    fleet: Fleet, fake_kernel: FakeKernel, dead_endpoint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    broker = fleet.broker()
    endpoints = (broker.endpoint, dead_endpoint)
    config = fleet.config(*endpoints, two_brokers=True, seed_timeout_seconds=1)
    assert first_seed.run(config) == 0
    assert (fake_kernel.added, len(fake_kernel.mixed)) == ([], 1)
    assert "two_brokers asks for two" in capsys.readouterr().err


@pytest.mark.parametrize("setting", ["first_seed", "credit"])
def test_it_can_be_turned_off(fleet: Fleet, fake_kernel: FakeKernel, setting: str) -> None:
    broker = fleet.broker()
    assert first_seed.run(fleet.config(**{setting: False})) == 0
    assert (broker.draws, fake_kernel.mixed) == ([], [])


def test_a_wrong_credential_is_said(fleet: Fleet, dead_endpoint: str) -> None:
    fleet.write_credential("{}")
    with pytest.raises(CredentialError):
        first_seed.run(fleet.config(dead_endpoint, seeds=(dead_endpoint,)))


def test_what_hangs_is_left_hanging(fleet: Fleet, plain_broker: PlainBroker) -> None:
    """In a process of its own, with a resolver that never answers: the limit is a limit."""
    program = (
        "import socket, threading, sys;"
        "socket.getaddrinfo = lambda *a, **k: threading.Event().wait();"
        "from entropy import first_seed; from entropy.config import load_client;"
        "first_seed._age_seconds = lambda: 0.0; first_seed.LAST_SECONDS = 0.1;"
        "first_seed.kernel.random_bytes = lambda n: b'';"
        "sys.exit(first_seed.run(load_client(sys.argv[1])))"
    )
    path = fleet.folder / "first.toml"
    path.write_text(
        f'[client]\nsite_id = "lab"\ncredential = "{fleet.folder}/credential.json"\n'
        f'ca = "/nowhere"\nbrokers = ["name:1"]\nseeds = ["name:2"]\n'
        f'seed_timeout_seconds = 1\nstate_dir = "{fleet.folder}/state"\n'
    )
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "no seed within the time-out" in done.stderr
    assert time.monotonic() - began >= 0.9


def test_the_age_of_a_process() -> None:
    program = "from entropy import first_seed; print(first_seed._age_seconds())"
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    took = time.monotonic() - began
    assert 0 <= float(done.stdout) <= took + 0.02  # the kernel counts in hundredths
