"""ε-greedy by slot: the best of what remains, or with probability ε any of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random

from serving.gateway.policies.slate import IMPOSSIBLE, Candidates


class EpsilonGreedy:
    """Each slot holds the best remaining item with probability 1 − ε + ε/r, any other with ε/r (r: how many remain)."""

    def __init__(self, epsilon: float) -> None:
        self.epsilon = epsilon
        self.name = f"epsilon_greedy({epsilon:g})"

    def draw(self, candidates: Candidates, count: int, random: Random) -> list[int]:
        """Fill slot by slot."""
        ranking = list(candidates.best)
        return [ranking.pop(self._place(len(ranking), random)) for _ in range(count)]

    def prefixes(self, candidates: Candidates, slate: Sequence[int]) -> list[float]:
        """Sum the slots' log-probabilities."""
        epsilon, total, found = self.epsilon, 0.0, []
        ranking = list(candidates.best)
        for shown in slate:
            place = ranking.index(shown)
            chance = epsilon / len(ranking) + (0.0 if place else 1 - epsilon)
            total += math.log(chance) if chance else IMPOSSIBLE
            found.append(total)
            ranking.pop(place)
        return found

    def _place(self, remaining: int, random: Random) -> int:
        return random.randrange(remaining) if random.random() < self.epsilon else 0
