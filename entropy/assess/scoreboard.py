"""How SP 800-90B judges predictors (sections 6.3.7 to 6.3.10): who is believed, and what hits mean.

Several simple predictors guess every symbol. The guess of the one with the best score so far
counts; then the scores are brought up to date.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from entropy.assess.confidence import min_entropy_bits, upper_bound

Hits = npt.NDArray[np.bool_]


class Scoreboard:
    """Scores of `n_predictors`; takes their hits in blocks, in the order of time."""

    def __init__(self, n_predictors: int) -> None:
        self._scores = np.zeros(n_predictors, dtype=np.int32)
        self._best = 0  # the predictor that is believed
        self._numbers = np.arange(1, n_predictors + 1, dtype=np.int16)[:, np.newaxis]

    def believed(self, hits: Hits) -> npt.NDArray[np.int64]:
        """Who is believed at each step. `hits`: predictors x steps, whether each guessed right.

        After each hit a predictor takes over when its score is no less than the best one's. The
        best has always the highest score, so after a step it is the last of those that hit and
        have the highest score now, and the old one when there is none.
        """
        scores = np.cumsum(hits, axis=1, dtype=np.int32)
        scores += self._scores[:, np.newaxis]
        takes_over = hits & (scores == scores.max(axis=0))
        last = (takes_over * self._numbers).max(axis=0)  # 0: nobody

        n_steps = hits.shape[1]
        steps = np.arange(1, n_steps + 1)
        since = np.maximum.accumulate(np.where(last > 0, steps, 0))
        after = np.where(since > 0, last[since - 1].astype(np.int64) - 1, self._best)
        before = np.concatenate(([self._best], after[:-1]))
        self._scores = scores[:, -1].copy()
        self._best = int(after[-1])
        return before


def longest_run(right: Hits) -> int:
    """The most right guesses in a row."""
    wrong = np.flatnonzero(~right)
    edges = np.concatenate(([-1], wrong, [len(right)]))
    return int(np.diff(edges).max()) - 1


def prediction_estimate(n_right: int, n_guesses: int, run: int, n_values: int) -> float:
    """Min-entropy in bits per symbol, from how many guesses were right and the longest `run`.

    The larger of two probabilities counts, and 1 / n_values at least: that of a right guess
    anywhere (its 99 % bound), and the one for which so long a run is no more likely than 1 %.
    """
    if n_right:
        probability = upper_bound(n_right / n_guesses, n_guesses)
    else:
        probability = 1 - 0.01 ** (1 / n_guesses)
    probability = max(probability, 1 / n_values)
    if probability < 1 and _log_no_run(probability, run + 1, n_guesses) > _LOG_99_PERCENT:
        low, high = probability, 1.0  # runs are likelier when guesses are
        for _ in range(50):
            middle = (low + high) / 2
            if _log_no_run(middle, run + 1, n_guesses) > _LOG_99_PERCENT:
                low = middle
            else:
                high = middle
        probability = (low + high) / 2
    return min_entropy_bits(probability)


_LOG_99_PERCENT = math.log(0.99)


def _log_no_run(p: float, run: int, n_guesses: int) -> float:
    """The logarithm of the probability that `n_guesses`, each right with probability p, hold no
    `run` of right ones (Feller, volume 1, XIII.7).
    """
    q = 1 - p
    root, last = 1.0, 0.0
    for _ in range(66):
        if root - last <= 1e-18:
            break
        last = root
        root = 1 + q * p**run * root ** (run + 1)
    inside = 1 - p * root
    if inside <= 0:
        return -math.inf
    return (
        math.log(inside) - math.log((run + 1 - run * root) * q) - (n_guesses + 1) * math.log(root)
    )
