"""The gateway's policies on arrays: many slates are filled slot by slot at once, with what may come next and how probably.

The gateway's own code (`serving.gateway.policies`) tells the probability of one slate and is what logs are judged by. The doubly robust
estimators also ask for everything that might have come instead, and experiments draw millions of slates; both would take hours there.
Tests hold the two to the same numbers.
"""

from __future__ import annotations

import numpy as np

from everloop.evaluation.logged import Doubles, Integers
from feedback.errors import UsageError
from serving.gateway.settings import PolicySettings

_EDGE = 1e-7


class Walk:
    """Slates of n requests under one policy; `next` and `take` in turn. Candidates are columns, [n, m]."""

    def __init__(self, policy: PolicySettings, scores: Doubles, ranks: Integers) -> None:
        """`ranks`: each candidate's place by score, 0 the best.

        Raises:
            UsageError: the policy asks for more than the scores.
        """
        if policy.name == "thompson":
            raise UsageError(
                "policy thompson: the scores of the bootstrap heads are not logged; greedy, epsilon_greedy, softmax"
            )
        self._policy, self._ranks = policy, ranks
        self._left: Doubles = np.ones(scores.shape)
        self._odds = _odds(scores, policy.temperature) if policy.name == "softmax" else None
        self._rows = np.arange(len(scores))
        self._base, self._uniform = np.zeros(len(scores)), np.zeros(len(scores))

    @property
    def logs(self) -> Doubles:
        """Natural log of the probability of what was taken so far; [n]."""
        share = self._policy.uniform_share
        with np.errstate(divide="ignore"):
            mixed: Doubles = np.logaddexp(np.log(share) + self._uniform, np.log1p(-share) + self._base)
        return mixed

    def next(self) -> Doubles:
        """The probability that each candidate comes into the next slot, given what was taken; [n, m]."""
        base, uniform, share = self._next_base(), self._next_uniform(), self._policy.uniform_share
        if not share:
            return base
        with np.errstate(divide="ignore"):
            # Which of the two policies fills this slate: the longer the prefix, the more it tells.
            random = np.exp(np.log(share) + self._uniform - self.logs)[:, None]
        found: Doubles = random * uniform + (1.0 - random) * base
        return found

    def take(self, shown: Integers) -> None:
        """Put one candidate of each request into the slot; [n]."""
        with np.errstate(divide="ignore"):
            self._base = self._base + np.log(self._next_base()[self._rows, shown])
            self._uniform = self._uniform + np.log(self._next_uniform()[self._rows, shown])
        self._left[self._rows, shown] = 0.0

    def _next_uniform(self) -> Doubles:
        found: Doubles = self._left / np.maximum(self._left.sum(axis=1, keepdims=True), 1.0)
        return found

    def _next_base(self) -> Doubles:
        if self._odds is not None:
            return _softmax(self._odds, self._left)
        chance = np.zeros_like(self._left)
        best = np.where(self._left > 0, self._ranks, np.iinfo(np.int64).max).argmin(axis=1)
        if self._policy.name == "epsilon_greedy":
            chance += self._policy.epsilon * self._next_uniform()
            chance[self._rows, best] += 1.0 - self._policy.epsilon
        else:
            chance[self._rows, best] = 1.0
        return chance


def draw(walk: Walk, chance: Doubles) -> tuple[Integers, Doubles]:
    """Fill as many slots as `chance` has columns; it holds uniform numbers. Answers columns and prefix log-probabilities, [n, slots]."""
    slates, logs = np.empty(chance.shape, np.int64), np.empty(chance.shape)
    for slot, some in enumerate(chance.T):
        sums = np.cumsum(walk.next(), axis=1)
        # The first whose sum is above: never one of probability 0, as a comparison with ≥ would allow.
        slates[:, slot] = (sums <= (some * sums[:, -1])[:, None]).sum(axis=1)
        walk.take(slates[:, slot])
        logs[:, slot] = walk.logs
    return slates, logs


def follow(walk: Walk, slates: Integers, values: Doubles) -> tuple[Doubles, Doubles]:
    """Go along given slates. Answers prefix log-probabilities, and the mean of `values` [n, m] that the policy expects of each slot."""
    logs, means = np.empty(slates.shape), np.empty(slates.shape)
    for slot in range(slates.shape[1]):
        means[:, slot] = (walk.next() * values).sum(axis=1)
        walk.take(slates[:, slot])
        logs[:, slot] = walk.logs
    return logs, means


def places(scores: Doubles) -> Integers:
    """Each candidate's place by falling score, among equals in the order of the columns; [n, m]."""
    order = np.argsort(-scores, axis=1, kind="stable")
    found = np.empty_like(order)
    np.put_along_axis(found, order, np.broadcast_to(np.arange(scores.shape[1]), scores.shape), axis=1)
    return found


def _odds(scores: Doubles, temperature: float) -> Doubles:
    clipped = np.clip(scores, _EDGE, 1.0 - _EDGE)
    return (np.log(clipped) - np.log1p(-clipped)) / temperature


def _softmax(logs: Doubles, left: Doubles) -> Doubles:
    rest = np.where(left > 0, logs, -np.inf)
    high = rest.max(axis=1, keepdims=True)
    weight = np.exp(rest - np.where(np.isfinite(high), high, 0.0))
    found: Doubles = weight / np.maximum(weight.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
    return found
