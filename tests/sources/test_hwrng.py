"""/dev/hwrng: its figures go by the device behind it, and another device is another source."""

from __future__ import annotations

from pathlib import Path

import pytest

from entropy.errors import SourceGone
from entropy.sources import hwrng
from entropy.sources.base import StatedFigures
from entropy.sources.hwrng import HwrngSource


class Machine:
    """A device file and the kernel's word on which device it is."""

    def __init__(self, folder: Path, device: str) -> None:
        self.device_path = folder / "hwrng"
        self.current_path = folder / "rng_current"
        self.device_path.write_bytes(bytes(range(256)))
        self.switch_to(device)

    def switch_to(self, device: str) -> None:
        self.current_path.write_text(device + "\n")

    def source(self, stated: StatedFigures | None = None) -> HwrngSource:
        return HwrngSource(
            "hwrng:", stated or StatedFigures(), str(self.device_path), str(self.current_path)
        )


@pytest.fixture(autouse=True)
def _bare_metal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hwrng, "is_guest", lambda: False)


@pytest.mark.parametrize(
    ("device", "credit_bits_per_byte"),
    [
        ("virtio_rng.0", 0),
        ("virtio_rng.3", 0),
        ("tpm-rng-0", 1),
        ("chaoskey-hw-1.0-sw-0.1", 1),
        ("", 0),
    ],
)
def test_figures_go_by_the_device(tmp_path: Path, device: str, credit_bits_per_byte: int) -> None:
    figures = Machine(tmp_path, device).source().figures
    assert figures.credit_bits_per_byte == credit_bits_per_byte
    assert figures.test_bits_per_byte >= 4


def test_a_tpm_in_a_guest_is_its_hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hwrng, "is_guest", lambda: True)
    figures = Machine(tmp_path, "tpm-rng-0").source().figures
    assert (figures.credit_bits_per_byte, figures.test_bits_per_byte) == (0, 7)
    # What else a guest has was given to it: an Alea, for one.
    assert Machine(tmp_path, "Alea II TRNG-A1").source().figures.credit_bits_per_byte == 1


def test_no_word_from_the_kernel_no_credit(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "tpm-rng-0")
    machine.current_path.unlink()
    source = machine.source()
    assert source.figures.credit_bits_per_byte == 0
    source.open()
    assert source.read(3) == b"\0\1\2"
    source.close()


def test_a_device_that_is_not_there_yet(tmp_path: Path) -> None:
    """A feeder that starts first must wait for it, not end because nothing would be credited."""
    machine = Machine(tmp_path, "chaoskey-hw-1.0-sw-0.1")
    source = machine.source()
    machine.current_path.unlink()
    machine.device_path.unlink()
    assert source.figures.credit_bits_per_byte == 1
    with pytest.raises(SourceGone):
        source.open()
    machine.device_path.write_bytes(b"some")  # but by a driver that has no name
    assert source.figures.credit_bits_per_byte == 0


def test_an_operator_may_know_better(tmp_path: Path) -> None:
    stated = StatedFigures(2, reason="the host's own device is behind it, and is ours")
    assert Machine(tmp_path, "virtio_rng.0").source(stated).figures.credit_bits_per_byte == 2


def test_no_device_behind_it(tmp_path: Path) -> None:
    source = Machine(tmp_path, "none").source()
    with pytest.raises(SourceGone, match="no hardware generator now"):
        source.open()


def test_another_device_is_another_source(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "tpm-rng-0")
    source = machine.source()
    source.open()
    assert len(source.read(10)) == 10
    machine.switch_to("virtio_rng.0")
    with pytest.raises(SourceGone, match=r"switched from tpm-rng-0 to virtio_rng\.0"):
        source.read(10)
    source.open()
    assert len(source.read(10)) == 10
    assert source.figures.credit_bits_per_byte == 0
    source.close()


def test_silence_is_gone(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "tpm-rng-0")
    machine.device_path.write_bytes(b"")
    source = machine.source()
    source.open()
    with pytest.raises(SourceGone, match="gave nothing"):
        source.read(10)
    source.close()


def named(machine: Machine, name: str) -> HwrngSource:
    return HwrngSource(
        f"hwrng:name={name}",
        StatedFigures(),
        str(machine.device_path),
        str(machine.current_path),
        wanted_name=name,
    )


def test_by_name_it_is_that_device_or_none(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "virtio_rng.0")
    (tmp_path / "rng_available").write_text("virtio_rng.0 tpm-rng-0 none\n")
    source = named(machine, "tpm-rng-0")
    assert source.figures.credit_bits_per_byte == 1  # its own, also while it is not current
    with pytest.raises(
        SourceGone, match=r"reads from virtio_rng\.0 now; as root: echo tpm-rng-0 > "
    ):
        source.open()
    machine.switch_to("tpm-rng-0")
    source.open()
    assert len(source.read(10)) == 10
    machine.switch_to("virtio_rng.0")
    with pytest.raises(SourceGone, match="switched from tpm-rng-0"):
        source.read(10)
    with pytest.raises(SourceGone, match="as root"):
        source.open()


def test_a_name_that_the_kernel_has_not(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "virtio_rng.0")
    (tmp_path / "rng_available").write_text("virtio_rng.0 none\n")
    with pytest.raises(SourceGone, match=r"no such generator now; it has virtio_rng\.0 none"):
        named(machine, "tpm-rng-0").open()
    machine.switch_to("none")
    with pytest.raises(SourceGone, match="no hardware generator now"):
        named(machine, "tpm-rng-0").open()
