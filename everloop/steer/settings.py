"""What can be set of the watcher: `everloop.toml` section [steer]."""

from __future__ import annotations

from dataclasses import dataclass

from feedback.errors import ConfigError
from feedback.settings import Count, NonNegative, Positive, Share


@dataclass(frozen=True, kw_only=True)
class GuardSettings:
    """When a version that has just become live is rolled back because requests fail."""

    enabled: bool = True
    """Whether the watcher rolls back by itself. Default true."""
    watch_s: Positive = 120.0
    """How long after its label has moved a version is held responsible. Default 120 s."""
    share: Share = 0.05
    """Share of requests answered without the model's scores from which on it may be a fault. Default 0.05."""
    factor: Positive = 5.0
    """How many times the share before the swap it must be, too. Default 5."""
    requests: Count = 50
    """Requests under the new version that a judgement needs. Default 50."""


@dataclass(frozen=True, kw_only=True)
class CanarySettings:
    """How a canary is judged."""

    confidence: Share = 0.95
    """Of the sequence of intervals, over the whole time. Default 0.95."""
    margin: Share = 0.01
    """The canary is promoted when it is, with that confidence, at most this much worse (relative). Default 0.01."""
    horizon_s: Positive = 604_800.0
    """Event time after which an undecided canary is dropped and the old version kept. Default 7 days."""
    cap: Count = 16
    """Requests of one user that count, at most. Default 16."""
    window_s: Positive = 86_400.0
    """Event time after a user's first request in which their requests count. Default one day."""
    clicks: Count = 4
    """Clicks of one request that count, at most. Default 4."""
    low: Positive = 0.001
    """Clicks per request: the least rate considered. Default 0.001."""
    grid: Count = 2048
    """Rates considered between `low` and `clicks`, evenly in logarithm. Default 2048."""
    look_s: NonNegative = 30.0
    """Wall time between two judgements. Default 30 s."""

    def check(self) -> None:
        """Raise ConfigError where fields contradict each other."""
        if self.low >= self.clicks:
            raise ConfigError(key="steer.canary.low", value=self.low, allowed="below steer.canary.clicks")


@dataclass(frozen=True, kw_only=True)
class SteerSettings:
    """Everything under [steer]."""

    guard: GuardSettings = GuardSettings()
    """Automatic rollback."""
    canary: CanarySettings = CanarySettings()
    """The canary's judge."""
    wait_s: Positive = 60.0
    """How long a command waits for the replicas to carry an order out. Default 60 s."""
    silent_s: Positive = 30.0
    """A replica that has not reported for so long is not waited for. Default 30 s."""
