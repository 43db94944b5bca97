"""A circuit breaker: after failures in a row a part is left alone for a while, then tried with one call. Time is an argument.

closed ──(n failures in a row)──► open ──(cooldown over: one call may pass)──► half_open ──success──► closed
                                   ▲                                              │
                                   └──────────────────failure─────────────────────┘
"""

from __future__ import annotations

from typing import Literal

State = Literal["closed", "open", "half_open"]


class Breaker:
    """Ask `allows` before a call; say `succeeded` or `failed` after it."""

    __slots__ = ("_failures", "_since", "cooldown_s", "failures", "state")

    def __init__(self, *, failures: int, cooldown_s: float) -> None:
        self.failures, self.cooldown_s = failures, cooldown_s
        self.state: State = "closed"
        self._failures = 0
        self._since = 0.0

    def allows(self, now: float) -> bool:
        """Whether a call may be made at `now` (s). In half_open a second call may pass only after another cooldown: the
        first one's caller may have died without a word."""
        if self.state == "closed":
            return True
        if now - self._since < self.cooldown_s:
            return False
        self.state, self._since = "half_open", now
        return True

    def succeeded(self) -> None:
        """A call was answered."""
        self.state, self._failures = "closed", 0

    def failed(self, now: float) -> None:
        """A call was not answered, or too late."""
        self._failures += 1
        if self.state == "half_open" or self._failures >= self.failures:
            self.state, self._since = "open", now
