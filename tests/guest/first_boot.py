"""A machine in its first boot, and the fleet outside it, for the story of test_first_boot.py.

The machine has no generator of its own: no RDRAND, nothing from the boot loader that counts, no
virtio-rng. Its first program is watch.c, which notes when the generator becomes ready and changes
nothing about it. What of it survives a boot is one small disk.
"""

from __future__ import annotations

import asyncio
import subprocess
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from entropy.authority import new_authority
from entropy.cli import main
from entropy.config import SeedsConfig
from entropy.credentials import dump_credential
from entropy.wire.codes import Role
from lab.command import LabError
from lab.guest.machine import GuestError, Machine
from lab.guest.overlay import Overlay
from lab.guest.pieces import Pieces
from tests.broker.fleet import Fleet, feed

NO_GENERATOR = "max,-rdrand,-rdseed"
NOTHING_TRUSTED = ("random.trust_cpu=off", "random.trust_bootloader=off")
HOST = "10.0.2.2"  # this machine's loopback, as qemu's network shows it to the guest
EARLY, FIRST = "entropy-early-seed.service", "entropy-first-seed.service"
KEYS = "sshd-keygen@ed25519.service"
RANDOM_SEED = "systemd-random-seed.service"  # systemd's own, which waits for a ready generator

# As distributions that make host keys at the first boot have it.
KEYGEN_UNIT = """\
[Unit]
Before=ssh.service
ConditionFileNotEmpty=|!/etc/ssh/ssh_host_%i_key
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/bin/ssh-keygen -q -t %i -f /etc/ssh/ssh_host_%i_key -N ""
[Install]
WantedBy=multi-user.target
"""
SSHD = "HostKey /etc/ssh/ssh_host_ed25519_key\n"
NETWORK = "[Match]\nType=ether\n[Network]\nDHCP=ipv4\nLinkLocalAddressing=no\n"
CLIENT = """\
[client]
site_id = "lab"
credential = "/etc/entropy/credential.json"
ca = "/etc/entropy/ca.pem"
brokers = {brokers}
seeds = {seeds}
"""
# Debian's group for it has another number in each installation.
OWNERS = "".join(
    f"z /etc/entropy/{name} 0640 root entropy-client\n"
    for name in ("credential.json", "client.toml")
)


class Outside:
    """A broker on this machine, fed, with a port for seeds; and one VM's credential."""

    def __init__(self, folder: Path) -> None:
        self.fleet = Fleet(folder, new_authority("lab"))
        self.credential = self.fleet.credential("vm1", "draw")
        self.rng = self.fleet.credential("rng1", "feed")
        self.endpoint = self.seeds_endpoint = ""
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Outside:
        self._thread.start()
        assert self._started.wait(60)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(60)

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        async with self.fleet.broker(seeds=SeedsConfig(("127.0.0.1:0",))) as broker:
            self._broker = broker
            self.endpoint, self.seeds_endpoint = broker.addresses[0], broker.seeds_addresses[0]
            feeder = await self.fleet.connect(broker, self.rng, Role.FEEDER)
            await feeder.request(feed(16))
            self._started.set()
            await self._stop.wait()

    def delivered_bits(self) -> int:
        """What the broker's books say that it gave to the VM."""
        bits = [c["delivered_bits"] for c in self._broker.status()["clients"] if c["id"] == "vm1"]
        return int(bits[0]) if bits else 0

    def issue(self, instance: uuid.UUID) -> str:
        """A seed for the VM, as an operator gets it."""
        folder = self.fleet.folder
        path = folder / "seed"
        words = ["seed", "issue", "--uuid", str(instance), "--output", str(path)]
        words += ["--broker", self.endpoint, "--ca", str(folder / "ca.pem")]
        assert main([*words, "--credential", str(folder / "vm1.json")]) == 0
        return path.read_text().strip()


class Vm:
    """One machine, through several boots: its UUID, its disk, and what is configured."""

    def __init__(self, folder: Path, outside: Outside, pieces: Pieces) -> None:
        self.instance = uuid.uuid4()
        self._pieces = pieces
        self._outside = outside
        self._disk = folder / "disk"
        self._folder = folder
        with open(self._disk, "wb") as file:
            file.truncate(8 << 20)
        subprocess.run(["/usr/sbin/mke2fs", "-q", "-t", "ext4", str(self._disk)], check=True)

    def overlay(self) -> Overlay:
        """What every boot has: the credential, a disk for the marks, host keys to be made."""
        made = Overlay()
        made.file("/usr/local/sbin/lab-watch", self._pieces.watch.read_bytes(), mode=0o755)
        made.file("/etc/fstab", "/dev/vda /var/lib/entropy-early ext4 defaults 0 0\n")
        credential = dump_credential(self._outside.credential)
        made.file("/etc/entropy/credential.json", credential, mode=0o640)
        made.file("/etc/entropy/ca.pem", self._outside.fleet.authority.certificate_pem)
        made.file("/etc/tmpfiles.d/lab.conf", OWNERS)
        made.file("/etc/systemd/system/sshd-keygen@.service", KEYGEN_UNIT)
        made.link(
            f"/etc/systemd/system/multi-user.target.wants/{KEYS}",
            "/etc/systemd/system/sshd-keygen@.service",
        )
        made.file("/etc/ssh/sshd_config.d/lab.conf", SSHD)
        made.enable("ssh.service")
        return made

    def configure(self, overlay: Overlay, *, brokers: list[str], seeds: list[str]) -> None:
        """client.toml and a network, for the seed that comes from there."""
        text = CLIENT.format(brokers=brokers, seeds=seeds)
        overlay.file("/etc/entropy/client.toml", text, mode=0o640)
        overlay.file("/etc/systemd/network/lab.network", NETWORK)
        overlay.enable("systemd-networkd.service")
        overlay.enable(FIRST)

    @contextmanager
    def boot(
        self,
        name: str,
        overlay: Overlay,
        *,
        oem_seed: str = "",
        fw_cfg_seed: str = "",
        network: bool = False,
    ) -> Iterator[Boot]:
        """Start it. oem_seed, fw_cfg_seed: injected as a string of its firmware, and by QEMU."""
        arguments = ["-uuid", str(self.instance)]
        if oem_seed:
            arguments += ["-smbios", f"type=11,value={oem_seed}"]
        if fw_cfg_seed:
            arguments += ["-fw_cfg", f"name=opt/internal.entropy/seed,string={fw_cfg_seed}"]
        arguments += ["-drive", f"if=none,id=disk,file={self._disk},format=raw"]
        arguments += ["-device", "virtio-blk-pci,drive=disk"]
        if network:
            arguments += ["-netdev", "user,id=net"]
            arguments += ["-device", "virtio-net-pci,netdev=net,romfile="]
        with Machine.start(
            name,
            self._pieces,
            processor=NO_GENERATOR,
            kernel_words=[*NOTHING_TRUSTED, "rdinit=/usr/local/sbin/lab-watch"],
            arguments=arguments,
            overlay=overlay,
        ) as machine:
            boot = Boot(machine)
            try:
                yield boot
                boot.shut_down()
            except BaseException:
                print(boot.journal())  # there is no way to look later
                raise


class Boot:
    """A running machine. All times are seconds of its own monotonic clock."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    def noted(self) -> list[tuple[float, str]]:
        """What watch.c has noted so far."""
        lines = self.machine.read("/lab-watch").decode().splitlines()
        return [(float(seconds), what) for seconds, what in (line.split() for line in lines)]

    def ready_seconds(self) -> float | None:
        """When the generator became ready; None while it is not."""
        return next((seconds for seconds, what in self.noted() if what == "ready"), None)

    def when(self, what: str) -> float:
        """When the watch noted that for the first time."""
        return next(seconds for seconds, noted in self.noted() if noted == what)

    def await_unit(self, unit: str) -> None:
        """Until it is active; LabError if it never is."""
        self.machine.until(f"{unit} is active", lambda: self.show(unit, "ActiveState") == "active")

    def await_end_of_boot(self) -> None:
        """Until nothing is starting any more; it must have come up without a fault."""
        argv = ["systemctl", "is-system-running", "--wait"]
        assert self.machine.run(argv, check=False).stdout.strip() == "running", self.journal()

    def show(self, unit: str, what: str) -> str:
        argv = ["systemctl", "show", "--value", f"--property={what}", unit]
        return self.machine.run(argv).stdout.strip()

    def ran(self, unit: str) -> tuple[float, float]:
        """When a unit's program was started and when it ended."""
        names = ("ExecMainStartTimestampMonotonic", "ExecMainExitTimestampMonotonic")
        started, ended = (int(self.show(unit, name)) / 1e6 for name in names)
        assert 0 < started <= ended, f"{unit} has not run"
        return started, ended

    def said(self, unit: str) -> str:
        argv = ["journalctl", "--quiet", "--output=cat", f"--unit={unit}"]
        return self.machine.run(argv).stdout

    def journal(self) -> str:
        try:
            argv = ["journalctl", "--quiet", "--lines=120", "--output=short-monotonic"]
            return self.machine.run(argv).stdout
        except (GuestError, LabError) as error:
            return f"its journal cannot be had: {error}"

    def shut_down(self) -> None:
        """Let go of the disk, as the next boot wants it whole."""
        self.machine.run(["umount", "/var/lib/entropy-early"], check=False)
