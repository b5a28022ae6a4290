"""`entropy sample`: a source on its own, through the same tests and conditioning as a feeder.

What comes out is for looking at: nothing is fed, so an operator may state any figures to try.
"""

from __future__ import annotations

from typing import BinaryIO

from entropy.errors import ConfigError, HealthFailure, SourceGone
from entropy.health import STARTUP_BYTES, WINDOW_BYTES, HealthTests
from entropy.intake import Intake
from entropy.sources.base import Figures, Source, StatedFigures
from entropy.sources.uri import source_for

READ_BYTES = 1024
_FILE_CREDIT_BITS = 4
_FILE_TEST_BITS = 7


def run(
    uri: str,
    *,
    raw: bool,
    n_bytes: int,
    credit_bits_per_byte: float | None,
    test_bits_per_byte: float | None,
    output: BinaryIO,
) -> int:
    """Write `n_bytes` to `output`: conditioned blocks, or raw samples that passed the tests.

    Figures that are None are the source's own, for a file 4 and 7 bits per byte. Raises
    ConfigError, and SourceError when the source fails or ends too early; nothing of a window
    that did not close clean is ever written. Returns the exit status, 0.
    """
    if uri.startswith("file:"):
        if credit_bits_per_byte is None:
            credit_bits_per_byte = min(_FILE_CREDIT_BITS, test_bits_per_byte or _FILE_CREDIT_BITS)
        if test_bits_per_byte is None:
            test_bits_per_byte = max(_FILE_TEST_BITS, credit_bits_per_byte)
    stated = StatedFigures(credit_bits_per_byte, test_bits_per_byte, "stated on the command line")
    lab_only = uri.startswith("kernel:") and bool(credit_bits_per_byte)
    source = source_for(uri, stated, lab_only_credit_kernel=lab_only)
    figures = source.figures
    if not raw and figures.credit_bits_per_byte == 0:
        raise ConfigError(
            f"{source.name}: earns no credit ({figures.reason}), so there is nothing to condition:"
            " state a figure with --credit, or look at it with --raw"
        )
    source.open()
    try:
        _write(source, figures, raw, n_bytes, output)
    except HealthFailure as failure:
        raise HealthFailure(
            f"{source.name}: {failure}; nothing of that window was written"
        ) from None
    finally:
        source.close()
    return 0


def _write(source: Source, figures: Figures, raw: bool, n_bytes: int, output: BinaryIO) -> None:
    tests = HealthTests(figures.test_bits_per_byte) if raw else None
    intake = None if raw else Intake(figures)
    left_bytes = n_bytes
    while left_bytes > 0:
        try:
            samples = source.read(READ_BYTES)
        except SourceGone as gone:
            raise SourceGone(
                f"{gone}; {n_bytes - left_bytes} of {n_bytes} bytes were written"
                f" (the first {STARTUP_BYTES} are for the start-up test, then whole windows of"
                f" {WINDOW_BYTES} count)"
            ) from None
        if tests is not None:
            ready = tests.push(samples)
        else:
            assert intake is not None
            ready = b"".join(block.data for block in intake.push(samples))
        output.write(ready[:left_bytes])
        left_bytes -= min(left_bytes, len(ready))
    output.flush()
