"""What the broker remembers of each id: limits in use, the place in the queue, counts.

Records exist for ids of the access list only, and each is of bounded size.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from ipaddress import ip_address, ip_network

from entropy.broker.draws import WaitingDraw
from entropy.broker.limits import TokenBucket
from entropy.config import LimitsConfig
from entropy.credentials import AclEntry
from entropy.reservoir import BLOCK_BITS

LATE_LOGINS = 16  # a login may be overtaken by so many others of its machine, less one,
LATE_SECONDS = 30.0  # and by so much: TLS and proof may take 10 s each
_SEEN_MASK = (1 << LATE_LOGINS) - 1
_EARLIER_BOOTS = 8
_OUTSIDE_ADDRESSES = 4


class IdRecord:
    """One id. Times ending in _unix are the wall clock's, the others the monotonic one's."""

    __slots__ = (
        "_boot_id",
        "_counted_seconds",
        "_counter",
        "_earlier_boot_ids",
        "_seen",
        "bytes_bucket",
        "credit_bucket",
        "delivered_bits",
        "delivered_bytes",
        "drawing",
        "draws",
        "fed_bits",
        "finish_tag",
        "id",
        "last_credit_bits",
        "last_draw_unix",
        "last_feed_seconds",
        "last_feed_unix",
        "last_key_id",
        "last_kind",
        "lost_bits",
        "next_seed_seconds",
        "outside_addresses",
        "outside_logins",
        "recalled_bits",
        "sessions",
    )

    def __init__(
        self, name: str, entry: AclEntry, limits: LimitsConfig, now_seconds: float
    ) -> None:
        self.id = name
        self.sessions = 0
        self.last_key_id = b""
        # Logins from where the access list does not expect it, and from where lately.
        self.outside_logins = 0
        self.outside_addresses: deque[str] = deque(maxlen=_OUTSIDE_ADDRESSES)
        # Draws
        self.bytes_bucket = TokenBucket(*rate_and_burst(entry, limits), now_seconds)
        self.drawing: WaitingDraw | None = None
        self.finish_tag = 0
        self.next_seed_seconds = 0.0
        self.draws = 0
        self.delivered_bytes = 0
        self.delivered_bits = 0
        self.last_draw_unix: float | None = None
        self.last_credit_bits = 0
        self.last_kind = ""
        # Feeds
        self.credit_bucket = TokenBucket(*credit_and_burst(entry, limits), now_seconds)
        self.fed_bits = 0
        self.lost_bits = 0
        self.recalled_bits = 0
        self.last_feed_unix: float | None = None
        self.last_feed_seconds = float("-inf")
        # Signs of a clone
        self._boot_id = b""
        self._counter = -1
        self._seen = 0  # bit n: counter - n has come
        self._counted_seconds = 0.0  # when the counter came
        self._earlier_boot_ids: deque[bytes] = deque(maxlen=_EARLIER_BOOTS)

    def change_limits(self, entry: AclEntry, limits: LimitsConfig, now_seconds: float) -> None:
        self.bytes_bucket.change(*rate_and_burst(entry, limits), now_seconds)
        self.credit_bucket.change(*credit_and_burst(entry, limits), now_seconds)

    def note_address(self, entry: AclEntry, address: str) -> str | None:
        """Remember where a login came from. Says what is odd about it, once for each address."""
        if not entry.addresses or _is_in(address, entry.addresses):
            return None
        self.outside_logins += 1
        if address in self.outside_addresses:
            return None
        self.outside_addresses.append(address)
        return f"it came from {address}, which is none of its addresses"

    def note_boot(self, boot_id: bytes, counter: int, now_seconds: float) -> str | None:
        """Remember a login. Says what is wrong if a clone or an old snapshot seems to be in use.

        Two processes of one machine (its client, and somebody's `entropy draw`) take their numbers
        in order and may arrive in any: a number is good if it is new, and little below the last.
        """
        if boot_id == self._boot_id:
            return self._note_counter(counter, now_seconds)
        earlier = boot_id in self._earlier_boot_ids
        if earlier:
            self._earlier_boot_ids.remove(boot_id)
        if self._boot_id:
            self._earlier_boot_ids.append(self._boot_id)
        self._boot_id, self._counter, self._seen = boot_id, counter, 1
        self._counted_seconds = now_seconds
        return "it came back with the boot id of an earlier boot" if earlier else None

    def _note_counter(self, counter: int, now_seconds: float) -> str | None:
        """As IPsec's anti-replay window (RFC 4303, section 3.4.3), and only for a short time."""
        before = self._counter
        ahead = counter - before
        if ahead > 0:
            self._seen = (self._seen << min(ahead, LATE_LOGINS) | 1) & _SEEN_MASK
            self._counter, self._counted_seconds = counter, now_seconds
            return None
        bit = 1 << min(-ahead, LATE_LOGINS)
        in_time = now_seconds - self._counted_seconds <= LATE_SECONDS
        if -ahead < LATE_LOGINS and in_time and not self._seen & bit:
            self._seen |= bit
            return None
        return f"its counter went from {before} to {counter} within one boot"


def _is_in(address: str, networks: Iterable[str]) -> bool:
    """Whether an address is in one of the networks. An IPv4 address in IPv6's clothes is IPv4."""
    try:
        found = ip_address(address)
    except ValueError:  # not over IP
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    return any((mapped or found) in ip_network(network) for network in networks)


def rate_and_burst(entry: AclEntry, limits: LimitsConfig) -> tuple[int, int]:
    """Bytes per second and at once that this credential may draw."""
    rate, burst = entry.rate_bytes_per_second, entry.burst_bytes
    return (
        limits.rate_bytes_per_second if rate is None else rate,
        limits.burst_bytes if burst is None else burst,
    )


def credit_and_burst(entry: AclEntry, limits: LimitsConfig) -> tuple[int, int]:
    """Bits per second that this feeder may claim; at once one second's, at least one block's."""
    rate = entry.credit_bits_per_second
    rate = limits.credit_bits_per_second if rate is None else rate
    return rate, max(rate, BLOCK_BITS) if rate else 0


class Ids:
    """The records by id."""

    def __init__(self, limits: LimitsConfig) -> None:
        self._limits = limits
        self._records: dict[str, IdRecord] = {}

    def __iter__(self) -> Iterator[IdRecord]:
        return iter(self._records.values())

    def find(self, name: str) -> IdRecord | None:
        return self._records.get(name)

    def login(self, entry: AclEntry, now_seconds: float) -> IdRecord:
        """The record of an id that has proved itself, with the limits of the key it used."""
        record = self._records.get(entry.id)
        if record is None:
            record = IdRecord(entry.id, entry, self._limits, now_seconds)
            self._records[entry.id] = record
        else:
            record.change_limits(entry, self._limits, now_seconds)
        record.last_key_id = entry.key_id
        return record

    def keep_only(self, names: Iterable[str]) -> None:
        """Forget the ids that have left the access list."""
        kept = set(names)
        for name in [name for name in self._records if name not in kept]:
            del self._records[name]
