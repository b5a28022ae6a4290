"""The pictures of a report, each as an SVG that stands for itself."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from entropy.assess.assessment import Assessment
from entropy.assess.counting import Symbols
from entropy.assess.verdict import at_most
from entropy.assess.windows import Statistic, Windows
from entropy.sources.base import Figures

_INK, _NOISE, _EXPECTED, _ALARM = "#24313d", "#2b6c8f", "#d9e2e7", "#b3402a"
_CREDIT, _TEST = "#3f7d4e", "#9a6a14"
_STYLE: Any = {  # matplotlib's own type of this lists all names that there are
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "entropy",  # the same picture is the same bytes
    "font.family": "sans-serif",
    "font.sans-serif": ["Helvetica Neue", "Arial", "DejaVu Sans", "sans-serif"],
    "font.size": 9,
    "axes.edgecolor": "#9aa7b0",
    "axes.labelcolor": _INK,
    "axes.titlesize": 9,
    "axes.titlecolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": _INK,
    "ytick.color": _INK,
}
_WIDTH_INCHES = 8.0
_MOST_POINTS = 600  # of a line
_SIGMAS = 3  # of the bands that good noise keeps to
_PLANE_SIDE = 128  # pixels
_LAGS = 256
_SEGMENT = 1024  # samples of one of the spectra that are averaged

Floats = npt.NDArray[np.float64]


def estimates(assessment: Assessment, figures: Figures) -> str:
    """Each estimate as a point, in bits per sample, with the declared figures as lines."""
    with matplotlib.rc_context(_STYLE):
        figure, axes = _figure(3.1)
        names = [estimate.name for estimate in assessment.estimates]
        rows = range(len(names), 0, -1)
        width = assessment.sample_bits
        for row, estimate in zip(rows, assessment.estimates):
            axes.axhline(row, color=_EXPECTED, linewidth=0.7, zorder=0)
            if estimate.literal_bits is not None:
                axes.plot(estimate.literal_bits, row, "o", color=_NOISE, markersize=5)
            if estimate.bitstring_bits is not None:
                axes.plot(
                    estimate.bitstring_bits * width,
                    row,
                    "D",
                    color=_NOISE,
                    markersize=4.5,
                    markerfacecolor="white",
                )
        lines = (
            (figures.credit_bits_per_byte, f"{figures.credit_bits_per_byte:g}", "credit", "--"),
            (figures.test_bits_per_byte, f"{figures.test_bits_per_byte:g}", "tests", ":"),
            (assessment.assessed_bits, at_most(assessment.assessed_bits), "assessed", "-"),
        )
        for height, (bits, number, name, line) in enumerate(lines):
            colour = {"credit": _CREDIT, "tests": _TEST}.get(name, _INK)
            label_height = len(names) + 0.8 + 0.8 * height
            axes.plot([bits, bits], [0, label_height + 0.4], colour, lw=1.4, linestyle=line)
            axes.annotate(
                f"{name} {number}",
                (bits, label_height),
                color=colour,
                va="center",
                ha="right" if bits > width / 2 else "left",
                xytext=(-3 if bits > width / 2 else 3, 0),
                textcoords="offset points",
                annotation_clip=False,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
            )
        axes.plot([], [], "o", color=_NOISE, label="samples")
        if assessment.bitstring_bits is not None:
            label = f"bits, times {width}"
            axes.plot([], [], "D", color=_NOISE, markerfacecolor="white", label=label)
        axes.legend(loc="upper right", bbox_to_anchor=(1.01, -0.07), ncols=2, frameon=False)
        axes.set_yticks(list(rows), names)
        axes.set_ylim(0.3, len(names) + 3)
        axes.set_xlim(-0.01 * width, width * 1.01)
        axes.set_xlabel("min-entropy, bits per sample")
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        return _svg(figure)


def histogram(samples: Symbols, sample_bits: int) -> str:
    with matplotlib.rc_context(_STYLE):
        figure, axes = _figure(2.3)
        n_values = 2**sample_bits
        counts = np.bincount(samples, minlength=n_values)
        expected = len(samples) / n_values
        spread = _SIGMAS * (expected * (1 - 1 / n_values)) ** 0.5
        axes.axhspan(expected - spread, expected + spread, color=_EXPECTED)
        axes.stairs(counts, np.arange(n_values + 1) - 0.5, fill=True, color=_NOISE)
        axes.axhline(expected, color=_INK, linewidth=0.8)
        axes.set_xlim(-0.5, n_values - 0.5)
        if n_values <= 16:
            axes.set_xticks(range(n_values))
        axes.set_ylim(0, 1.08 * max(float(counts.max()), expected + spread))
        axes.set_xlabel("value of the sample")
        axes.set_ylabel("times")
        return _svg(figure)


def bit_planes(samples: Symbols, sample_bits: int) -> str:
    """Each bit of the first samples as a picture of its own, row after row."""
    with matplotlib.rc_context(_STYLE):
        side = min(_PLANE_SIDE, int(len(samples) ** 0.5))
        n_columns = min(4, sample_bits)
        n_rows = -(-sample_bits // n_columns)
        figure = Figure(figsize=(_WIDTH_INCHES, 2.15 * n_rows), layout="constrained")
        first = samples[: side * side].reshape(side, side)
        for number, bit in enumerate(reversed(range(sample_bits)), 1):
            axes = figure.add_subplot(n_rows, n_columns, number)
            ones = float(np.count_nonzero(samples & (1 << bit))) / len(samples)
            axes.imshow(first >> bit & 1, cmap="gray_r", vmin=0, vmax=1, interpolation="none")
            axes.set_title(f"bit {bit}: {ones:.2%} ones")
            axes.set_xticks([])
            axes.set_yticks([])
        return _svg(figure)


def autocorrelation(samples: Symbols, bits: Symbols) -> str:
    """How much a sample, and a bit, tells of one some way on."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH_INCHES, 2.4), layout="constrained")
        sequences = [(samples, "samples")]
        if len(bits) > len(samples):
            sequences.append((bits, "bits"))
        for number, (symbols, unit) in enumerate(sequences, 1):
            axes = figure.add_subplot(1, len(sequences), number)
            band = _SIGMAS / len(symbols) ** 0.5
            correlations = _autocorrelations(symbols, _LAGS)
            axes.axhspan(-band, band, color=_EXPECTED)
            lags = np.arange(1, _LAGS + 1)
            axes.vlines(lags, 0, correlations, color=_NOISE, linewidth=0.8)
            largest = max(2 * band, 1.15 * float(np.abs(correlations).max()))
            axes.set_ylim(-largest, largest)
            axes.set_xlim(0, _LAGS + 1)
            axes.set_xlabel(f"lag, {unit}")
            if number == 1:
                axes.set_ylabel("correlation")
        return _svg(figure)


def spectrum(samples: Symbols) -> str:
    with matplotlib.rc_context(_STYLE):
        figure, axes = _figure(2.3)
        power, n_segments = _mean_spectrum(samples)
        frequencies = np.arange(1, len(power) + 1) / _SEGMENT
        decibels = 10 * np.log10(np.maximum(power, 1e-6))
        spread = _SIGMAS / n_segments**0.5
        band = (10 * np.log10(max(1 - spread, 1e-3)), 10 * np.log10(1 + spread))
        axes.axhspan(*band, color=_EXPECTED)
        axes.plot(frequencies, decibels, color=_NOISE, linewidth=0.8)
        axes.set_xlim(0, 0.5)
        low, high = float(decibels.min()), float(decibels.max())
        axes.set_ylim(min(2 * band[0], low - 0.2), max(2 * band[1], high + 0.2))
        axes.set_xlabel("frequency, cycles per sample")
        axes.set_ylabel("power, dB")
        return _svg(figure)


def health(windows: Windows) -> str:
    """The statistics of the health tests and the cutoffs that they must stay below."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH_INCHES, 3.6), layout="constrained")
        cutoffs = windows.cutoffs
        panels = (
            ("repetition count, bytes", windows.byte_repetition, cutoffs.byte_repetition),
            ("adaptive proportion, bytes", windows.byte_proportion, cutoffs.byte_proportion),
            ("repetition count, bits", windows.bit_repetition, cutoffs.bit_repetition),
            ("adaptive proportion, bits", windows.bit_proportion, cutoffs.bit_proportion),
        )
        for number, (title, statistic, cutoff) in enumerate(panels, 1):
            axes = figure.add_subplot(2, 2, number)
            places, highest = _thinned(statistic)
            failed = highest >= cutoff
            axes.plot(places, highest, color=_NOISE, linewidth=0.7)
            axes.plot(places[failed], highest[failed], ".", color=_ALARM, markersize=4)
            axes.axhline(cutoff, color=_ALARM, linewidth=1)
            axes.set_title(f"{title}: cutoff {cutoff}", loc="left")
            axes.set_xlim(0, max(1, len(statistic)))
            lowest = 0 if title.startswith("rep") else 0.95 * float(highest.min())
            axes.set_ylim(lowest, 1.08 * max(cutoff, float(highest.max())))
            if number > 2:
                axes.set_xlabel("window")
        return _svg(figure)


def _figure(height_inches: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(_WIDTH_INCHES, height_inches), layout="constrained")
    return figure, figure.add_subplot()


def _svg(figure: Figure) -> str:
    FigureCanvasSVG(figure)
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return text.getvalue()


def _autocorrelations(symbols: Symbols, n_lags: int) -> Floats:
    """For lags 1 to `n_lags`; zeros where nothing varies."""
    values = symbols - symbols.mean()
    variance = float(values @ values)
    if variance == 0:
        return np.zeros(n_lags)
    products: Sequence[float] = [
        float(values[lag:] @ values[:-lag]) for lag in range(1, n_lags + 1)
    ]
    return np.array(products) / variance


def _mean_spectrum(samples: Symbols) -> tuple[Floats, int]:
    """Power at frequencies 1/1024 to 1/2 relative to that of white noise of the same variance,
    and over how many segments it is averaged.
    """
    n_segments = len(samples) // _SEGMENT
    rows = samples[: n_segments * _SEGMENT].reshape(n_segments, _SEGMENT).astype(np.float64)
    rows -= rows.mean()
    variance = float(rows.var())
    taper = np.hanning(_SEGMENT)
    power = np.square(np.abs(np.fft.rfft(rows * taper, axis=1))).mean(axis=0)[1:]
    relative: Floats = power / (max(variance, 1e-12) * float(taper @ taper))
    return relative, n_segments


def _thinned(statistic: Statistic) -> tuple[Statistic, Statistic]:
    """Places and values of no more points than can be seen: the highest of each few windows."""
    step = -(-len(statistic) // _MOST_POINTS)
    places = np.arange(0, len(statistic), step)
    return places, np.maximum.reduceat(statistic, places)
