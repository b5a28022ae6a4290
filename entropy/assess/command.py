"""`entropy assess`: take raw samples of a source, assess them, write the report."""

from __future__ import annotations

import hashlib
import os
import platform
from datetime import datetime, timezone
from pathlib import Path
from typing import TextIO

import matplotlib
import numpy as np

from entropy import __version__
from entropy.assess.assessment import LEAST_SAMPLES, Assessment, assess
from entropy.assess.report import Origin, as_html
from entropy.assess.samples import ProgressBar, take
from entropy.assess.verdict import Verdict, at_most, judge
from entropy.assess.windows import look
from entropy.errors import ConfigError, EntropyError
from entropy.health import cutoffs
from entropy.sources.base import StatedFigures
from entropy.sources.uri import source_for

MOST_SAMPLES = 4_000_000  # of 8 bits: 3.5 GB of memory; twice that if they repeat themselves


def run(
    uri: str,
    *,
    n_samples: int,
    sample_bits: int,
    credit_bits_per_byte: float | None,
    test_bits_per_byte: float | None,
    report_path: str | None,
    keep_path: str | None,
    output: TextIO,
) -> int:
    """Write the report to `report_path` and a summary to `output`; to `keep_path` the samples.

    Paths may be None: the report's is made from the source and the time, the samples are not kept.
    Figures that are None are the source's own. Raises ConfigError for what cannot be assessed or
    written, SourceError when the source fails. Returns the exit status, 0: what is found is the
    report's to say.
    """
    if not LEAST_SAMPLES <= n_samples <= MOST_SAMPLES:
        raise ConfigError(
            f"--bytes {n_samples}: from {LEAST_SAMPLES:,} to {MOST_SAMPLES:,} can be assessed"
        )
    stated = StatedFigures(credit_bits_per_byte, test_bits_per_byte, "stated on the command line")
    lab_only = uri.startswith("kernel:") and bool(credit_bits_per_byte)
    source = source_for(uri, stated, lab_only_credit_kernel=lab_only)
    # What is wrong is said now rather than after all the work.
    cutoffs(source.figures.test_bits_per_byte)
    start = datetime.now(timezone.utc)
    path = report_path or f"assessment-{source.name.partition(':')[0]}-{start:%Y%m%dT%H%M%SZ}.html"
    _check_writable(path)
    bar = ProgressBar()
    try:
        samples = take(source, n_samples, bar)
        if keep_path:
            _write(keep_path, samples.data)
        assessment = assess(
            samples.data, sample_bits, lambda done, n, name: bar.show(done / n, name)
        )
        bar.show(1.0, "the report")
        figures = source.figures
        windows = look(samples.data, figures.test_bits_per_byte)
        verdict = judge(uri, figures, assessment, windows)
        origin = Origin(
            uri=uri,
            figures=figures,
            taken=f"{start:%Y-%m-%d %H:%M:%S} UTC",
            seconds=samples.seconds,
            machine=f"{platform.node()} ({platform.system()} {platform.release()},"
            f" {platform.machine()})",
            sha256=hashlib.sha256(samples.data).hexdigest(),
            versions=f"entropy {__version__}, Python {platform.python_version()},"
            f" NumPy {np.__version__}, matplotlib {matplotlib.__version__}",
        )
        given = np.frombuffer(samples.data, dtype=np.uint8)
        _write(path, as_html(origin, given, assessment, windows, verdict))
    finally:
        bar.clear()
    _summarise(assessment, verdict, path, output)
    return 0


def _check_writable(path: str) -> None:
    parent = Path(path).absolute().parent
    if Path(path).is_dir() or not os.access(path if Path(path).exists() else parent, os.W_OK):
        raise ConfigError(f"{path}: cannot be written: name another file with --output")


def _write(path: str, content: str | bytes) -> None:
    try:
        if isinstance(content, bytes):
            Path(path).write_bytes(content)
        else:
            Path(path).write_text(content, encoding="utf-8")
    except OSError as error:
        raise EntropyError(f"{path}: cannot be written: {error.strerror}") from None


def _summarise(assessment: Assessment, verdict: Verdict, path: str, output: TextIO) -> None:
    print(f"{'':20}{'samples':>12}{'bitstring':>12}", file=output)
    for estimate in assessment.estimates:
        literal, bitstring = (
            "-" if bits is None else f"{bits:.6f}"
            for bits in (estimate.literal_bits, estimate.bitstring_bits)
        )
        print(f"{estimate.name:20}{literal:>12}{bitstring:>12}", file=output)
    print(f"\n{verdict.outcome.value}.", file=output)
    for sentence in (*verdict.sentences, *verdict.remarks):
        print(sentence, file=output)
    print(f"Assessed: {at_most(assessment.assessed_bits)} bits per sample at most.", file=output)
    print(f"Report: {path}", file=output)
