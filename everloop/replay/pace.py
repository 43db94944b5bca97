"""The compressed clock: which event time it is at a moment of the wall."""

from __future__ import annotations

import math
from dataclasses import dataclass

from feedback.clock import SECOND


@dataclass(frozen=True)
class Pace:
    """Event time runs `speed` times as fast as the wall; with speed 0 it does not hold anything back."""

    begin_us: int
    """Event time at the start, µs."""
    began_s: float
    """The wall (monotonic) at the start, s."""
    speed: float

    def event_time(self, now_s: float) -> float:
        """Event time at a moment of the wall, µs.

        >>> Pace(begin_us=0, began_s=10.0, speed=60.0).event_time(11.0)
        60000000.0
        """
        if not self.speed:
            return math.inf
        return self.begin_us + (now_s - self.began_s) * self.speed * SECOND

    def wait_s(self, event_time: int, now_s: float) -> float:
        """How long until an event time is reached, s; 0 when it has been."""
        if not self.speed:
            return 0.0
        return max(0.0, (event_time - self.event_time(now_s)) / self.speed / SECOND)
