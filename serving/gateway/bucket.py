"""A token bucket: so many requests at once, so many per second in the long run. Time is an argument."""

from __future__ import annotations


class Bucket:
    """Holds up to `burst` tokens and gets `rate` new ones a second. It is full at first."""

    __slots__ = ("_at", "_tokens", "burst", "rate")

    def __init__(self, rate: float, burst: int) -> None:
        self.rate, self.burst = rate, burst
        self._tokens, self._at = float(burst), 0.0

    def take(self, now: float) -> float:
        """Take one token at `now` (s). Answers 0, or how many seconds until there is one, and takes none."""
        if self._at:
            self._tokens = min(self.burst, self._tokens + max(0.0, now - self._at) * self.rate)
        self._at = now
        if self._tokens >= 1:
            self._tokens -= 1
            return 0.0
        return (1 - self._tokens) / self.rate
