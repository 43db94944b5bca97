"""Intervals over seeds: Student's t, since seeds are few."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence


def interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """The interval of the mean of some independent values (two at least).

    >>> low, high = interval([1.0, 2.0, 3.0])
    >>> round(low, 3), round(high, 3)
    (-0.484, 4.484)
    """
    mean = statistics.fmean(values)
    half = quantile((1 + level) / 2, len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    return mean - half, mean + half


def quantile(share: float, freedom: int) -> float:
    """Quantile of Student's t for a share of 0.5 at least, by bisection of its distribution function."""
    low, high = 0.0, 1e3
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _below(middle, freedom) < share else (low, middle)
    return low


def _below(x: float, freedom: int, pieces: int = 2_000) -> float:
    """P(t < x) for x ≥ 0, by Simpson's rule over the angle atan(x / √freedom), where the density is a power of the cosine."""
    scale = math.gamma((freedom + 1) / 2) / (math.sqrt(math.pi) * math.gamma(freedom / 2))
    end = math.atan(x / math.sqrt(freedom))
    step = end / pieces
    values = [math.cos(k * step) ** (freedom - 1) for k in range(pieces + 1)]
    return 0.5 + scale * step / 3 * (values[0] + values[-1] + 4 * sum(values[1:-1:2]) + 2 * sum(values[2:-1:2]))
