"""Source URIs, and the defaults that come with each kind."""

from __future__ import annotations

import pytest

from entropy.errors import ConfigError
from entropy.sources.base import StatedFigures
from entropy.sources.file import FileSource
from entropy.sources.hwrng import HwrngSource
from entropy.sources.jitter import JitterSource
from entropy.sources.kernel import KernelSource
from entropy.sources.uri import source_for


@pytest.mark.parametrize(
    ("uri", "kind"),
    [
        ("hwrng:", HwrngSource),
        ("hwrng:/dev/hwrng", HwrngSource),
        ("jitter:", JitterSource),
        ("file:noise.bin", FileSource),
        ("file:/tmp/a:b?c", FileSource),
        ("kernel:", KernelSource),
    ],
)
def test_known_sources(uri: str, kind: type) -> None:
    source = source_for(uri)
    assert type(source) is kind
    assert source.uri == uri


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("", "'' is not a source; known are alea:, chaoskey:, serial:.*, kernel:"),
        ("kernel", r"'kernel' is not a source; did you mean kernel:\?"),
        ("allea:serial=A1", r"is not a source; did you mean alea:\?"),
        ("/dev/hwrng", "'/dev/hwrng' is not a source"),
        ("tarot:", "'tarot:' is not a source"),
        ("hwrng:dev/hwrng", "must be absolute"),
        ("jitter:x", "nothing is expected after the colon"),
        ("kernel:x", "nothing is expected after the colon"),
        ("file:", "names no file"),
    ],
)
def test_unknown_sources(uri: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        source_for(uri)


def test_file_and_kernel_earn_nothing_unless_told() -> None:
    for uri in ("file:x", "kernel:"):
        assert source_for(uri).figures.credit_bits_per_byte == 0
    stated = StatedFigures(4, reason="recorded from a device")
    assert source_for("file:x", stated).figures.credit_bits_per_byte == 4


def test_the_kernel_earns_credit_in_a_lab_only() -> None:
    stated = StatedFigures(2, reason="because")
    with pytest.raises(ConfigError, match="lab_only_credit_kernel"):
        source_for("kernel:", stated)
    figures = source_for("kernel:", lab_only_credit_kernel=True).figures
    assert figures.credit_bits_per_byte == 1
    assert "LAB ONLY" in figures.reason
    figures = source_for("kernel:", stated, lab_only_credit_kernel=True).figures
    assert figures.credit_bits_per_byte == 2


def test_the_lab_setting_is_for_the_kernel_alone() -> None:
    with pytest.raises(ConfigError, match="goes with the source kernel: alone"):
        source_for("hwrng:", lab_only_credit_kernel=True)


def test_the_kernel_source_gives_what_is_asked() -> None:
    source = source_for("kernel:")
    source.open()
    assert len(source.read(1000)) == 1000
    source.close()
