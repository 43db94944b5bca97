"""The best first; ties by item id."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from serving.gateway.policies.slate import IMPOSSIBLE, Candidates


class Greedy:
    """Shows one slate with certainty."""

    name = "greedy"

    def draw(self, candidates: Candidates, count: int, random: Random) -> list[int]:
        """The `count` best."""
        return list(candidates.best[:count])

    def prefixes(self, candidates: Candidates, slate: Sequence[int]) -> list[float]:
        """0 as long as the slate is the ranking, then IMPOSSIBLE."""
        found, certain = [], 0.0
        for best, shown in zip(candidates.best, slate, strict=False):
            certain = certain if best == shown else IMPOSSIBLE
            found.append(certain)
        return found
