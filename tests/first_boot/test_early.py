"""What becomes of an injected seed: credited once, on its machine, in its time; else mixed in."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from entropy import early, kernel
from entropy.credentials import Credential
from entropy.early import NotCredited, mark_used
from entropy.injected_seed import InjectedSeed, seal
from entropy.seed_places import SEED_FILE
from tests.first_boot.conftest import FakeKernel, Fleet

ROOT = Path(__file__).resolve().parents[2]
UUID = bytes.fromhex("11111111222233334444555555555555")
DATA = bytes(range(64))
# As the unit has it; with what these tests were given, where Python is older than its tomllib.
PATH = os.pathsep.join(
    [str(ROOT), os.environ.get("PYTHONPATH", ""), "/usr/lib/python3/dist-packages"]
)


class Vm:
    """A machine with its files under `root`, and a credential."""

    def __init__(self, fleet: Fleet, root: Path) -> None:
        self.root = root
        self.credential: Credential = fleet.credential
        self._credential_path = str(fleet.folder / "credential.json")
        self.config_path = str(fleet.folder / "early.toml")
        self.configure()
        self.state_dir = root / "var/lib/entropy-early"
        self.put("/sys/hypervisor/uuid", "11111111-2222-3333-4444-555555555555\n")

    def configure(self, *lines: str) -> None:
        text = '[client]\nsite_id = "lab"\nca = "/nowhere"\nbrokers = ["127.0.0.1:1"]\n'
        text += "\n".join([f"credential = {self._credential_path!r}", *lines]) + "\n"
        Path(self.config_path).write_text(text)

    def put(self, path: str, text: str) -> None:
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def seed(self, **changes: object) -> InjectedSeed:
        now = int(time.time())
        seed = InjectedSeed(UUID, now - 60, now + 3600, 448, os.urandom(32), DATA)
        return seed._replace(**changes)  # type: ignore[arg-type]

    def inject(self, seed: InjectedSeed, credential: Credential | None = None) -> None:
        self.put(SEED_FILE, seal(credential or self.credential, seed))

    def boot(self) -> None:
        status = early.run(self.config_path, state_dir=str(self.state_dir), root=str(self.root))
        assert status == 0

    @property
    def file(self) -> Path:
        return self.root / SEED_FILE.lstrip("/")

    @property
    def marks(self) -> list[str]:
        return os.listdir(self.state_dir) if self.state_dir.exists() else []


@pytest.fixture
def vm(fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Vm:
    # Where these tests run may be a memory file system, or an overlay.
    monkeypatch.setattr(early, "_file_system", lambda _path: "ext4")
    return Vm(fleet, tmp_path / "root")


def test_a_seed_is_credited_and_its_file_destroyed(
    vm: Vm, fake_kernel: FakeKernel, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = vm.seed()
    vm.inject(seed)
    vm.boot()
    assert fake_kernel.added == [(DATA, 448)]
    assert fake_kernel.n_reseeds == 1
    assert not vm.file.exists()
    assert vm.marks == [seed.nonce.hex()]
    said = capsys.readouterr().err
    assert "448 bits credited" in said
    assert DATA.hex() not in said


def test_the_mark_is_on_the_disk_before_the_kernel_is_told(
    vm: Vm, fake_kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    real_fsync = os.fsync

    def fsync(descriptor: int) -> None:
        real_fsync(descriptor)
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        done.append(str(path.relative_to(vm.root)))

    def add_entropy(data: bytes, credit_bits: int) -> bool:
        done.append("credited")
        return True

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(kernel, "add_entropy", add_entropy)
    seed = vm.seed()
    vm.inject(seed)
    vm.boot()
    folder = "var/lib/entropy-early"
    assert done[:3] == [f"{folder}/{seed.nonce.hex()}", folder, "var/lib"]
    assert done[-1] == "credited"


def test_a_seed_is_credited_once(vm: Vm, fake_kernel: FakeKernel) -> None:
    seed = vm.seed()
    for _ in range(3):
        vm.inject(seed)  # as firmware gives it again at every boot
        vm.boot()
    assert fake_kernel.added == [(DATA, 448)]
    assert fake_kernel.mixed == [DATA, DATA]
    vm.inject(vm.seed())  # another one
    vm.boot()
    assert len(fake_kernel.added) == 2


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"uuid": b"another machine!"}, "another machine"),
        ({"expires_unix": int(time.time()) - 1}, "expired"),
        ({"issued_unix": int(time.time()) + 90_000}, "clock"),
        ({"credit_bits": 0}, "worth nothing"),
    ],
)
def test_what_is_not_for_here_and_now_is_mixed_in(
    vm: Vm,
    fake_kernel: FakeKernel,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, object],
    why: str,
) -> None:
    vm.inject(vm.seed(**changes))
    vm.boot()
    assert fake_kernel.added == []
    assert fake_kernel.mixed == [DATA]
    assert why in capsys.readouterr().err


def test_a_machine_without_a_uuid_credits_nothing(vm: Vm, fake_kernel: FakeKernel) -> None:
    (vm.root / "sys/hypervisor/uuid").unlink()
    vm.inject(vm.seed())
    vm.boot()
    assert (fake_kernel.added, fake_kernel.mixed) == ([], [DATA])
    assert vm.marks == []


@pytest.mark.parametrize(
    ("kind", "why"), [("tmpfs", "not on a disk"), ("", "cannot be told whether that is on a disk")]
)
def test_without_a_disk_for_the_mark_nothing_is_credited(
    vm: Vm,
    fake_kernel: FakeKernel,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    kind: str,
    why: str,
) -> None:
    monkeypatch.setattr(early, "_file_system", lambda _path: kind)
    vm.inject(vm.seed())
    vm.boot()
    assert (fake_kernel.added, fake_kernel.mixed) == ([], [DATA])
    assert why in capsys.readouterr().err


def test_a_disk_that_fails_means_no_credit(
    vm: Vm, fake_kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    vm.inject(vm.seed())
    vm.boot()
    assert (fake_kernel.added, fake_kernel.mixed) == ([], [DATA])


def test_another_machines_seed_is_mixed_in_sealed_and_kept(
    vm: Vm, fake_kernel: FakeKernel, capsys: pytest.CaptureFixture[str]
) -> None:
    vm.inject(vm.seed(), vm.credential._replace(key_id=b"otherkey"))
    vm.boot()
    assert fake_kernel.added == []
    assert fake_kernel.mixed == [vm.file.read_bytes()]
    assert "cannot be opened" in capsys.readouterr().err


def test_a_credential_that_comes_later_opens_it_at_the_next_boot(
    vm: Vm, fleet: Fleet, fake_kernel: FakeKernel
) -> None:
    path = fleet.folder / "credential.json"
    path.rename(path.with_suffix(".later"))
    vm.inject(vm.seed())
    vm.boot()
    assert fake_kernel.added == []
    path.with_suffix(".later").rename(path)
    vm.boot()
    assert fake_kernel.added == [(DATA, 448)]


def test_the_configuration_may_forbid_credit(vm: Vm, fleet: Fleet, fake_kernel: FakeKernel) -> None:
    vm.configure("credit = false")
    vm.inject(vm.seed())
    vm.boot()
    assert (fake_kernel.added, fake_kernel.mixed) == ([], [DATA])


def test_the_configuration_may_leave_it_alone(vm: Vm, fake_kernel: FakeKernel) -> None:
    vm.configure("early_seed = false")
    vm.inject(vm.seed())
    vm.boot()
    assert (fake_kernel.added, fake_kernel.mixed, vm.marks) == ([], [], [])
    assert vm.file.exists()


def test_a_container_credits_nothing(
    vm: Vm, fake_kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel, "shares_kernel", lambda: True)
    vm.inject(vm.seed())
    vm.boot()
    assert (fake_kernel.added, fake_kernel.mixed) == ([], [DATA])


def test_nothing_injected_is_nothing_done(vm: Vm, fake_kernel: FakeKernel) -> None:
    vm.boot()
    assert (fake_kernel.added, fake_kernel.mixed, vm.marks) == ([], [], [])


def test_two_at_once_are_one(vm: Vm) -> None:
    seed = vm.seed()
    mark_used(str(vm.state_dir), seed)
    with pytest.raises(NotCredited, match="used before"):
        mark_used(str(vm.state_dir), seed)


MOUNTS = """\
21 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw
22 21 0:20 / /run rw - tmpfs tmpfs rw
23 21 8:2 / /var rw shared:1 - xfs /dev/sda2 rw
24 23 0:30 / /var/lib/live rw - overlay overlay rw
25 21 0:31 / /var rw - tmpfs over rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/etc/x", "ext4"),
        ("/run", "tmpfs"),
        ("/runner", "ext4"),
        ("/var/lib/entropy-early", "tmpfs"),  # the last mount there is on top
        ("/var/lib/live/x", "overlay"),
    ],
)
def test_which_file_system(tmp_path: Path, path: str, kind: str) -> None:
    (tmp_path / "mounts").write_text(MOUNTS)
    assert early._file_system(path, str(tmp_path / "mounts")) == kind


def test_nothing_that_wakes_the_kernel_is_loaded(vm: Vm) -> None:
    """As the unit runs it. What asks for randomness was found by strace; see docs/first-boot.md."""
    vm.inject(vm.seed())
    program = (
        "import sys; from entropy import early, kernel;"
        "kernel.shares_kernel = lambda: False;"
        "kernel.add_entropy = lambda *_: True;"
        "kernel.reseed = lambda: True;"
        "early._file_system = lambda _: 'ext4';"
        f"early.run({vm.config_path!r}, state_dir={str(vm.state_dir)!r}, root={str(vm.root)!r});"
        "print(*sorted({'ssl', '_ssl', 'random', 'secrets', 'tempfile', 'uuid', 'cryptography'}"
        " & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", program],
        env={"PYTHONHASHSEED": "0", "PYTHONPATH": PATH},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "448 bits credited" in done.stderr
    assert done.stdout.split() == []


def test_a_boot_without_a_seed_is_cheap(tmp_path: Path) -> None:
    program = (
        "import sys; from entropy.cli import main; main(['early-seed', '--config', '/nowhere']);"
        "print(*sorted({'json', 'hashlib', 'dataclasses', 'socket'} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", program],
        env={"PYTHONHASHSEED": "0", "PYTHONPATH": PATH},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "no injected seed" in done.stderr
    assert done.stdout.split() == []
