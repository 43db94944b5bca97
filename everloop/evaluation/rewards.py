"""The reward model of the doubly robust estimators: the ranking model's own score, brought to each slot's level.

A slot brings less than the score says, since it is looked at less. One factor per slot mends that; it is learned from the other half of
the readers, so that no slate's own clicks are in what is predicted for it and the estimate stays unbiased.
"""

from __future__ import annotations

import numpy as np

from everloop.evaluation.logged import Doubles, Integers


def scaled(rewards: Doubles, scores: Doubles, expected: Doubles, readers: Integers) -> tuple[Doubles, Doubles]:
    """Predicted reward of what was shown, and of what would be: scores times the slot's factor. All [n, slots]."""
    half = (np.unique(readers, return_inverse=True)[1] % 2).astype(bool)
    factors = np.array([_factors(rewards[~half], scores[~half]), _factors(rewards[half], scores[half])])
    factor = factors[np.where(half, 0, 1)]
    return factor * scores, factor * expected


def _factors(rewards: Doubles, scores: Doubles) -> Doubles:
    below = scores.sum(axis=0)
    found: Doubles = np.divide(rewards.sum(axis=0), below, out=np.zeros(len(below)), where=below > 0)
    return found
