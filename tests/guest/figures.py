"""What guests gain, in figures: `make guest-figures`, minutes long. Writes a table in Markdown.

Four guests with Debian's stock kernel, one after the other. In each: when the generator became
ready (watch.c, from the kernel's first moment on); ten GnuPG key pairs, RSA 3072; and 100 MiB of
/dev/random through rngtest, with the longest wait for 64 KiB of it.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lab.command import LabError
from lab.guest import pieces
from lab.guest.machine import Machine
from lab.guest.overlay import Overlay
from lab.guest.pieces import Pieces
from lab.names import CHECKOUT
from lab.progress import step
from tests.gateways.site import FAST, FAST_IN_ALL
from tests.guest.outside import Outside

N_KEYS = 10
N_BYTES = 100 << 20
PATIENCE_SECONDS = 900
# What the guest's root lacks for this. Their other libraries are there.
TOOLS = ("gpg", "gpg-agent", "gpgconf", "libassuan0", "libnpth0", "rng-tools5")
# A machine without a generator of its own.
NO_GENERATOR = "max,-rdrand,-rdseed"
NOTHING_TRUSTED = ("random.trust_cpu=off", "random.trust_bootloader=off")
HOST = "10.0.2.2"  # this machine's loopback, as qemu's network shows it to the guest
NETWORK = "[Match]\nType=ether\n[Network]\nDHCP=ipv4\nLinkLocalAddressing=no\n"

# Debian's group for it has another number in each installation.
OWNERS = "".join(
    f"z /etc/entropy/{name} 0640 root entropy-client\n"
    for name in ("credential.json", "client.toml")
)

KEYS = f"""\
import subprocess, time
argv = ["gpg", "--homedir", "/run/keys", "--batch", "--pinentry-mode", "loopback"]
argv += ["--passphrase", "", "--quick-generate-key"]
subprocess.run(["install", "-d", "-m", "700", "/run/keys"], check=True)
took = []
for n in range({N_KEYS}):
    start = time.monotonic()
    subprocess.run([*argv, f"key{{n}}", "rsa3072", "default", "never"], check=True,
                   stderr=subprocess.DEVNULL)
    took.append(time.monotonic() - start)
print(sum(took), max(took))
"""
READ = f"""\
import os, subprocess, time
test = subprocess.Popen(["rngtest"], stdin=subprocess.PIPE, stderr=subprocess.PIPE)
device, left, longest = os.open("/dev/random", os.O_RDONLY), {N_BYTES}, 0.0
reading = 0.0
while left:
    start = time.monotonic()
    data = os.read(device, min(65536, left))
    took = time.monotonic() - start
    longest, reading = max(longest, took), reading + took
    left -= len(data)
    test.stdin.write(data)
test.stdin.close()
said = test.stderr.read().decode()
print(longest, reading, *[line.split()[-1] for line in said.splitlines() if "FIPS 140-2 " in line
                 and ("successes" in line or "failures" in line)])
"""


class Figures(NamedTuple):
    """Seconds of the guest's clock."""

    start_seconds: float  # of user space, and of the watch
    ready_seconds: float
    keys_seconds: float  # all ten
    longest_key_seconds: float
    longest_read_seconds: float  # of 64 KiB
    reading_seconds: float
    good_blocks: int
    bad_blocks: int


class Kind(NamedTuple):
    words: str
    processor: str
    kernel_words: Sequence[str]
    fed: str  # "", client or gateway


KINDS = {
    "rdrand": Kind("RDRAND, nothing of ours", "max", (), ""),
    "bare": Kind("no RDRAND, nothing of ours", NO_GENERATOR, NOTHING_TRUSTED, ""),
    "client": Kind("no RDRAND, our client", NO_GENERATOR, NOTHING_TRUSTED, "client"),
    "gateway": Kind("no RDRAND, virtio-rng by our gateway", NO_GENERATOR, NOTHING_TRUSTED, "gw"),
}


def tools(folder: Path) -> list[Path]:
    """The Debian packages of TOOLS, fetched once."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in TOOLS:
        if not list(folder.glob(f"{name}_*.deb")):
            argv = ["apt-get", "--quiet", "-o", "APT::Sandbox::User=root", "download", name]
            subprocess.run(argv, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return sorted(folder.glob("*.deb"))


def overlay(made: Pieces) -> Overlay:
    """The tools, and the watch as the guest's first program."""
    added = Overlay()
    added.file("/usr/local/sbin/lab-watch", made.watch.read_bytes(), mode=0o755)
    with tempfile.TemporaryDirectory() as folder:
        for deb in tools(pieces.FOLDER / "figures"):
            subprocess.run(["dpkg-deb", "--extract", deb, folder], check=True)
        for path in sorted(Path(folder).rglob("*")):
            target = f"/{path.relative_to(folder)}"
            if target.startswith(("/usr/share/", "/lib/systemd", "/usr/lib/systemd", "/etc")):
                continue
            if path.is_symlink():
                added.link(target, str(path.readlink()))
            elif path.is_file():
                added.file(target, path.read_bytes(), mode=path.stat().st_mode & 0o777)
    return added


def with_client(added: Overlay, outside: Outside) -> None:
    """The client's first seed and the resident client, as they are installed."""
    folder = outside.site.folder
    endpoints = outside.broker.addresses[0], outside.broker.seeds_addresses[0]
    port, seeds_port = (endpoint.rpartition(":")[2] for endpoint in endpoints)
    text = f'[client]\nsite_id = "lab"\nca = "/etc/entropy/ca.pem"\nbrokers = ["{HOST}:{port}"]\n'
    text += f'seeds = ["{HOST}:{seeds_port}"]\n'  # or TLS would wake the kernel first
    text += 'credential = "/etc/entropy/credential.json"\n'
    added.file("/etc/entropy/client.toml", text, mode=0o640)
    added.file("/etc/entropy/credential.json", (folder / "vm1.json").read_bytes(), mode=0o640)
    added.file("/etc/entropy/ca.pem", (folder / "ca.pem").read_bytes())
    added.file("/etc/tmpfiles.d/lab.conf", OWNERS)
    added.file("/etc/systemd/network/lab.network", NETWORK)
    for unit in ("systemd-networkd.service", "entropy-first-seed.service"):
        added.enable(unit)
    added.enable("entropy-client.service")


def measure(name: str, made: Pieces) -> Figures:
    """Boot one kind of guest and take its figures. Raises LabError."""
    kind = KINDS[name]
    added = overlay(made)
    arguments: list[str] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        Outside(Path(folder), {**FAST, **FAST_IN_ALL}) as outside,
    ):
        outside.site.fleet.credential("vm1", "draw")
        outside.apply_list()
        outside.feed(60)
        if kind.fed == "client":
            with_client(added, outside)
            arguments += ["-netdev", "user,id=net"]
            arguments += ["-device", "virtio-net-pci,netdev=net,romfile="]
        elif kind.fed:
            arguments += ["-chardev", f"socket,id=egd,path={outside.tap},reconnect=1"]
            arguments += ["-object", "rng-egd,id=rng,chardev=egd"]
            arguments += ["-device", "virtio-rng-pci,rng=rng"]
        with Machine.start(
            "figures",
            made,
            processor=kind.processor,
            kernel_words=[*kind.kernel_words, "rdinit=/usr/local/sbin/lab-watch"],
            arguments=arguments,
            overlay=added,
        ) as guest:
            guest.run(["systemctl", "is-system-running", "--wait"], check=False)
            guest.until("the generator is ready", lambda: _noted(guest, "ready"))
            noted = _noted(guest, "start"), _noted(guest, "ready")
            if kind.fed == "client":
                guest.until("the client has fed", lambda: "credited" in _said(guest))
            return Figures(*noted, *_run(guest, KEYS), *_run(guest, READ))


def _noted(guest: Machine, what: str) -> float:
    """When the watch noted that first; 0.0 if it has not."""
    lines = guest.read("/lab-watch").decode().splitlines()
    return next((float(line.split()[0]) for line in lines if line.split()[1] == what), 0.0)


def _said(guest: Machine) -> str:
    argv = ["journalctl", "--quiet", "--output=cat", "--unit=entropy-*"]
    return guest.run(argv).stdout


def _run(guest: Machine, script: str) -> list[Any]:
    argv = ["python3", "-S", "-c", script]
    words = guest.run(argv, timeout_seconds=PATIENCE_SECONDS).stdout.split()
    return [float(word) if "." in word else int(word) for word in words]


def main(names: Sequence[str]) -> int:
    folder = pieces.FOLDER / "debs"
    subprocess.run([CHECKOUT / "packaging" / "build", folder], check=True)
    made = pieces.ensure(sorted(folder.glob("*.deb")))
    print(
        "| guest | user space from | ready at | ten keys | slowest | 100 MiB | slowest 64 KiB"
        " | failed blocks |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name in names or KINDS:
        try:
            with step(f"measuring: {KINDS[name].words}"):
                took = measure(name, made)
        except LabError as error:
            print(error, file=sys.stderr)
            return 1
        n_blocks = took.good_blocks + took.bad_blocks
        print(
            f"| {KINDS[name].words} | {took.start_seconds:.1f} s | {took.ready_seconds:.1f} s"
            f" | {took.keys_seconds:.0f} s | {took.longest_key_seconds:.1f} s"
            f" | {took.reading_seconds:.1f} s"
            f" | {1000 * took.longest_read_seconds:.0f} ms | {took.bad_blocks} of {n_blocks} |",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
