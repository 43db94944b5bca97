"""Detectors of change with a stated rate of false alarms: a one-sided CUSUM whose threshold is learned, a share in a window. Pure.

For a CUSUM S ← max(0, S + x) of independent x with E[x] < 0, let θ > 0 solve E[exp(θx)] = 1: the mean number of observations
between false alarms at threshold h is at least exp(θh), so h = ln(N) / θ gives one in N. θ is estimated from what was normal,
with one observation of the worst possible x added, because a rare one may not have been seen yet.
Source: Lorden, Procedures for reacting to a change in distribution, 1971; Siegmund, Sequential Analysis, 1985, chapter 2.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from typing import Any

import numpy as np

_CAUTION = 1.5
"""θ is divided by this: neighbouring slates are not independent."""


def tilt(values: list[float], worst: float) -> float:
    """Solve mean(exp(θx)) = 1 for θ > 0, over `values` and one `worst`; 0 where the mean is not below 0."""
    x = np.array([*values, worst])
    if x.mean() >= 0 or x.max() <= 0:
        return 0.0
    low, high = 0.0, 1.0
    while np.exp(high * x).mean() < 1.0 and high < 1e6:
        low, high = high, high * 2
    for _ in range(30):
        middle = (low + high) / 2
        if np.exp(middle * x).mean() < 1.0:
            low = middle
        else:
            high = middle
    return low


class Cusum:
    """A one-sided CUSUM of what exceeds a level; not armed before it has seen what is normal.

    The level is 0, or half a standard deviation above the normal mean where that is more: a model that was never better than
    its baseline is still told from one that was spoilt.
    """

    def __init__(self, *, worst: float, reference: int, arm: int) -> None:
        self.worst = worst
        self._level = 0.0
        self._reference, self._arm = reference, max(2, arm)
        self.value = 0.0
        self.limit = math.inf
        self.since = 0
        """The first suspect step, while the value is above 0."""
        self._normal: deque[float] = deque(maxlen=reference)
        self._new: list[float] = []

    def add(self, x: float, step: int, often: float) -> bool:
        """Take an observation learned in `step`; whether it raises the alarm. `often`: observations per false alarm allowed."""
        x = min(x, self.worst)
        self.since = step if self.value <= 0 else min(self.since, step)
        self.value = max(0.0, self.value + x - self._level)
        if self.value > self.limit:
            return True
        self._new.append(x)
        if len(self._new) >= (self._arm if self.limit == math.inf else max(self._arm, self._reference // 8)):
            self._learn(often)
        return False

    @property
    def suspicion(self) -> float:
        """Value as a share of the limit."""
        return self.value / self.limit

    def _learn(self, often: float) -> None:
        """Take what is new as normal, unless it is under suspicion."""
        if self.suspicion < 0.5:
            self._normal.extend(self._new)
            normal = np.array(self._normal)
            self._level = max(0.0, float(normal.mean() + 0.5 * normal.std()))
            theta = tilt((normal - self._level).tolist(), self.worst - self._level) / _CAUTION
            armed = math.isfinite(self.limit)
            self.limit = math.log(max(often, 1000.0)) / theta if theta > 0 else math.inf
            if not armed:
                self.value = 0.0
        self._new = []

    def state(self) -> list[Any]:
        """Everything, as plain values."""
        limit = self.limit if math.isfinite(self.limit) else -1.0
        return [self.value, limit, self.since, list(self._normal), self._new, self._level]

    def restore(self, state: list[Any]) -> None:
        """Take what `state` answered."""
        self.value, limit, self.since, normal, self._new, self._level = state
        self.limit = math.inf if limit < 0 else limit
        self._normal = deque(normal, maxlen=self._reference)


class Share:
    """Watches the largest share that one key has among the last `size`; normal is what whole windows showed before."""

    def __init__(self, *, size: int, normal: float) -> None:
        self._size, self._floor = size, normal
        self._last: deque[tuple[str, int]] = deque()
        self._counts: Counter[str] = Counter()
        self._tops: deque[float] = deque(maxlen=20)
        self._limit = 1.0
        self._since_look = 0

    def add(self, key: str, step: int, often: float) -> tuple[str, float, float, int] | None:
        """Take one; answers key, share, limit and first step where a key's share is more than chance allows."""
        self._last.append((key, step))
        self._counts[key] += 1
        if len(self._last) > self._size:
            old, _ = self._last.popleft()
            self._counts[old] -= 1
            if not self._counts[old]:
                del self._counts[old]
        self._since_look += 1
        limit = self._limit
        share = self._counts[key] / self._size
        if share > limit and self._size * _divergence(share, limit) > math.log(max(often, 1000.0) * len(self._counts)):
            return key, share, limit, min(step for each, step in self._last if each == key)
        if self._since_look >= self._size:
            self._since_look = 0
            self._tops.append(max(self._counts.values()) / self._size)
            self._set_limit()
        return None

    def state(self) -> list[Any]:
        """Everything, as plain values."""
        return [list(self._last), list(self._tops), self._since_look]

    def restore(self, state: list[Any]) -> None:
        """Take what `state` answered."""
        last, tops, self._since_look = state
        self._last = deque((key, step) for key, step in last)
        self._counts = Counter(key for key, _ in self._last)
        self._tops = deque(tops, maxlen=20)
        self._set_limit()

    def _set_limit(self) -> None:
        """Normal is the largest share of whole windows, once there are a few of them."""
        self._limit = max(self._floor, *self._tops) if len(self._tops) >= 3 else 1.0


def _divergence(share: float, normal: float) -> float:
    """Kullback–Leibler divergence of two coins, in nats: n times it bounds −ln of the chance of such a share (Chernoff)."""
    if normal >= 1.0:
        return 0.0
    rest = (1 - share) * math.log((1 - share) / (1 - normal)) if share < 1 else 0.0
    return share * math.log(share / normal) + rest
