"""Slates as arrays: what was shown, how probable that was under either policy, and what it brought."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Logged:
    """Matrices have a row per slate and a column per slot.

    Where a slate is shorter than the longest, it goes on with nothing: reward, scores 0, probabilities as at its last slot. So each slot's
    sum is over what was there, and no estimator needs to know.
    """

    rewards: Doubles
    """What each slot brought; a click: 1."""
    logging: Doubles
    """Natural log of each prefix's probability under the policy that ran."""
    target: Doubles
    """The same under the policy in question; −inf where it never shows that prefix."""
    scores: Doubles
    """The model's score of what was shown."""
    expected: Doubles
    """Mean score of what the policy in question would put into the slot after the prefix before it."""
    ranks: Integers
    """Place of what was shown among its slate's candidates by score, 0 the best."""
    candidates: Integers
    """How many candidates each slate had; [n]."""
    lengths: Integers
    """How many slots each slate has; [n]."""
    readers: Integers
    """Who saw it, as any number; [n]. Slates of one reader are not independent."""
    policies: list[str]
    """Name of the policy that ran, per slate."""

    def __len__(self) -> int:
        return len(self.rewards)

    @property
    def slots(self) -> int:
        """Slots of the longest slate."""
        return int(self.rewards.shape[1])
