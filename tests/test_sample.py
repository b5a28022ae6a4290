"""`entropy sample`: the same tests and conditioning as a feeder, to a file."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import pytest

from entropy import sample
from entropy.errors import ConfigError, HealthFailure, SourceGone
from entropy.health import STARTUP_BYTES, WINDOW_BYTES


def noise(n_bytes: int) -> bytes:
    return hashlib.shake_256(b"sample").digest(n_bytes)


class Sampled:
    """What one run wrote."""

    def __init__(self, path: Path, samples: bytes) -> None:
        path.write_bytes(samples)
        self.uri = f"file:{path}"
        self.output = io.BytesIO()

    def run(
        self, n_bytes: int, *, raw: bool = False, credit: float | None = None, test: float = 7
    ) -> bytes:
        status = sample.run(
            self.uri,
            raw=raw,
            n_bytes=n_bytes,
            credit_bits_per_byte=credit,
            test_bits_per_byte=test,
            output=self.output,
        )
        assert status == 0
        return self.output.getvalue()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "noise"


def test_raw_samples_after_the_start_up_test(path: Path) -> None:
    samples = noise(STARTUP_BYTES + 4 * WINDOW_BYTES)
    assert Sampled(path, samples).run(1500, raw=True) == samples[STARTUP_BYTES:][:1500]


def test_blocks_at_the_figures_for_a_file(path: Path) -> None:
    """4 bits for each byte unless said: 144 raw bytes for each 64."""
    samples = noise(STARTUP_BYTES + 4 * WINDOW_BYTES)
    tested = samples[STARTUP_BYTES:]
    first = hashlib.sha512(b"entropy/1 conditioner\0" + tested[:144]).digest()
    second = hashlib.sha512(b"entropy/1 conditioner\0" + tested[144:288]).digest()
    assert Sampled(path, samples).run(100) == (first + second)[:100]
    full = hashlib.sha512(b"entropy/1 conditioner\0" + tested[:72]).digest()
    assert Sampled(path, samples).run(64, credit=8, test=8) == full


def test_a_stuck_source_ends_it_and_nothing_of_the_window_is_written(path: Path) -> None:
    good = noise(STARTUP_BYTES + 5 * WINDOW_BYTES + 100)
    sampled = Sampled(path, good + bytes(4000))
    with pytest.raises(HealthFailure, match=r"file:.*: health test failed: .* was written$"):
        sampled.run(10_000, raw=True)
    written = sampled.output.getvalue()
    assert written == good[STARTUP_BYTES:][: len(written)]
    assert len(written) % WINDOW_BYTES == 0
    assert len(written) <= 5 * WINDOW_BYTES


def test_a_file_too_short(path: Path) -> None:
    sampled = Sampled(path, noise(STARTUP_BYTES + WINDOW_BYTES + 1))
    with pytest.raises(SourceGone, match="512 of 1000 bytes were written"):
        sampled.run(1000, raw=True)


def test_no_credit_nothing_to_condition() -> None:
    with pytest.raises(ConfigError, match=r"kernel: earns no credit .* --credit, .* --raw"):
        sample.run(
            "kernel:",
            raw=False,
            n_bytes=10,
            credit_bits_per_byte=None,
            test_bits_per_byte=None,
            output=io.BytesIO(),
        )


@pytest.mark.parametrize(("raw", "credit"), [(True, None), (False, 1.0)])
def test_the_kernel_to_look_at(raw: bool, credit: float | None) -> None:
    output = io.BytesIO()
    sample.run(
        "kernel:",
        raw=raw,
        n_bytes=1000,
        credit_bits_per_byte=credit,
        test_bits_per_byte=None,
        output=output,
    )
    assert len(output.getvalue()) == 1000


@pytest.mark.parametrize(("credit", "test"), [(2.0, None), (None, 2.0), (7.5, None)])
def test_one_figure_stated(path: Path, credit: float | None, test: float | None) -> None:
    path.write_bytes(noise(8000))
    output = io.BytesIO()
    sample.run(
        f"file:{path}",
        raw=False,
        n_bytes=64,
        credit_bits_per_byte=credit,
        test_bits_per_byte=test,
        output=output,
    )
    assert len(output.getvalue()) == 64
