"""What an assessment means, in words: no more than it shows."""

from __future__ import annotations

import math
from enum import Enum
from typing import NamedTuple

from entropy.assess.assessment import FULL_SAMPLES, Assessment
from entropy.assess.windows import Windows
from entropy.health import INTERMITTENT_EXPONENT
from entropy.sources.base import Figures

# What the device, its driver or the kernel has hashed or encrypted before anybody can see it.
_CONDITIONED = {
    "hwrng": "Most devices behind /dev/hwrng condition what they give",
    "jitter": "The kernel conditions its jitter before it gives it",
    "kernel": "The kernel's generator is a cipher",
    "chaoskey": "A ChaosKey whitens what its cooked endpoint gives",
    "serial": "Serial generators whiten what they give unless their mode is raw",
}
_MAY_BE_RAW = ("chaoskey", "serial")  # if their URI says so


class Outcome(Enum):
    CONTRADICTED = "The declared credit is too high"
    SAYS_NOTHING = "These samples cannot speak for the source"
    NOT_CREDITED = "Nothing is credited, and nothing is contradicted"
    NOT_CONTRADICTED = "The samples do not contradict the declared credit"


class Verdict(NamedTuple):
    outcome: Outcome
    sentences: tuple[str, ...]
    remarks: tuple[str, ...]  # on these samples and figures


def at_most(bits: float) -> str:
    """A figure to claim no more than: rounded down."""
    return f"{math.floor(bits * 100) / 100:.2f}"


def _conditioned_by(uri: str) -> str | None:
    scheme, _, rest = uri.partition(":")
    if scheme in _MAY_BE_RAW and "=raw" in rest:
        return None
    return _CONDITIONED.get(scheme)


def judge(uri: str, figures: Figures, assessment: Assessment, windows: Windows) -> Verdict:
    """`uri`: of the source."""
    credit, assessed = figures.credit_bits_per_byte, at_most(assessment.assessed_bits)
    conditioned = _conditioned_by(uri)
    if assessment.assessed_bits < credit:
        outcome = Outcome.CONTRADICTED
        sentences = [
            f"By SP 800-90B no more than {assessed} bits of min-entropy may be claimed for a sample"
            f" like these; {credit:g} are declared.",
            f"Declare {assessed} at most, or find out what is wrong with the source, before it"
            " feeds a broker.",
        ]
        if credit > 7:
            sentences.append(
                "Even faultless noise scores no more than about 7.4 here: a credit above that"
                " cannot be supported by an assessment."
            )
    elif conditioned:
        outcome = Outcome.SAYS_NOTHING
        sentences = [
            f"{conditioned}: its output looks like this whether there is any noise behind it"
            " or none.",
            "Only a fault that conditioning does not hide would show in the figures below; they"
            " are no reason for any credit.",
        ]
    elif credit == 0:
        outcome = Outcome.NOT_CREDITED
        sentences = [
            f"By SP 800-90B no more than {assessed} bits of min-entropy may be claimed for a sample"
            " like these. That is an upper bound; no credit is declared.",
            "A credit needs a reason of its own: how the device works, and what its maker shows.",
        ]
    else:
        outcome = Outcome.NOT_CONTRADICTED
        sentences = [
            f"By SP 800-90B no more than {assessed} bits of min-entropy may be claimed for a sample"
            f" like these; {credit:g} are declared.",
            "That is all that these samples can say. The credit still rests on its reason"
            f' ("{figures.reason}").',
        ]
    return Verdict(outcome, tuple(sentences), tuple(_remarks(figures, assessment, windows)))


def _remarks(figures: Figures, assessment: Assessment, windows: Windows) -> list[str]:
    remarks = []
    n_windows, n_failures = len(windows.byte_repetition), len(windows.failures)
    test = figures.test_bits_per_byte
    if n_failures:
        remarks.append(
            f"{n_failures} of {n_windows} windows failed the health tests (cut for {test:g} bits"
            f" per byte, false alarms 2^-{INTERMITTENT_EXPONENT}). A feeder destroys what it"
            " holds and starts anew each time. The first said:"
            f" {windows.failures[0]}."
        )
    else:
        remarks.append(
            f"None of {n_windows} windows failed the health tests (cut for {test:g} bits per"
            f" byte, false alarms 2^-{INTERMITTENT_EXPONENT})."
        )
        if assessment.sample_bits == 8 and assessment.assessed_bits >= test + 1:
            remarks.append(
                f"The tests would be sharper if they were cut for more than {test:g} bits per"
                f" byte; the samples look like {at_most(assessment.assessed_bits)}."
            )
    if assessment.n_values == 1:
        remarks.append("All samples are equal.")
    if assessment.n_samples < FULL_SAMPLES:
        remarks.append(
            f"{assessment.n_samples:,} samples are fewer than the {FULL_SAMPLES:,} that the"
            " standard asks for: good noise scores lower with fewer."
        )
    if assessment.used_bits < assessment.sample_bits:
        remarks.append(
            f"No sample is wider than {assessment.used_bits} of {assessment.sample_bits} bits,"
            " and the empty ones lower the figures of the bitstring. If the samples are that"
            f" wide, assess them with --bits {assessment.used_bits}."
        )
    return remarks
