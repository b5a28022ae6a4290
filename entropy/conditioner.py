"""Raw samples in, full-entropy blocks out.

The conditioning function is SHA-512, vetted by NIST SP 800-90B section 3.1.5.1.1. Its 512 bits
of output have full entropy when what goes in holds 64 bits more than that (SP 800-90C): each
block of 64 bytes therefore costs 576 bits of credited min-entropy, and is worth 512.

Each raw byte goes into one block. A block whose last byte carries it over 576 bits keeps the
surplus; the next one starts from nothing.
"""

from __future__ import annotations

import hashlib
from fractions import Fraction

from entropy.errors import ConfigError

BLOCK_BYTES = 64
BLOCK_BITS = 8 * BLOCK_BYTES
HASH_COST_BITS = 64
COST_BITS = BLOCK_BITS + HASH_COST_BITS

_PREFIX = b"entropy/1 conditioner\x00"


def raw_bytes_per_block(credit_bits_per_byte: float) -> int:
    """How many raw bytes hold 576 bits, rounded up. Raises ConfigError for a credit of 0."""
    if not 0 < credit_bits_per_byte <= 8:
        raise ConfigError(
            f"a source with a credit of {credit_bits_per_byte:g} bits per byte fills no block:"
            " above 0 and at most 8 is needed"
        )
    return -(-COST_BITS // Fraction(credit_bits_per_byte))


class Conditioner:
    """Collects raw bytes that passed their tests and hashes them into blocks."""

    def __init__(self, credit_bits_per_byte: float) -> None:
        self.raw_bytes_per_block = raw_bytes_per_block(credit_bits_per_byte)
        self._samples = bytearray()

    @property
    def held_bytes(self) -> int:
        """Raw bytes that wait for the rest of their block."""
        return len(self._samples)

    def push(self, samples: bytes) -> list[bytearray]:
        """Add tested samples; return the blocks that are now complete, 64 bytes each.

        They are bytearrays, so that whoever destroys one can overwrite it.
        """
        self._samples += samples
        blocks = []
        while len(self._samples) >= self.raw_bytes_per_block:
            digest = hashlib.sha512(_PREFIX)
            with memoryview(self._samples)[: self.raw_bytes_per_block] as raw:
                digest.update(raw)
                raw[:] = bytes(len(raw))
            del self._samples[: self.raw_bytes_per_block]
            blocks.append(bytearray(digest.digest()))
        return blocks

    def destroy(self) -> int:
        """Overwrite and forget the samples of the block in the making. Returns how many bytes."""
        n_destroyed = len(self._samples)
        self._samples[:] = bytes(n_destroyed)
        self._samples.clear()
        return n_destroyed
