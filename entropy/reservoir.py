"""The only owner of blocks: what feeders and peers brought in, what each reply costs.

A block is 64 bytes and the credit that its bringer gave it, in bits of min-entropy. It is used
once: its bytes are overwritten here before `take` returns what was made of them. Nothing is
written to disk.

Output. Piece j of a reply is

    out_j = HMAC-SHA-512(K, LP("out", broker id, epoch, serial, j, session, client id,
                               origins, 64 bytes of the broker's kernel, block))

cut to the bytes asked for. K is 64 bytes of the kernel at start, and after every use

    K := HMAC-SHA-512(K, LP("ratchet", those 64 bytes of the kernel))

LP writes each field as its length (32 bits, big-endian) and then the field, so that no two lists
of fields give the same bytes. serial is 64 bits and j 32 bits, big-endian; origins is one field
that holds LP of the sorted ids; "session" is what the caller says is unlike any other session. A
feeder that lies, or a kernel that is weak, cannot alone decide the output, and two replies differ
even when kernel and block repeat. tests/reservoir_vectors.json has a worked example.

Credit. A block of c bits pays HASH_COST_BITS for its conditioning, and a piece of n bytes is
worth min(8 n, c - HASH_COST_BITS) bits. What the block had beyond that is spent with it. In
whole bits, always:

    fed + imported = held + delivered + exported + spent + lost

"fed" and "imported" are what was claimed; what of it was not credited (over the feeder's cap, or
no room) is lost at once. "delivered" and "exported" mean handed to the transport: what the
network loses after that is lost to the fleet, but not to this account.

Order. The oldest block goes first: that leaves a feeder the longest time to recall a young one.
An imported block is preferred where it covers the piece as well as a native one would (a top-up
of 32 bytes), since only native blocks may be exported and they alone give 64 bytes their full
448 bits. Imported blocks are never exported.

Time, randomness and what ids mean are the caller's.
"""

from __future__ import annotations

import hmac
import struct
from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from typing import Callable, NamedTuple

BLOCK_BYTES = 64
BLOCK_BITS = 512  # the most credit that a block can carry
HASH_COST_BITS = 64  # spent each time that a block is conditioned
IMPORTED_BITS = BLOCK_BITS - HASH_COST_BITS  # the most that 64 bytes from a peer are worth
MAX_ORIGINS = 16  # the most that one reply names
_ZEROS = bytes(BLOCK_BYTES)


class Accounting(NamedTuple):
    """Where each bit of credit is; see the module's sum."""

    fed_bits: int
    imported_bits: int
    held_bits: int
    delivered_bits: int
    exported_bits: int
    spent_bits: int
    lost_bits: int


class Added(NamedTuple):
    """What became of blocks that were brought in."""

    credited_bits: int  # held now
    lost_bits: int  # claimed, but over the cap, or there was no room
    held_blocks: int
    stirred_blocks: int  # hashed into K and destroyed


class Recalled(NamedTuple):
    n_blocks: int
    n_bits: int


class Output(NamedTuple):
    """One reply. Its repr hides the bytes."""

    serial: int
    credit_bits: int
    origins: tuple[str, ...]
    data: bytes

    def __repr__(self) -> str:
        return f"Output(serial={self.serial}, {len(self.data)} bytes, {self.credit_bits} bits)"


class _Block:
    __slots__ = ("credit_bits", "data", "number", "origins", "sequence", "session")

    def __init__(self, data: bytes, credit_bits: int, origins: tuple[str, ...]) -> None:
        self.data = bytearray(data)
        self.credit_bits = credit_bits
        self.origins = origins
        self.number = -1  # of native blocks: its place in the order of arrival
        self.session = -1
        self.sequence = -1

    def worth_bits(self, n_bytes: int) -> int:
        """What n_bytes made of this block are worth."""
        return min(8 * n_bytes, self.credit_bits - HASH_COST_BITS)


def length_prefixed(*fields: bytes) -> bytes:
    """Each field after its length in 32 bits, big-endian: no two lists of fields collide."""
    return b"".join([len(field).to_bytes(4, "big") + field for field in fields])


class Reservoir:
    """Blocks in, keyed hashes of them out.

    kernel_bytes(n) gives n bytes of the kernel's generator. capacity_blocks bounds what is held;
    export_above_blocks is how many native blocks stay here whatever a peer asks for.
    """

    def __init__(
        self,
        *,
        broker_id: str,
        epoch: bytes,
        capacity_blocks: int,
        export_above_blocks: int,
        kernel_bytes: Callable[[int], bytes],
    ) -> None:
        self.capacity_blocks = capacity_blocks
        self.export_above_blocks = export_above_blocks
        self._broker_id = broker_id.encode()
        self._here = length_prefixed(self._broker_id, epoch)
        self._kernel_bytes = kernel_bytes
        self._key = bytearray(kernel_bytes(BLOCK_BYTES))
        # Ordered dictionaries give up their oldest, and any other entry, in constant time.
        self._native: OrderedDict[int, _Block] = OrderedDict()
        self._imported: deque[_Block] = deque()
        # For a recall: the blocks of each session that are still held, in order of sequence.
        self._sessions: dict[int, deque[_Block]] = {}
        self._n_added = 0
        self._serial = 0
        self._fed_bits = self._imported_bits = self._held_bits = 0
        self._delivered_bits = self._exported_bits = self._spent_bits = self._lost_bits = 0

    @property
    def held_blocks(self) -> int:
        return len(self._native) + len(self._imported)

    @property
    def imported_blocks(self) -> int:
        return len(self._imported)

    @property
    def exportable_blocks(self) -> int:
        return max(0, len(self._native) - self.export_above_blocks)

    def accounting(self) -> Accounting:
        return Accounting(
            self._fed_bits,
            self._imported_bits,
            self._held_bits,
            self._delivered_bits,
            self._exported_bits,
            self._spent_bits,
            self._lost_bits,
        )

    # What comes in

    def add(
        self,
        blocks: Sequence[bytes],
        *,
        claimed_bits: int,
        allowed_bits: int,
        origin: str,
        session: int,
        sequence: int,
    ) -> Added:
        """Take a feeder's blocks of 64 bytes in; the first is number `sequence` of its session.

        The claim is for all blocks together and counts evenly over them, since nobody said that
        one is better; at most allowed_bits of it are credited. A block that finds no room, or
        whose credit would not pay for its own conditioning, is stirred into K and its credit lost.
        Raises ValueError, with nothing changed, if a block has another size, the claim is more
        than 512 bits for each block, or the sequence is not above those that are still held.
        """
        n_blocks = len(blocks)
        if any(len(block) != BLOCK_BYTES for block in blocks):
            raise ValueError(f"a block is {BLOCK_BYTES} bytes")
        if not 0 <= claimed_bits <= BLOCK_BITS * n_blocks:
            raise ValueError(f"{claimed_bits} bits are claimed for {n_blocks} blocks of 512 bits")
        queue = self._sessions.get(session)
        if queue and sequence <= queue[-1].sequence:
            raise ValueError(f"block {sequence} is not newer than {queue[-1].sequence}")
        self._fed_bits += claimed_bits
        each_bits, more = divmod(claimed_bits, max(1, n_blocks))
        credited_bits = held = 0
        for i, data in enumerate(blocks):
            credit_bits = min(each_bits + (i < more), max(0, allowed_bits - credited_bits))
            if credit_bits <= HASH_COST_BITS or self.held_blocks >= self.capacity_blocks:
                self.stir(data)
                continue
            block = _Block(data, credit_bits, (origin,))
            block.number, block.session, block.sequence = self._n_added, session, sequence + i
            self._n_added += 1
            self._native[block.number] = block
            self._sessions.setdefault(session, deque()).append(block)
            held += 1
            credited_bits += credit_bits
        self._held_bits += credited_bits
        self._lost_bits += claimed_bits - credited_bits
        return Added(credited_bits, claimed_bits - credited_bits, held, n_blocks - held)

    def add_imported(self, data: bytes, *, claimed_bits: int, origins: Sequence[str]) -> Added:
        """Take in a peer's reply: a block for each 64 bytes, worth 448 bits at most.

        Every block keeps all origins of the reply. A rest of fewer than 64 bytes is stirred in.
        Raises ValueError, with nothing changed, if more is claimed than 8 bits for each byte.
        """
        if not 0 <= claimed_bits <= 8 * len(data):
            raise ValueError(f"{claimed_bits} bits are claimed for {len(data)} bytes")
        self._imported_bits += claimed_bits
        n_blocks = len(data) // BLOCK_BYTES
        each_bits = min(IMPORTED_BITS, claimed_bits // max(1, n_blocks))
        held = 0
        for start in range(0, len(data), BLOCK_BYTES):
            piece = data[start : start + BLOCK_BYTES]
            full = self.held_blocks >= self.capacity_blocks
            if len(piece) < BLOCK_BYTES or each_bits <= HASH_COST_BITS or full:
                self.stir(piece)
                continue
            self._imported.append(_Block(piece, each_bits, tuple(origins)))
            held += 1
        credited_bits = held * each_bits
        self._held_bits += credited_bits
        self._lost_bits += claimed_bits - credited_bits
        return Added(credited_bits, claimed_bits - credited_bits, held, n_blocks - held)

    def recall(self, session: int, sequence: int) -> Recalled:
        """Destroy what is still held of a session's blocks from number `sequence` on."""
        queue = self._sessions.get(session)
        n_blocks = n_bits = 0
        while queue and queue[-1].sequence >= sequence:
            block = queue.pop()
            del self._native[block.number]
            block.data[:] = _ZEROS
            n_blocks += 1
            n_bits += block.credit_bits
        if queue is not None and not queue:
            del self._sessions[session]
        self._held_bits -= n_bits
        self._lost_bits += n_bits
        return Recalled(n_blocks, n_bits)

    def forget_session(self, session: int) -> None:
        """The session has ended: its blocks stay, and can be recalled no more."""
        self._sessions.pop(session, None)

    def stir(self, data: bytes) -> None:
        """Hash bytes that earn no credit into K."""
        self._key[:] = hmac.digest(self._key, length_prefixed(b"stir", data), "sha512")

    def destroy_all(self) -> None:
        """Overwrite every block (lost); take a new K from the kernel."""
        for block in (*self._native.values(), *self._imported):
            block.data[:] = _ZEROS
        self._native.clear()
        self._imported.clear()
        self._sessions.clear()
        self._lost_bits += self._held_bits
        self._held_bits = 0
        self._key[:] = self._kernel_bytes(BLOCK_BYTES)

    def begin_anew(self, epoch: bytes, fresh: bytes) -> None:
        """destroy_all on a machine that was copied: another epoch, and K from `fresh` as well."""
        self.destroy_all()
        self._here = length_prefixed(self._broker_id, epoch)
        self.stir(fresh)

    # What goes out

    def take(
        self, n_bytes: int, *, client_id: str, session: bytes, at_most_blocks: int | None = None
    ) -> Output | None:
        """Answer a client's draw; None if nothing is held.

        One block for each 64 bytes. Fewer bytes than asked for if there are fewer blocks than
        that, if at_most_blocks says so, or if the reply would name more than 16 origins.
        """
        chosen: list[_Block] = []
        origins: set[str] = set()
        while n_bytes > BLOCK_BYTES * len(chosen) and len(chosen) != at_most_blocks:
            block = self._first(min(BLOCK_BYTES, n_bytes - BLOCK_BYTES * len(chosen)))
            if block is None or len(origins.union(block.origins)) > MAX_ORIGINS:
                break
            origins.update(block.origins)
            self._remove(block)
            chosen.append(block)
        output = self._output(chosen, n_bytes, origins, client_id, session) if chosen else None
        self._delivered_bits += output.credit_bits if output else 0
        return output

    def take_for_peer(self, n_bytes: int, *, peer_id: str, session: bytes) -> Output | None:
        """Answer a peer's draw out of native blocks; None if none can be spared.

        All pieces of one reply are worth the same, so that the peer, who is told the sum, credits
        each with its own worth: the reply ends before a block for which that is not so.
        """
        chosen: list[_Block] = []
        origins: set[str] = set()
        while n_bytes > BLOCK_BYTES * len(chosen) and self.exportable_blocks:
            block = next(iter(self._native.values()))
            piece_bytes = min(BLOCK_BYTES, n_bytes - BLOCK_BYTES * len(chosen))
            if len(origins.union(block.origins)) > MAX_ORIGINS:
                break
            if chosen and block.worth_bits(piece_bytes) != chosen[0].worth_bits(BLOCK_BYTES):
                break
            origins.update(block.origins)
            self._remove(block)
            chosen.append(block)
        output = self._output(chosen, n_bytes, origins, peer_id, session) if chosen else None
        self._exported_bits += output.credit_bits if output else 0
        return output

    def uncredited(self, n_bytes: int, *, client_id: str, session: bytes) -> Output:
        """At most 64 bytes worth 0 bits, for a seed that waited in vain: twins still diverge.

        HMAC-SHA-512(K, LP("uncredited", broker id, epoch, serial, session, client id, 64 bytes
        of the kernel)); K is ratcheted as after any other use.
        """
        self._serial += 1
        kernel = self._kernel_bytes(BLOCK_BYTES)
        serial = struct.pack("!Q", self._serial)
        message = length_prefixed(b"uncredited") + self._here
        message += length_prefixed(serial, session, client_id.encode(), kernel)
        data = hmac.digest(self._key, message, "sha512")[: min(n_bytes, BLOCK_BYTES)]
        self._ratchet(kernel)
        return Output(self._serial, 0, (), data)

    def _first(self, n_bytes: int) -> _Block | None:
        """The block that a piece of n_bytes is made of; see "Order" above."""
        if self._imported:
            imported = self._imported[0]
            if not self._native or imported.worth_bits(n_bytes) == 8 * n_bytes:
                return imported
        return next(iter(self._native.values()), None)

    def _remove(self, block: _Block) -> None:
        """Take the oldest block of its kind out of what is held."""
        if block.number < 0:
            self._imported.popleft()
        else:
            del self._native[block.number]
            queue = self._sessions.get(block.session)
            if queue:
                queue.popleft()  # the oldest of all is the oldest of its session
                if not queue:
                    del self._sessions[block.session]
        self._held_bits -= block.credit_bits

    def _output(
        self,
        blocks: Sequence[_Block],
        n_bytes: int,
        origins: Iterable[str],
        client_id: str,
        session: bytes,
    ) -> Output:
        """Condition the blocks into one reply and destroy them."""
        self._serial += 1
        kernel_bytes = self._kernel_bytes(BLOCK_BYTES * len(blocks))
        serial = struct.pack("!Q", self._serial)
        before_j = length_prefixed(b"out") + self._here + length_prefixed(serial)
        after_j = length_prefixed(session, client_id.encode())
        pieces: list[bytes] = []
        credit_bits = 0
        for j, block in enumerate(blocks):
            kernel = kernel_bytes[BLOCK_BYTES * j : BLOCK_BYTES * (j + 1)]
            piece_bytes = min(BLOCK_BYTES, n_bytes - BLOCK_BYTES * j)
            named = length_prefixed(*[origin.encode() for origin in sorted(block.origins)])
            message = bytearray(before_j + length_prefixed(struct.pack("!I", j)) + after_j)
            message += length_prefixed(named, kernel) + struct.pack("!I", BLOCK_BYTES)
            message += block.data  # last, so that it can be overwritten there
            pieces.append(hmac.digest(self._key, message, "sha512")[:piece_bytes])
            message[-BLOCK_BYTES:] = _ZEROS
            block.data[:] = _ZEROS
            self._ratchet(kernel)
            worth_bits = block.worth_bits(piece_bytes)
            credit_bits += worth_bits
            self._spent_bits += block.credit_bits - worth_bits
        return Output(self._serial, credit_bits, tuple(sorted(origins)), b"".join(pieces))

    def _ratchet(self, kernel: bytes) -> None:
        self._key[:] = hmac.digest(self._key, length_prefixed(b"ratchet", kernel), "sha512")
