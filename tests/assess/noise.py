"""Small sets of samples with a character of their own, the same each time."""

from __future__ import annotations

import numpy as np

from entropy.assess.counting import Symbols


def draw(kind: str, n: int, seed: int = 1) -> Symbols:
    random = np.random.default_rng(seed)
    uniform = random.random(n)
    if kind == "bits":
        return (uniform < 0.5).astype(np.uint8)
    if kind == "biased bits":
        return (uniform < 0.7).astype(np.uint8)
    if kind == "sticky bits":
        return np.logical_xor.accumulate(uniform < 0.1).astype(np.uint8)
    if kind == "bytes":
        return random.integers(0, 256, n).astype(np.uint8)
    if kind == "nibbles":
        return random.integers(0, 16, n).astype(np.uint8)
    if kind == "heavy bytes":
        return np.where(uniform < 0.2, 90, random.integers(0, 256, n)).astype(np.uint8)
    if kind == "three":
        return np.searchsorted([0.6, 0.9], uniform).astype(np.uint8)
    if kind == "period":
        return np.resize(random.integers(0, 256, 300), n).astype(np.uint8)
    if kind == "walk":
        return (np.cumsum(random.integers(-1, 2, n)) % 8).astype(np.uint8)
    raise ValueError(kind)


BITS = ("bits", "biased bits", "sticky bits")
OTHERS = ("bytes", "nibbles", "heavy bytes", "three", "period", "walk")
