"""From an outcome to the first answer that knows it. Pure: time is an argument, µs.

A delta names the outcomes that its steps learned from. It waits here until a prediction is answered by a model that has
reached its sequence; at that moment the loop has closed for them.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from feedback.clock import SECOND
from feedback.deltas import DeltaHeader

MAX_PENDING = 10_000
"""Deltas of one line that may wait for an answer; beyond, the oldest are forgotten (nobody asked for so long)."""

WINDOW = 4_096
"""Outcomes over which the rolling quantiles go."""


@dataclass(frozen=True, slots=True)
class Served:
    """What one answer was the first to know."""

    total_s: list[float] = field(default_factory=list)
    """Per outcome: from its sent_time to this answer."""
    served_s: list[float] = field(default_factory=list)
    """Per delta: from the end of its last training step to this answer (synchronising it included)."""


class Freshness:
    """Deltas that no answer has known yet, per line; and the last ages."""

    def __init__(self) -> None:
        self._pending: dict[str, deque[DeltaHeader]] = {}
        self._recent: deque[float] = deque(maxlen=WINDOW)
        self.observed = 0

    def published(self, delta: DeltaHeader) -> None:
        """A delta has been seen on its way to the model servers."""
        if delta.kind == "rows" and delta.part == delta.parts:
            self._pending.setdefault(delta.line, deque(maxlen=MAX_PENDING)).append(delta)

    def answered(self, line: str, sequence: int, now_us: int) -> Served | None:
        """An answer was given at `sequence` of `line` ("" where the line is unknown: then the only one there is)."""
        if not line and len(self._pending) == 1:
            line = next(iter(self._pending))
        pending = self._pending.get(line)
        if not pending or pending[0].sequence > sequence:
            return None
        served = Served()
        while pending and pending[0].sequence <= sequence:
            delta = pending.popleft()
            served.total_s.extend(_ages(delta.sent_times, now_us))
            if delta.trained_time:
                served.served_s.extend(_ages([delta.trained_time], now_us))
        self._recent.extend(served.total_s)
        self.observed += len(served.total_s)
        return served

    def quantiles(self) -> dict[str, float]:
        """`p50_s` and `p99_s` of the last outcomes, and how many there are."""
        ordered = sorted(self._recent)
        if not ordered:
            return {"count": 0.0}
        return {"p50_s": _quantile(ordered, 0.5), "p99_s": _quantile(ordered, 0.99), "count": float(len(ordered))}


def _ages(times: Iterable[int], now_us: int) -> list[float]:
    return [max(0, now_us - time) / SECOND for time in times]


def _quantile(ordered: list[float], share: float) -> float:
    """The smallest value that at least `share` of the values do not exceed."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
