"""Three small worlds in which the assumptions behind slate estimators hold or do not, with every slate's true reward.

| world | slots add up | nothing below a slot matters to it |
|---|---|---|
| `independent` | yes | yes |
| `serial` | no: an item is clicked only below one of its own kind | yes |
| `glancing` | yes | no: what stands in a slot is clicked in the slot above |
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import permutations
from typing import Final

import numpy as np

from everloop.evaluation.logged import Doubles, Integers
from everloop.evaluation.walk import places
from serving.gateway.policies.choose import choose
from serving.gateway.policies.slate import Candidates
from serving.gateway.settings import PolicySettings

CANDIDATES: Final = 6
SLOTS: Final = 3
LOOKED_AT: Final = np.array([1.0, 0.8, 0.6])


@dataclass(frozen=True)
class Requests:
    """What may be shown to whom; [n, candidates]."""

    attraction: Doubles
    kinds: Integers
    """Items of one kind are alike."""
    scores: Doubles
    """What a model believes of the attraction: it errs."""

    def some(self, which: Integers) -> Requests:
        """Some of them, in any order."""
        return Requests(self.attraction[which], self.kinds[which], self.scores[which])


Truth = Callable[[Requests, Integers], Doubles]
"""Click probabilities of slates; [n, slots]."""


def requests(count: int, random: np.random.Generator) -> Requests:
    """Draw requests. Items of the kind that a reader likes attract most, so that the best slate is of one kind; half are of either."""
    shape = (count, CANDIDATES)
    kinds = random.permuted(np.broadcast_to(np.arange(CANDIDATES) % 2, shape), axis=1)
    liked = kinds == random.integers(0, 2, (count, 1))
    logit = random.normal(-1.5, 0.7, shape) + 1.5 * liked
    return Requests(_share(logit), kinds, _share(logit + random.normal(0.0, 0.5, shape)))


def independent(requests: Requests, slates: Integers) -> Doubles:
    """Each slot brings what its own item attracts."""
    found: Doubles = np.take_along_axis(requests.attraction, slates, axis=1) * LOOKED_AT
    return found


def serial(requests: Requests, slates: Integers) -> Doubles:
    """A story is read on, not begun in the middle: below the first slot only what goes on from above is clicked."""
    kind = np.take_along_axis(requests.kinds, slates, axis=1)
    found = independent(requests, slates)
    found[:, 1:] *= kind[:, 1:] == kind[:, :-1]
    return found


def glancing(requests: Requests, slates: Integers) -> Doubles:
    """A reader reads one further and clicks where he is: an item's clicks are those of the slot above it; the first has none."""
    own = independent(requests, slates)
    return np.concatenate([own[:, 1:], np.zeros((len(own), 1))], axis=1)


WORLDS: Final[dict[str, Truth]] = {"independent": independent, "serial": serial, "glancing": glancing}


def value(truth: Truth, requests: Requests, policy: PolicySettings) -> float:
    """True clicks per slate of a policy that looks at the order of the scores only: over all its slates, exactly."""
    mixture, best = choose(policy), np.argsort(places(requests.scores), axis=1)
    them = Candidates(list("abcdef"), np.linspace(0.9, 0.1, CANDIDATES).tolist())
    total = 0.0
    for slate in permutations(range(CANDIDATES), SLOTS):
        chance = math.exp(mixture.prefixes(them, slate)[-1])
        total += chance * float(truth(requests, best[:, list(slate)]).sum(axis=1).mean())
    return total


def _share(logit: Doubles) -> Doubles:
    found: Doubles = 1.0 / (1.0 + np.exp(-logit))
    return found
