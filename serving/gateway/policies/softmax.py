"""Plackett–Luce: each slot goes to one of the remaining items with probability proportional to exp(logit / temperature).

Source: Plackett, The Analysis of Permutations, Applied Statistics 24 (1975). Drawn by the Gumbel trick: adding
independent Gumbel noise to the log-weights and sorting has exactly this distribution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random

from serving.gateway.policies.slate import Candidates

_EDGE = 1e-7


class Softmax:
    """Weights are odds to the power of 1/temperature: low temperatures are greedy, high ones uniform."""

    def __init__(self, temperature: float) -> None:
        self.temperature = temperature
        self.name = f"softmax({temperature:g})"

    def draw(self, candidates: Candidates, count: int, random: Random) -> list[int]:
        """The `count` greatest of log-weight plus Gumbel noise."""
        noisy = [weight - math.log(random.expovariate(1.0) or 5e-324) for weight in self._logs(candidates)]
        return candidates.ranking(noisy)[:count]

    def prefixes(self, candidates: Candidates, slate: Sequence[int]) -> list[float]:
        """Sum over slots of the shown one's log-weight less the log of the remaining weights' sum.

        The sums are built from the last slot to the first, so that nothing is ever subtracted: with weights that differ by
        many orders a difference would lose all its digits.
        """
        logs = self._logs(candidates)
        rest = logs[:]
        for shown in slate:
            rest[shown] = -math.inf
        remaining, sums = _log_sum(rest), []
        for shown in reversed(slate):
            remaining = _log_add(remaining, logs[shown])
            sums.append(remaining)
        total, found = 0.0, []
        for shown, whole in zip(slate, reversed(sums), strict=True):
            total += min(0.0, logs[shown] - whole)
            found.append(total)
        return found

    def _logs(self, candidates: Candidates) -> list[float]:
        scale = 1 / self.temperature
        return [scale * _logit(score) for score in candidates.scores]


def _logit(score: float) -> float:
    clipped = min(max(score, _EDGE), 1 - _EDGE)
    return math.log(clipped) - math.log1p(-clipped)


def _log_sum(logs: Sequence[float]) -> float:
    high = max(logs, default=-math.inf)
    if high == -math.inf:
        return high
    return high + math.log(math.fsum(math.exp(value - high) for value in logs))


def _log_add(one: float, other: float) -> float:
    high, low = (one, other) if one > other else (other, one)
    return high if low == -math.inf else high + math.log1p(math.exp(low - high))
