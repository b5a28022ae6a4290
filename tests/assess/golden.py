"""Inputs that anybody can make again, and what NIST's own tool says of them.

The figures are those of `ea_non_iid -i -a -v -v FILE BITS` of NIST's SP800-90B_EntropyAssessment,
for 1,000,000 samples each.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

N_SAMPLES = 1_000_000


def _stream(label: str) -> Iterator[bytes]:
    """SHA-256 of `label:0`, `label:1`, ..."""
    for n in itertools.count():
        yield hashlib.sha256(f"{label}:{n}".encode()).digest()


def _bytes(label: str, n_bytes: int) -> bytes:
    return b"".join(itertools.islice(_stream(label), -(-n_bytes // 32)))[:n_bytes]


def _u32(label: str) -> npt.NDArray[np.uint32]:
    return np.frombuffer(_bytes(label, 4 * N_SAMPLES), dtype=">u4")


def good8() -> bytes:
    return _bytes("good8", N_SAMPLES)


def biased60() -> bytes:
    return (_u32("biased60") < int(0.6 * 2**32)).tobytes()


def markov90() -> bytes:
    return np.logical_xor.accumulate(_u32("markov90") >= int(0.9 * 2**32)).tobytes()


def nibble4() -> bytes:
    return bytes(byte & 15 for byte in _bytes("nibble4", N_SAMPLES))


def counter8() -> bytes:
    return bytes(n & 255 for n in range(N_SAMPLES))


def heavy8() -> bytes:
    stream, threshold = itertools.chain.from_iterable(_stream("heavy8")), int(0.05 * 2**32)

    def heavy() -> bool:
        return int.from_bytes(itertools.islice(stream, 4), "big") < threshold

    return bytes(0x5A if heavy() else next(stream) for _ in range(N_SAMPLES))


SETS: dict[str, tuple[int, Callable[[], bytes], str]] = {
    "good8": (8, good8, "7aa66dcaf85ccd7e32d035ea05717e540e6e57c6b1f1e68b423f18e2134a5200"),
    "biased60": (1, biased60, "8ff47a089727ba934ab62b103c0fa7e0d324addca1ba8cbfd893c6ea9bbd2c38"),
    "markov90": (1, markov90, "bcda25f63e67c88c8aa118596b11a92c8f4c26f790bdd22fa4b52cf0736ec7e7"),
    "nibble4": (4, nibble4, "485729d32e008053a0c228699247595b2197d335492720841b05aa58749f50ae"),
    "counter8": (8, counter8, "67870dfc9c64e7aa270a3f7e8051ae65d207f93fc3df04d7572e6365af69cd0d"),
    "heavy8": (8, heavy8, "ef070ca7bb293c23052cdd584ed502ac29c8f4a7d730c9bb48e5e67f055149b8"),
}

_GOLDEN = """
Literal Most Common Value       7.887942 0.734237 0.993695 3.977505 7.941575 4.198697
Literal Collision               -        0.730647 0.077159 -        -        -
Literal Markov                  -        0.737817 0.15876  -        -        -
Literal Compression             -        0.526271 0.105454 -        -        -
Literal t-Tuple                 7.887942 0.726702 0.159676 3.687754 0.0      4.197396
Literal LRS                     7.940711 0.905743 0.283773 3.974354 0.0      7.243347
Literal MultiMCW                7.903625 0.734902 0.243696 3.986576 8.0      4.200418
Literal Lag                     7.970826 0.940378 0.151207 3.987102 8.0      7.244356
Literal MultiMMC                7.945922 0.734241 0.151209 3.986434 7e-06    4.219317
Literal LZ78Y                   7.945174 0.734243 0.15121  3.994383 7e-06    4.219296
Bitstring Most Common Value     0.998288 -        -        0.9977   0.998664 0.997546
Bitstring Collision             0.946331 -        -        0.938962 1.0      1.0
Bitstring Markov                0.999789 -        -        0.999585 0.999965 0.956594
Bitstring Compression           0.930694 -        -        0.864653 0.68797  0.81332
Bitstring t-Tuple               0.927497 -        -        0.927241 0.0      0.654092
Bitstring LRS                   0.998085 -        -        0.998058 0.0      0.972872
Bitstring MultiMCW              0.998892 -        -        0.997495 0.823914 0.999791
Bitstring Lag                   0.998633 -        -        0.998922 0.384622 0.888997
Bitstring MultiMMC              0.998579 -        -        0.998153 0.005232 0.861042
Bitstring LZ78Y                 0.998342 -        -        0.998225 1.0      0.954991
H_original                      7.887942 0.526271 0.077159 3.687754 0.0      4.197396
H_bitstring                     0.927497 -        -        0.864653 0.0      0.654092
assessed                        7.419976 0.526271 0.077159 3.45861  0.0      4.197396
"""


def figures(name: str) -> dict[str, float | None]:
    """What NIST's tool says of one set, in bits; None where it makes no estimate."""
    column = list(SETS).index(name)
    found = {}
    for line in _GOLDEN.strip().splitlines():
        *words, _, _, _, _, _, _ = line.split()
        cell = line.split()[len(words) + column]
        found[" ".join(words)] = None if cell == "-" else float(cell)
    return found
