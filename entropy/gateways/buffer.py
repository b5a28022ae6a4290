"""The bytes that a gateway has drawn and not yet handed out. In memory only.

A reply of 64 bytes is worth 448 bits at most: the broker says how many. The gateways' protocols
cannot say that on, and their readers count 8 bits for each byte. So only the first credit / 8
bytes of a reply are kept. A reply is the output of a keyed hash, and any part of such an output
holds as much as its length or its input allow: what is handed out is worth 8 bits for each byte.

    drawn = held + handed out + surplus + destroyed          (bytes)
"""

from __future__ import annotations


class Buffer:
    """The only place that holds them. Each byte leaves once, and is erased before it does."""

    def __init__(self, capacity_bytes: int) -> None:
        self.capacity_bytes = capacity_bytes
        self._held = bytearray()
        self.drawn_bytes = 0
        self.drawn_bits = 0  # what the broker said that they are worth
        self.handed_out_bytes = 0
        self.surplus_bytes = 0  # of replies, what was there beyond their worth
        self.destroyed_bytes = 0

    def __len__(self) -> int:
        return len(self._held)

    @property
    def has_room(self) -> bool:
        """Whether another reply should be drawn."""
        return len(self._held) < self.capacity_bytes

    def add(self, data: bytes, credit_bits: int) -> int:
        """A reply came. Returns how many bytes of it are kept."""
        n_bytes = min(len(data), max(0, credit_bits) // 8)
        self._held += data[:n_bytes]
        self.drawn_bytes += len(data)
        self.drawn_bits += credit_bits
        self.surplus_bytes += len(data) - n_bytes
        return n_bytes

    def take(self, n_bytes: int) -> bytes:
        """Up to `n_bytes` of the oldest bytes, for one reader. They are here no more."""
        data = bytes(self._held[:n_bytes])
        self._held[: len(data)] = bytes(len(data))
        del self._held[: len(data)]
        self.handed_out_bytes += len(data)
        return data

    def destroy(self) -> int:
        """Erase all. Returns how many bytes."""
        n_bytes = len(self._held)
        self._held[:] = bytes(n_bytes)
        self._held.clear()
        self.destroyed_bytes += n_bytes
        return n_bytes
