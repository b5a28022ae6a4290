"""How many bytes may go now: so many per second in the long run, a burst at once. No clock."""

from __future__ import annotations


class Allowance:
    """A token bucket, full at the start. Time is handed in, in seconds of any clock."""

    def __init__(self, rate_bytes_per_second: float, burst_bytes: int, now_seconds: float) -> None:
        self._rate = rate_bytes_per_second
        self._burst_bytes = float(burst_bytes)
        self._bytes = self._burst_bytes
        self._at_seconds = now_seconds

    def available_bytes(self, now_seconds: float) -> int:
        passed_seconds = max(0.0, now_seconds - self._at_seconds)
        self._bytes = min(self._burst_bytes, self._bytes + passed_seconds * self._rate)
        self._at_seconds = now_seconds
        return int(self._bytes)

    def take(self, n_bytes: int) -> None:
        """They have gone; `available_bytes` said that they might."""
        self._bytes -= n_bytes

    def wait_seconds(self, n_bytes: int) -> float:
        """From the last look on, how long until so many (at most the burst) may go."""
        return max(0.0, (min(n_bytes, self._burst_bytes) - self._bytes) / self._rate)
