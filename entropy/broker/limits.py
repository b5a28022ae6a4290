"""Token buckets: so much at once, so much per second. The caller says what time it is."""

from __future__ import annotations


class TokenBucket:
    """Starts full. Amounts are whole tokens (bytes or bits); times are seconds of one clock."""

    __slots__ = ("_at_seconds", "_tokens", "burst", "rate_per_second")

    def __init__(self, rate_per_second: int, burst: int, now_seconds: float) -> None:
        self.rate_per_second = rate_per_second
        self.burst = burst
        self._tokens = float(burst)
        self._at_seconds = now_seconds

    def change(self, rate_per_second: int, burst: int, now_seconds: float) -> None:
        """Go on with other limits: what was taken stays taken."""
        self._refill(now_seconds)
        taken = self.burst - self._tokens
        self.rate_per_second, self.burst = rate_per_second, burst
        self._tokens = burst - taken

    def available(self, now_seconds: float) -> int:
        """The tokens that can be taken now."""
        self._refill(now_seconds)
        return max(0, int(self._tokens + _ROUNDING))

    def wait_seconds(self, n: int, now_seconds: float) -> float:
        """How long until n (at most the burst) can be taken; 0.0 if now. Inf if never."""
        self._refill(now_seconds)
        missing = n - self._tokens
        if missing <= _ROUNDING:
            return 0.0
        if n > self.burst or self.rate_per_second == 0:
            return float("inf")
        return missing / self.rate_per_second

    def take(self, n: int, now_seconds: float) -> None:
        """Take n, even into debt: the caller has asked before."""
        self._refill(now_seconds)
        self._tokens -= n

    def _refill(self, now_seconds: float) -> None:
        passed = max(0.0, now_seconds - self._at_seconds)
        self._tokens = min(float(self.burst), self._tokens + passed * self.rate_per_second)
        self._at_seconds = now_seconds


_ROUNDING = 1e-6  # tokens; sums of fractions must not make a caller wait for a billionth of one
