"""What happened in a replay, in numbers."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass
class Tally:
    """Counts and times, added to while the replay runs."""

    slates: int = 0
    """Slates asked for."""
    impressions: int = 0
    """Their positions."""
    requests: int = 0
    """Requests that were answered."""
    attempts: int = 0
    """HTTP requests made, retries included."""
    failed_requests: int = 0
    """Requests without an answer after all retries."""
    unlogged: int = 0
    """Answers that said `logged: false`; each was asked again."""
    outcomes: int = 0
    """Outcomes delivered to Kafka."""
    confirmed: int = 0
    """Predictions seen in Kafka."""
    ticks: int = 0
    """Ticks sent, of all partitions."""
    event_time: int = 0
    """Event time up to which everything has arrived, µs."""
    first_answer_s: float = 0.0
    """The wall (monotonic) at the first answer, s; 0 before it."""
    latencies_s: list[float] = field(default_factory=list)
    """Of each answered request, the attempt that was answered, s."""
    versions: Counter[int] = field(default_factory=Counter)
    """Answers by the version that scored; 0: a fallback."""
    fallbacks: Counter[str] = field(default_factory=Counter)
    """Answers without the model, by reason."""
    problems: Counter[str] = field(default_factory=Counter)
    """What went wrong with attempts that were made again."""

    def latency_ms(self, share: float) -> float:
        """A quantile of the answers' times, ms; 0 before the first."""
        return float(np.quantile(self.latencies_s, share)) * 1e3 if self.latencies_s else 0.0

    def summary(self) -> dict[str, Any]:
        """All of it as plain values."""
        return {
            "slates": self.slates,
            "impressions": self.impressions,
            "requests": self.requests,
            "attempts": self.attempts,
            "failed_requests": self.failed_requests,
            "unlogged": self.unlogged,
            "outcomes": self.outcomes,
            "ticks": self.ticks,
            "event_time": self.event_time,
            "latency_p50_ms": round(self.latency_ms(0.5), 3),
            "latency_p99_ms": round(self.latency_ms(0.99), 3),
            "versions": len([version for version in self.versions if version]),
            "fallbacks": dict(self.fallbacks),
            "problems": dict(self.problems),
        }
