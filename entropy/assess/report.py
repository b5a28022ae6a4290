"""The report: one HTML file that holds its pictures and fetches nothing, for screen and paper."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from html import escape
from typing import NamedTuple

import numpy as np

from entropy.assess import pictures
from entropy.assess.assessment import Assessment, Estimate
from entropy.assess.counting import Symbols
from entropy.assess.style import STYLE
from entropy.assess.verdict import Outcome, Verdict, at_most
from entropy.assess.windows import Windows
from entropy.health import INTERMITTENT_EXPONENT
from entropy.sources.base import Figures


class Origin(NamedTuple):
    """Where the samples are from, and what assessed them."""

    uri: str
    figures: Figures
    taken: str  # date and time
    seconds: float  # that taking them took
    machine: str
    sha256: str  # of the samples, one in each byte
    versions: str


_CLASSES = {
    Outcome.CONTRADICTED: "alarm",
    Outcome.SAYS_NOTHING: "caution",
    Outcome.NOT_CREDITED: "neutral",
    Outcome.NOT_CONTRADICTED: "neutral",
}

_LIMITS = (
    (
        "It bounds from above only.",
        "The estimators look for patterns and find those that they were made for. The output of a"
        " cipher with a known key scores like perfect noise, and holds nothing.",
    ),
    (
        "Conditioned output proves nothing.",
        "What was hashed or encrypted on its way looks like this whatever is behind it. Assess"
        " raw samples, and ask the maker what the device does to them.",
    ),
    (
        "It is of these samples alone.",
        "Another device, another temperature, age or supply voltage may give others. That is what"
        " the health tests in the feeder watch for, all the time.",
    ),
    (
        "The figures err.",
        "A few patterns in perfect noise are always there by chance: 1,000,000 perfect bytes"
        " score about 7.4 bits each, not 8.",
    ),
    (
        "It is not a validation.",
        "That takes an accredited laboratory, the design of the noise source and reasons why it"
        " is random, and data from 1,000 restarts, none of which is here.",
    ),
)


def as_html(
    origin: Origin, samples: Symbols, assessment: Assessment, windows: Windows, verdict: Verdict
) -> str:
    """`samples`: one in each byte, as they were assessed."""
    width = assessment.sample_bits
    bits = np.unpackbits(samples[:, np.newaxis], axis=1)[:, 8 - width :].reshape(-1)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Entropy assessment of {escape(origin.uri)}</title>
<style>{STYLE}</style>
</head>
<body>
<header>
<h1>Entropy assessment</h1>
<p class="source">{escape(origin.uri)}</p>
<p class="when">{assessment.n_samples:,} samples of {_bits(width)}, taken {escape(origin.taken)}</p>
</header>
{_verdict(origin.figures, assessment, verdict)}
<h2>The ten estimators of SP 800-90B, section 6.3</h2>
{_picture(pictures.estimates(assessment, origin.figures), "all estimates, in bits per sample")}
{_table(assessment)}
<h2>What an assessment cannot show</h2>
<ul class="limits">
{_lines(f"<li><b>{escape(title)}</b> {escape(text)}</li>" for title, text in _LIMITS)}
</ul>
<h2>What the health tests saw</h2>
{_health(origin.figures, windows)}
<h2>Pictures of the samples</h2>
<p class="note">Grey bands are where perfect noise keeps to, all but about one point in 370
(three standard deviations).</p>
{
        _captioned(
            "Values",
            "How often each value came. Steps and combs are faults of a converter.",
            pictures.histogram(samples, width),
        )
    }
{
        _captioned(
            "Bit planes",
            "Each bit of the first samples, row after row, 1 is black; the share of"
            " ones is that of all samples. Stripes and shapes are patterns; a plane of one"
            " colour is a bit that never moves.",
            pictures.bit_planes(samples, width),
        )
    }
{
        _captioned(
            "Autocorrelation",
            "What a sample, or a bit, tells of the one so many places on."
            " Bars that rise at regular distances are a period.",
            pictures.autocorrelation(samples, bits),
        )
    }
{
        _captioned(
            "Spectrum",
            "Perfect noise is flat, at 0 dB. A peak is a disturbance: mains, a clock, a"
            " radio station; a slope is memory.",
            pictures.spectrum(samples),
        )
    }
<h2>About this report</h2>
{_facts(origin, assessment)}
</body>
</html>
"""


def _verdict(figures: Figures, assessment: Assessment, verdict: Verdict) -> str:
    unit = "bits per sample"
    big = (
        (at_most(assessment.assessed_bits), "assessed, at most", "assessed"),
        (f"{figures.credit_bits_per_byte:g}", "declared credit", "credit"),
        (f"{figures.test_bits_per_byte:g}", "health tests cut for", "test"),
    )
    return f"""<section class="verdict {_CLASSES[verdict.outcome]}">
<h2>{escape(verdict.outcome.value)}</h2>
<div class="figures">
{
        _lines(
            f'<div class="{kind}"><b>{number}</b><span>{name}</span><i>{unit}</i></div>'
            for number, name, kind in big
        )
    }
</div>
{_lines(f"<p>{escape(sentence)}</p>" for sentence in verdict.sentences)}
<ul>
{_lines(f"<li>{escape(remark)}</li>" for remark in verdict.remarks)}
</ul>
</section>"""


def _table(assessment: Assessment) -> str:
    width = assessment.sample_bits
    smallest = min(
        bits
        for estimate in assessment.estimates
        for bits in (estimate.literal_bits, _whole(estimate, width))
        if bits is not None
    )

    def cell(bits: float | None, shown: float | None) -> str:
        if bits is None or shown is None:
            return '<td class="none">&ndash;</td>'
        kind = ' class="least"' if shown == smallest else ""
        return f"<td{kind}>{bits:.6f}</td>"

    rows = _lines(
        f"<tr><td>{estimate.section}</td><th scope='row'>{estimate.name}</th>"
        f"{cell(estimate.literal_bits, estimate.literal_bits)}"
        f"{cell(estimate.bitstring_bits, _whole(estimate, width))}"
        f"{cell(_whole(estimate, width), _whole(estimate, width))}</tr>"
        for estimate in assessment.estimates
    )
    bitstring = assessment.bitstring_bits
    of_bits = "&ndash;" if bitstring is None else f"{bitstring:.6f}"
    of_all_bits = "&ndash;" if bitstring is None else f"{bitstring * width:.6f}"
    return f"""<table>
<thead><tr><th>section</th><th>estimator</th><th>samples,<br>bits per sample</th>
<th>bitstring,<br>bits per bit</th><th>times {width},<br>bits per sample</th></tr></thead>
<tbody>
{rows}
</tbody>
<tfoot>
<tr><td></td><th scope="row">the smallest</th><td>{assessment.original_bits:.6f}</td>
<td>{of_bits}</td><td>{of_all_bits}</td></tr>
<tr class="result"><td></td><th scope="row">assessed</th>
<td colspan="3">{assessment.assessed_bits:.6f} bits per sample</td></tr>
</tfoot>
</table>
<p class="note">The smallest of all figures counts. A dash: the estimator is not defined for such
samples, or they give it nothing to work on. The bitstring is the samples' bits, the highest
first; samples of two values have none of their own.</p>"""


def _whole(estimate: Estimate, width: int) -> float | None:
    """The bitstring's figure for a whole sample."""
    return None if estimate.bitstring_bits is None else estimate.bitstring_bits * width


def _health(figures: Figures, windows: Windows) -> str:
    n_windows, n_failures = len(windows.byte_repetition), len(windows.failures)
    failed = "none failed" if n_failures == 0 else f"{n_failures:,} failed"
    return f"""<div class="health">
<p>{n_windows:,} windows of 512 samples, {failed}. The cutoffs (red) are those of
{figures.test_bits_per_byte:g} bits per byte and false alarms of
2<sup>-{INTERMITTENT_EXPONENT}</sup>; what reaches one fails.</p>
{_picture(pictures.health(windows), "the statistics of the health tests, window after window")}
</div>"""


def _facts(origin: Origin, assessment: Assessment) -> str:
    figures = origin.figures
    rate = ""  # of a file it would be that of a disk
    if origin.seconds > 1:
        rate = f", {assessment.n_samples / origin.seconds:,.0f} per second"
    facts = (
        ("Source", origin.uri),
        (
            "Declared",
            f"credit {figures.credit_bits_per_byte:g}, tests {figures.test_bits_per_byte:g} bits"
            f" per byte: {figures.reason}",
        ),
        (
            "Samples",
            f"{assessment.n_samples:,} of {_bits(assessment.sample_bits)}, one in each byte;"
            f" {assessment.n_values} different values",
        ),
        ("SHA-256 of the samples", origin.sha256),
        ("Taken", f"{origin.taken}, in {origin.seconds:.1f} s{rate}"),
        ("Machine", origin.machine),
        ("Assessed with", origin.versions),
        (
            "Method",
            "NIST SP 800-90B (January 2018), sections 3.1.3 and 6.3, for data that is not assumed"
            " independent; health tests as in section 4.4",
        ),
        (
            "To check",
            "keep the samples (--keep FILE) and give them to NIST's own tool:"
            f" ea_non_iid -i -a -v FILE {assessment.sample_bits}",
        ),
    )
    rows = _lines(
        f"<tr><th scope='row'>{escape(name)}</th><td>{escape(text)}</td></tr>"
        for name, text in facts
    )
    return f'<table class="facts">\n{rows}\n</table>'


def _captioned(title: str, caption: str, svg: str) -> str:
    return (
        f"<figure><figcaption><b>{escape(title)}.</b> {escape(caption)}</figcaption>"
        f"{_picture(svg, title.lower())}</figure>"
    )


def _picture(svg: str, description: str) -> str:
    # As an image, so that no picture's styles and names meet those of another.
    encoded = base64.b64encode(svg.encode()).decode()
    return f'<img alt="{escape(description)}" src="data:image/svg+xml;base64,{encoded}">'


def _bits(width: int) -> str:
    return "1 bit" if width == 1 else f"{width} bits"


def _lines(texts: Iterable[str]) -> str:
    return "\n".join(texts)
