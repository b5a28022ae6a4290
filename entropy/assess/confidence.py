"""From a proportion that was observed to a bound on min-entropy, as all estimators do it."""

from __future__ import annotations

import math

# The 99.5 % point of the normal distribution: SP 800-90B bounds proportions at 99 %, two-sided.
Z_ALPHA = 2.5758293035489008


def upper_bound(proportion: float, n_trials: int) -> float:
    """The upper end of the 99 % confidence interval of a proportion among so many, at most 1."""
    spread = math.sqrt(proportion * (1 - proportion) / (n_trials - 1))
    return min(1.0, proportion + Z_ALPHA * spread)


def min_entropy_bits(probability: float) -> float:
    """Of a symbol whose likeliest value has this probability."""
    return -math.log2(probability) if probability < 1 else 0.0
