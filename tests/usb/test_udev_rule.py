"""The shipped udev rule knows the devices that the program knows, and gives them all the same."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from entropy.sources import listing
from entropy.sources.alea import ALEA
from entropy.sources.chaoskey import CHAOSKEY

DEBIAN = Path(__file__).resolve().parents[2] / "packaging/debian"
RULE = (DEBIAN / "entropy-feeder.udev").read_text()


def ids(section: str) -> set[tuple[str, str]]:
    """The ids between a label and the next."""
    text = RULE.partition(f'LABEL="{section}"')[2].partition("LABEL=")[0]
    return set(re.findall(r'{idVendor}=="(\w{4})", ATTRS?{idProduct}=="(\w{4})"', text))


def test_usb_devices() -> None:
    kinds = {(f"{kind.vendor_id:04x}", f"{kind.product_id:04x}") for kind in (ALEA, CHAOSKEY)}
    assert ids("entropy_feeder_usb") == kinds


def test_serial_lines() -> None:
    assert ids("entropy_feeder_tty") == set(listing._LINES)


def test_what_they_are_given() -> None:
    (line,) = re.findall(r"^GROUP=.*entropy-feeder-plugged.*$", RULE, re.MULTILINE)
    for part in (
        'GROUP="entropy-feeder"',
        'MODE="0660"',
        'TAG+="systemd"',
        'ENV{SYSTEMD_WANTS}+="entropy-feeder-plugged.service"',
    ):
        assert part in line


def test_every_jump_has_a_place_to_land() -> None:
    jumps, places = (re.findall(rf'{word}="(\w+)"', RULE) for word in ("GOTO", "LABEL"))
    assert set(jumps) == set(places)


@pytest.mark.skipif(not shutil.which("udevadm"), reason="udev is not installed here")
def test_udev_understands_every_line(tmp_path: Path) -> None:
    """What `udevadm test` says of this file when it reads its rules, where it may read them."""
    done = subprocess.run(["udevadm", "--help"], capture_output=True, text=True)
    if "verify" not in done.stdout:
        pytest.skip("this udevadm cannot verify rules")
    path = tmp_path / "60-entropy-feeder.rules"
    path.write_text(RULE.replace('GROUP="entropy-feeder"', 'GROUP="root"'))
    done = subprocess.run(["udevadm", "verify", path], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_feeder_may_open_what_the_rule_gives_it() -> None:
    unit = (DEBIAN / "entropy-feeder@.service").read_text()
    allowed = set(re.findall(r"^DeviceAllow=(.*)$", unit, re.MULTILINE))
    sources = {"/dev/hwrng r", "char-166 rw", "char-188 rw", "char-189 rw"}
    assert allowed == sources | {"/dev/kmsg r", "/dev/vmclock0 r"}  # signs of clones
    (families,) = re.findall(r"^RestrictAddressFamilies=(.*)$", unit, re.MULTILINE)
    assert "AF_NETLINK" in families.split()
    assert "WantedBy=multi-user.target entropy-feeder.target" in unit
