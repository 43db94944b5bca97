"""How often a policy puts which rank into which slot, and which two into which two: exactly, by the gateway's own code.

For policies that look at nothing but the order of the scores (greedy, ε-greedy, uniform, and mixtures). All ranks that can't be the best
that remains within so few slots are alike to them, so paths are counted with one rank standing for all of those.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from everloop.evaluation.logged import Doubles
from feedback.errors import UsageError
from serving.gateway.policies.choose import choose
from serving.gateway.policies.slate import Candidates
from serving.gateway.settings import PolicySettings

MAX_SLOTS = 6
"""13,327 paths; one more slot has ten times as many."""


@dataclass(frozen=True)
class Marginals:
    """Coordinates are slot · candidates + rank."""

    one: Doubles
    """P(slot holds rank); [slots·m]"""
    two: Doubles
    """P(one slot holds one rank, and another another); the diagonal is `one`. [slots·m, slots·m]"""


def by_rank(policy: PolicySettings) -> bool:
    """Whether the policy looks at nothing but the order of the scores."""
    return policy.name in ("greedy", "epsilon_greedy") or policy.uniform_share == 1


@lru_cache(maxsize=256)
def marginals(policy: PolicySettings, candidates: int, slots: int) -> Marginals:
    """The marginals of one policy for slates of `slots` out of `candidates`.

    Raises:
        UsageError: the policy looks at more than the order, or the slate is too long to count its paths.
    """
    if not by_rank(policy):
        raise UsageError(
            f"policy {choose(policy).name}: its slates depend on the scores themselves, not only on their order"
        )
    if slots > MAX_SLOTS:
        raise UsageError(f"slates of {slots}: their paths are counted up to {MAX_SLOTS} slots")
    tops = min(slots, candidates)
    kinds = tops + (candidates > tops)
    one, two = np.zeros((slots, kinds)), np.zeros((slots, kinds, slots, kinds))
    for path, chance in _paths(policy, candidates, slots):
        kind = np.minimum(path, tops)
        slot = np.arange(slots)
        one[slot, kind] += chance
        two[slot[:, None], kind[:, None], slot[None, :], kind[None, :]] += chance
    return _spread(one, two, candidates, tops)


def _paths(policy: PolicySettings, candidates: int, slots: int) -> Iterator[tuple[list[int], float]]:
    """Slates as ranks, one for all that differ only in which of the lower ranks they hold, and the probability of all of them."""
    mixture, tops = choose(policy), min(slots, candidates)
    names = [f"{rank:06}" for rank in range(candidates)]
    them = Candidates(names, [1.0 - rank / candidates for rank in range(candidates)])
    for path in _orders([], tops, slots, candidates):
        lower = sum(rank >= tops for rank in path)
        yield path, math.exp(mixture.prefixes(them, path)[-1]) * math.perm(candidates - tops, lower)


def _orders(path: list[int], tops: int, slots: int, candidates: int) -> Iterator[list[int]]:
    if len(path) == slots:
        yield path
        return
    for rank in range(tops):
        if rank not in path:
            yield from _orders([*path, rank], tops, slots, candidates)
    lower = tops + sum(rank >= tops for rank in path)
    if lower < candidates:
        yield from _orders([*path, lower], tops, slots, candidates)


def _spread(one: Doubles, two: Doubles, candidates: int, tops: int) -> Marginals:
    """From kinds to ranks: what falls on the lower ranks falls on each of them alike, and on each pair of different ones."""
    slots, others = len(one), candidates - tops
    kind = np.minimum(np.arange(candidates), tops)
    lower = kind == tops
    alone = np.where(lower, 1.0 / max(others, 1), 1.0)
    first = one[:, kind] * alone
    pairs = alone[:, None] * alone
    pairs[np.ix_(lower, lower)] = 1.0 / max(others * (others - 1), 1)
    np.fill_diagonal(pairs, 0.0)
    both = two[:, kind][:, :, :, kind] * pairs[None, :, None, :]
    for slot in range(slots):
        both[slot, :, slot] = np.diag(first[slot])
    size = slots * candidates
    return Marginals(first.reshape(size), both.reshape(size, size))
