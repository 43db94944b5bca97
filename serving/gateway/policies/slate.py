"""Candidates, the policy protocol, and the mixture with a uniform policy.

A policy draws a slate and tells the log-probability of each prefix of any slate. Both are needed apart: a slate that the
uniform policy drew has a probability under the base policy too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from operator import neg
from random import Random
from typing import Protocol

IMPOSSIBLE = -math.inf
"""Log-probability of a prefix that a policy never shows."""


@dataclass(frozen=True)
class Candidates:
    """What may be shown."""

    ids: Sequence[str]
    """Item ids; no id twice."""
    scores: Sequence[float]
    """Score of each, the same length."""
    heads: Sequence[Sequence[float]] = field(default=())
    """Per candidate, the scores of the bootstrap heads; empty when the model has none."""

    def __len__(self) -> int:
        return len(self.ids)

    def ranking(self, scores: Sequence[float]) -> list[int]:
        """Indexes by falling score; among equals by item id, so that no order of arrival leaks in."""
        return [i for _, _, i in sorted(zip(map(neg, scores), self.ids, range(len(self.ids)), strict=True))]

    @cached_property
    def best(self) -> tuple[int, ...]:
        """The ranking by score."""
        return tuple(self.ranking(self.scores))


class Policy(Protocol):
    """Draws slates, and knows how probable any slate is."""

    name: str
    """The policy and its parameters, as logged: `epsilon_greedy(0.1)`."""

    def draw(self, candidates: Candidates, count: int, random: Random) -> list[int]:
        """Draw a slate of `count` (at most `len(candidates)`) candidates, as indexes in the order shown."""

    def prefixes(self, candidates: Candidates, slate: Sequence[int]) -> list[float]:
        """The natural log of the probability of each prefix of `slate`; IMPOSSIBLE where it never shows it."""


@dataclass(frozen=True)
class Decision:
    """A slate and how probable it was."""

    slate: list[int]
    """Indexes of the candidates shown, first position first."""
    prefixes: list[float]
    """Natural log of the probability of each prefix, under the whole policy."""
    policy: str
    """The whole policy's name."""


class Uniform:
    """Every order of every choice alike."""

    name = "uniform"

    def draw(self, candidates: Candidates, count: int, random: Random) -> list[int]:
        """Draw without replacement."""
        return random.sample(range(len(candidates)), count)

    def prefixes(self, candidates: Candidates, slate: Sequence[int]) -> list[float]:
        """1/n, 1/n·1/(n−1), …"""
        total, n, found = 0.0, len(candidates), []
        for slot in range(len(slate)):
            total -= math.log(n - slot)
            found.append(total)
        return found


class Mixture:
    """With probability `share` the uniform policy draws the whole slate, else `base` does."""

    def __init__(self, base: Policy, share: float) -> None:
        self.base, self.share = base, share
        self.name = f"{base.name}+uniform({share:g})" if share else base.name
        self._uniform = Uniform()

    def decide(self, candidates: Candidates, count: int, seed: str) -> Decision:
        """Draw a slate of at most `count` candidates. The same seed, candidates and policy give the same slate."""
        random = Random(seed)
        count = min(count, len(candidates))
        explore = self.share > 0 and random.random() < self.share
        slate = (self._uniform if explore else self.base).draw(candidates, count, random)
        return Decision(slate, self.prefixes(candidates, slate), self.name)

    def prefixes(self, candidates: Candidates, slate: Sequence[int]) -> list[float]:
        """The natural log of the probability of each prefix of any slate, whoever drew it; IMPOSSIBLE where neither shows it."""
        share = self.share
        base = self.base.prefixes(candidates, slate) if share < 1 else [IMPOSSIBLE] * len(slate)
        return _mixed(share, self._uniform.prefixes(candidates, slate), base) if share else base


def _mixed(share: float, ones: Sequence[float], others: Sequence[float]) -> list[float]:
    """The logs of share·exp(one) + (1 − share)·exp(other), without leaving the range of a float."""
    more = math.log(share)
    less = math.log1p(-share) if share < 1 else IMPOSSIBLE
    found = []
    for one, other in zip(ones, others, strict=True):
        a, b = more + one, less + other
        high, low = (a, b) if a > b else (b, a)
        found.append(high if low == IMPOSSIBLE else high + math.log1p(math.exp(low - high)))
    return found
