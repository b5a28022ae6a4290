"""The client that stays, as a process: clones, kernels that run short, draws that hang."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from entropy import kernel
from entropy.wire.codes import DrawKind
from tests.client.test_client import ROOT, Service

if TYPE_CHECKING:
    from tests.client.conftest import FakeBroker, Fleet

SEED, TOPUP = DrawKind.SEED, DrawKind.TOPUP
PATIENCE_SECONDS = 20


def wait_for(what: str, is_so: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert time.monotonic() < end, f"never: {what}"
        time.sleep(0.01)


def kinds(broker: FakeBroker) -> list[DrawKind]:
    return [draw.kind for draw in broker.draws]


def with_generation(fleet: Fleet, **settings: object) -> str:
    """A configuration in which a file stands in for the platform's sign."""
    path = fleet.config_file(credit=False, **settings)
    text = Path(path).read_text().replace("generation_file = ''", "generation_file = '%s'")
    (fleet.folder / "generation").write_text("1")
    Path(path).write_text(text % (fleet.folder / "generation"))
    return path


def test_a_clone_reseeds_and_tells_the_broker(fleet: Fleet) -> None:
    broker = fleet.broker()
    config = with_generation(fleet)
    with Service(fleet, "--config", config) as service:
        service.wait_for(b"STATUS=last fed by broker1")
        (fleet.folder / "generation").write_text("2")
        service.wait_for(b"STATUS=last fed by broker1")
        error = service.stop()
    assert "<5>the VM generation changed: reseeding now" in error
    assert kinds(broker) == [SEED, SEED]
    before, after = broker.auths
    assert before.boot_id == kernel.boot_id()
    assert after.boot_id != before.boot_id, "this is how the broker learns of it"
    assert after.counter > before.counter
    state = json.loads((fleet.folder / "state" / "state.json").read_text())
    assert state["boot_id"] == after.boot_id.hex()


def test_twins_part_before_any_broker_answers(
    fleet: Fleet, tmp_path: Path, dead_endpoint: str
) -> None:
    """By what the kernel alone can do. A FIFO in the place of /dev/random shows it."""
    device = tmp_path / "random"
    os.mkfifo(device)
    pool = os.open(device, os.O_RDWR | os.O_NONBLOCK)
    config = with_generation(fleet, brokers=(dead_endpoint,))
    try:
        with Service(fleet, config, str(device), "/nowhere", program=EMULATED) as service:
            service.wait_for(b"READY=1")
            (fleet.folder / "generation").write_text("another generation")
            wait_for("it is mixed in", lambda: b"another generation" in _read(pool))
            error = service.stop()
    finally:
        os.close(pool)
    assert "the VM generation changed: reseeding now" in error


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except BlockingIOError:
        return b""


def test_a_clone_in_the_middle_of_a_draw_drops_its_keys(fleet: Fleet) -> None:
    broker = fleet.broker()
    broker.answer = lambda draw: "hang" if len(broker.draws) == 1 else _a_block(draw)
    config = with_generation(fleet, seed_timeout_seconds=20)
    with Service(fleet, "--config", config) as service:
        wait_for("it draws", lambda: broker.draws)
        (fleet.folder / "generation").write_text("2")
        service.wait_for(b"STATUS=last fed by broker1")
        service.stop()
    assert kinds(broker) == [SEED, SEED]
    assert broker.auths[0].boot_id != broker.auths[1].boot_id


def _a_block(draw: object) -> object:
    from tests.client.conftest import a_block

    return a_block(draw)  # type: ignore[arg-type]


def test_the_next_run_of_a_clone_tells_the_broker_too(fleet: Fleet) -> None:
    """Without a resident client: what the platform says is compared with the last time."""
    broker = fleet.broker()
    config = with_generation(fleet)
    for generation in ("1", "1", "2", "2"):
        (fleet.folder / "generation").write_text(generation)
        done = subprocess.run(
            [sys.executable, "-m", "entropy", "client", "--once", "--config", config],
            cwd=ROOT,
            check=False,
            timeout=PATIENCE_SECONDS,
        )
        assert done.returncode == 0
    assert kinds(broker) == [SEED, TOPUP, SEED, TOPUP]
    boots = [auth.boot_id for auth in broker.auths]
    assert boots[0] == boots[1] == kernel.boot_id()
    assert boots[2] == boots[3] != boots[0]


def test_a_resolver_that_hangs_holds_up_one_draw_and_no_more(fleet: Fleet) -> None:
    program = (
        "import socket, sys, threading\n"
        "socket.getaddrinfo = lambda *_, **__: threading.Event().wait()\n"
        "from entropy import cli, client\n"
        "client.GRACE_SECONDS = 0\n"
        "sys.exit(cli.main(['client', '--config', sys.argv[1]]))"
    )
    config = fleet.config_file("broker1.example:25226", credit=False, seed_timeout_seconds=1)
    with Service(fleet, config, program=program) as service:
        service.wait_for(b"READY=1")
        error = service.stop()
    assert "<4>no end after 1 s: given up" in error
    assert service.process.returncode == 0


EMULATED = (
    "import sys\n"
    "from entropy import cli, kernel\n"
    "kernel.RANDOM_DEVICE, kernel.BLOCKING_MARK = sys.argv[2:]\n"
    "sys.exit(cli.main(['client', '--config', sys.argv[1]]))"
)


def test_a_kernel_that_blocks_is_fed_when_it_runs_short(fleet: Fleet, tmp_path: Path) -> None:
    """Emulated: a FIFO in the place of /dev/random, which poll(2) calls writable until it is full.

    No kernel of today has a blocking pool; those that do are RHEL 7's and 8's.
    """
    broker = fleet.broker()
    broker.welcome = broker.welcome._replace(rate_bytes_per_second=10**6)
    config = fleet.config_file(credit=False)
    device, mark = tmp_path / "random", tmp_path / "read_wakeup_threshold"
    mark.touch()
    os.mkfifo(device)
    pool = os.open(device, os.O_RDWR | os.O_NONBLOCK)
    try:
        with Service(fleet, config, str(device), str(mark), program=EMULATED) as service:
            service.wait_for(b"topup: 256 bytes")
            service.wait_for(b"topup: 256 bytes")
            error = service.stop()
    finally:
        os.close(pool)
    assert "feeding this kernel by timer and when it runs short" in error
    sizes = [(draw.kind, draw.n_bytes) for draw in broker.draws]
    assert sizes[:3] == [(SEED, 64), (TOPUP, 256), (TOPUP, 256)]
