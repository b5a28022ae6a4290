"""What is plugged in, as `entropy sources` finds it in sysfs."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from entropy.sources import hwrng, listing
from entropy.sources.holder import process_with, usb_driver
from entropy.sources.listing import Device, as_lines, as_values, first_real


class Machine:
    """A root folder with the parts of sysfs and /proc that are read."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, path: str, text: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")

    def link(self, path: str, target: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.symlink_to(target)

    def plug(
        self,
        name: str,
        ids: str,
        *,
        serial: str = "",
        driver: str = "",
        line: str = "",
        **rest: str,
    ) -> None:
        folder = f"sys/bus/usb/devices/{name}"
        vendor, product = ids.split(":")
        bus, _, port = name.partition("-")
        values = {"idVendor": vendor, "idProduct": product, "busnum": bus, **rest}
        values["devnum"] = port.replace(".", "")
        if serial:
            values["serial"] = serial
        for key, value in values.items():
            self.write(f"{folder}/{key}", value)
        (self.root / f"{folder}:1.0").mkdir()
        if driver:
            self.link(f"{folder}:1.0/driver", f"../../../../bus/usb/drivers/{driver}")
        if line:
            (self.root / folder / f"{name}:1.0/tty/{line}").mkdir(parents=True)

    def is_guest(self, it_is: bool) -> None:
        flag = " hypervisor" if it_is else ""
        self.write("proc/cpuinfo", f"processor\t: 0\nflags\t\t: fpu vme{flag} de")

    def hwrng(self, current: str, *available: str) -> None:
        folder = "sys/class/misc/hw_random"
        self.write(f"{folder}/rng_current", current)
        self.write(f"{folder}/rng_available", " ".join([*available, "none"]))

    def runs(self, pid: int, name: str, *opened: str) -> None:
        self.write(f"proc/{pid}/comm", name)
        for number, target in enumerate(opened):
            self.link(f"proc/{pid}/fd/{number}", target)

    def found(self) -> list[Device]:
        return [one for one in listing.listing(str(self.root)) if one.uri != "jitter:"]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Bare metal; and so is what it says of itself, to the sources that its URIs name."""
    monkeypatch.setattr(hwrng, "is_guest", lambda: False)
    machine = Machine(tmp_path)
    machine.is_guest(False)
    return machine


def test_nothing(machine: Machine) -> None:
    assert machine.found() == []
    assert as_lines([]) == ["no generator was found"]


def test_two_aleas(machine: Machine) -> None:
    machine.plug("1-10", "12d8:0001", serial="ALEA7", driver="chaoskey")
    machine.plug("1-2.3", "12d8:0001", driver="usbfs")
    machine.plug("1-1", "046d:c31c")  # a keyboard
    machine.runs(812, "entropy", "/dev/bus/usb/001/023", "/dev/null")
    machine.runs(9, "sh", "/dev/null")
    first, second = machine.found()
    assert first == Device(
        "Araneus Alea",
        "",
        "usbfs",
        "process 812 (entropy)",
        "alea:bus=1,port=2.3",
        4,
        7,
        first.reason,
        "",
        "",
    )
    assert "unverified" in first.reason
    assert (second.uri, second.serial_number, second.driver, second.holder) == (
        "alea:serial=ALEA7",
        "ALEA7",
        "chaoskey",
        "",
    )
    assert "without a health test" in second.note


@pytest.mark.parametrize("serial", ["A,1", "A 1", "Ä1"])
def test_a_serial_number_that_cannot_stand_in_a_uri(machine: Machine, serial: str) -> None:
    machine.plug("3-1", "1d50:60c6", serial=serial)
    (found,) = machine.found()
    assert found.uri == "chaoskey:bus=3,port=1"


def test_a_serial_number_that_two_of_a_kind_have_tells_nothing(machine: Machine) -> None:
    machine.plug("1-2", "12d8:0001", serial="0001")
    machine.plug("1-3", "1d50:60c6", serial="0001")
    assert [one.uri for one in machine.found()] == ["alea:serial=0001", "chaoskey:serial=0001"]
    machine.plug("2-4", "12d8:0001", serial="0001")
    uris = [one.uri for one in machine.found()]
    assert uris == ["alea:bus=1,port=2", "chaoskey:serial=0001", "alea:bus=2,port=4"]


@pytest.mark.parametrize(
    ("ids", "name", "model"),
    [
        ("1d50:6086", "OneRNG", "onerng"),
        ("04d8:f5fe", "TrueRNG", "truerng"),
        ("16d0:0aa0", "TrueRNGpro", "truerngpro"),
        ("04d8:ebb5", "TrueRNGpro V2", "truerngpro"),
    ],
)
def test_serial_lines(machine: Machine, ids: str, name: str, model: str) -> None:
    machine.plug("2-1", ids, driver="cdc_acm", line="ttyACM3")
    machine.runs(44, "rngd", "/dev/ttyACM3")
    (found,) = machine.found()
    assert (found.device, found.driver, found.holder) == (name, "cdc_acm", "process 44 (rngd)")
    assert found.uri == f"serial:/dev/ttyACM3?model={model}"
    machine.link("dev/serial/by-id/usb-a-b", "../../ttyACM3")
    (found,) = machine.found()
    assert found.uri == f"serial:/dev/serial/by-id/usb-a-b?model={model}"
    assert found.is_real


def test_a_serial_device_without_its_driver(machine: Machine) -> None:
    machine.plug("2-1", "04d8:f5fe")
    (found,) = machine.found()
    assert (found.uri, found.is_real) == ("", False)
    assert "cdc_acm" in found.first


def test_devices_that_have_tools_of_their_own(machine: Machine) -> None:
    machine.plug("2-1", "0403:6015", product="FT230X Basic UART")
    assert machine.found() == []
    machine.plug("2-2", "0403:6015", product="Infinite Noise TRNG")
    machine.plug("2-3", "1fc9:8110")
    assert [(one.device, one.uri) for one in machine.found()] == [
        ("Infinite Noise", ""),
        ("SwiftRNG", ""),
    ]


def test_what_the_kernel_drives(machine: Machine) -> None:
    machine.hwrng("virtio_rng.0", "virtio_rng.0", "tpm-rng-0")
    virtio, tpm = machine.found()
    assert (virtio.uri, virtio.credit_bits_per_byte, virtio.is_real) == (
        "hwrng:name=virtio_rng.0",
        0,
        False,
    )
    assert (tpm.uri, tpm.credit_bits_per_byte, tpm.is_real) == ("hwrng:name=tpm-rng-0", 1, False)
    assert tpm.first == "as root: echo tpm-rng-0 > /sys/class/misc/hw_random/rng_current"
    machine.hwrng("tpm-rng-0", "virtio_rng.0", "tpm-rng-0")
    assert first_real(machine.found()) == machine.found()[1]


def test_a_tpm_in_a_guest_earns_nothing(machine: Machine) -> None:
    machine.is_guest(True)
    machine.hwrng("tpm-rng-0", "tpm-rng-0")
    (tpm,) = machine.found()
    assert (tpm.credit_bits_per_byte, tpm.is_real) == (0, False)
    assert "virtual machine" in tpm.reason


def test_a_name_with_spaces_is_one_device(machine: Machine) -> None:
    # What chaoskey calls an Alea: its product string, and its serial number.
    machine.hwrng("Alea II TRNG-A1", "tpm-rng-0", "Alea II TRNG-A1", "virtio_rng.0")
    assert [one.uri for one in machine.found()] == [
        "hwrng:name=tpm-rng-0",
        "hwrng:name=Alea II TRNG-A1",
        "hwrng:name=virtio_rng.0",
    ]


@pytest.mark.parametrize(("serial", "name"), [("A1", "Alea II TRNG-A1"), ("", "chaoskey")])
def test_a_device_of_chaoskey_is_one_device(machine: Machine, serial: str, name: str) -> None:
    """A second feeder must not be sent to the kernel's name of what the first one takes."""
    machine.plug("1-2", "12d8:0001", serial=serial, driver="chaoskey", product="Alea II TRNG")
    machine.hwrng(name, "tpm-rng-0", name)
    alea, tpm, same = machine.found()
    assert (alea.is_real, tpm.is_real, same.is_real) == (True, False, False)
    assert same.uri == f"hwrng:name={name}"
    assert "read it as the USB device that it is" in same.first


def test_the_first_real_one(machine: Machine) -> None:
    machine.hwrng("tpm-rng-0", "tpm-rng-0")
    machine.plug("2-3", "1fc9:8110")
    machine.plug("2-4", "12d8:0001", serial="A1")
    found = first_real(listing.listing(str(machine.root)))
    assert found is not None
    assert found.uri == "alea:serial=A1"
    assert first_real([]) is None


def test_cpu_jitter_is_no_device_to_choose() -> None:
    """Every machine has it; where it earns credit, too, an operator has to name it."""
    jitter = Device("CPU jitter", "", "jitterentropy_rng", "", "jitter:", 1, 7, "a reason", "", "")
    assert not jitter.is_real
    assert jitter._replace(uri="hwrng:name=one").is_real


def test_as_json_and_as_text(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.plug("2-4", "12d8:0001", serial="A1", driver="chaoskey")
    devices = machine.found()
    monkeypatch.setattr(listing, "listing", lambda: devices)
    output = io.StringIO()
    assert listing.run(output, as_json=True) == 0
    (value,) = json.loads(output.getvalue())
    assert value == as_values(devices)[0]
    assert value["real"] is True
    output = io.StringIO()
    listing.run(output, as_json=False)
    lines = output.getvalue().splitlines()
    assert lines[0] == "Araneus Alea, serial number A1"
    assert "    source   alea:serial=A1" in lines
    assert "    held by  chaoskey" in lines
    assert any("4 bits per byte, tested for 7: Araneus Alea: unverified" in line for line in lines)


def test_every_uri_that_is_listed_is_one(machine: Machine) -> None:
    from entropy.sources.uri import source_for

    machine.plug("1-2.3", "12d8:0001")
    machine.plug("1-3", "1d50:60c6", serial="K:1")
    machine.plug("1-4", "16d0:0aa0", line="ttyACM0")
    machine.hwrng("tpm-rng-0", "tpm-rng-0")
    found = machine.found()
    assert len(found) == 4
    for one in found:
        figures = source_for(one.uri).figures
        assert figures.credit_bits_per_byte == one.credit_bits_per_byte
        assert (figures.test_bits_per_byte, figures.reason) == (one.test_bits_per_byte, one.reason)


# Who holds a device


def test_a_process_that_has_a_file_open(tmp_path: Path) -> None:
    path = tmp_path / "node"
    path.touch()
    assert process_with(str(path)) == ""
    program = "import sys; f = open(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-S", "-c", program, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert process_with(str(path)).startswith(f"process {process.pid} (")
        assert process_with(str(path), but=process.pid) == ""
        assert process.stdin is not None
        process.stdin.close()
    assert process_with(str(path), but=os.getpid()) == ""


def test_no_driver(machine: Machine) -> None:
    machine.plug("1-1", "12d8:0001")
    assert usb_driver("1-1", str(machine.root)) == ""
    assert usb_driver("1-9", str(machine.root)) == ""
