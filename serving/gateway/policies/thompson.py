"""Thompson sampling over bootstrap heads: each slot draws one head and takes that head's best remaining item.

Source: Osband and Van Roy, Bootstrapped Thompson Sampling and Deep Exploration, 2015. With few heads an item that no head
prefers would never be shown and its propensity be 0, so each slot is uniform with probability ε.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random

from serving.gateway.policies.slate import IMPOSSIBLE, Candidates


class Thompson:
    """A slot holds item i with probability (1 − ε)·(share of heads whose best remaining item is i) + ε/r.

    Without heads (a model that has none) every head is the score itself: ε-greedy.
    """

    def __init__(self, epsilon: float) -> None:
        self.epsilon = epsilon
        self.name = f"thompson({epsilon:g})"

    def draw(self, candidates: Candidates, count: int, random: Random) -> list[int]:
        """Fill slot by slot, with a head drawn afresh for each."""
        heads = _Heads(candidates)
        remaining = list(range(len(candidates)))
        slate = []
        for _ in range(count):
            if random.random() < self.epsilon:
                shown = random.choice(remaining)
            else:
                shown = heads.best(random.randrange(heads.count))
            remaining.remove(shown)
            heads.take(shown)
            slate.append(shown)
        return slate

    def prefixes(self, candidates: Candidates, slate: Sequence[int]) -> list[float]:
        """Sum the slots' log-probabilities, counting the heads that prefer what was shown."""
        heads = _Heads(candidates)
        total, n, found = 0.0, len(candidates), []
        for slot, shown in enumerate(slate):
            votes = sum(heads.best(head) == shown for head in range(heads.count))
            chance = (1 - self.epsilon) * votes / heads.count + self.epsilon / (n - slot)
            total += math.log(chance) if chance else IMPOSSIBLE
            found.append(total)
            heads.take(shown)
        return found


class _Heads:
    """The heads' rankings, each with a finger on its best remaining item."""

    def __init__(self, candidates: Candidates) -> None:
        columns = list(zip(*candidates.heads, strict=True)) if candidates.heads else [candidates.scores]
        self._rankings = [candidates.ranking(column) for column in columns]
        self._fingers = [0] * len(self._rankings)
        self._taken: set[int] = set()
        self.count = len(self._rankings)

    def best(self, head: int) -> int:
        return self._rankings[head][self._fingers[head]]

    def take(self, item: int) -> None:
        self._taken.add(item)
        for head, ranking in enumerate(self._rankings):
            finger = self._fingers[head]
            while finger < len(ranking) and ranking[finger] in self._taken:
                finger += 1
            self._fingers[head] = finger
