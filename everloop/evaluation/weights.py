"""Importance weights, and how many slates they leave.

Source of the effective sample size: Kish, Survey Sampling, 1965; Kong, A note on importance sampling, 1992.
"""

from __future__ import annotations

import numpy as np

from everloop.evaluation.logged import Doubles


def weights(logging: Doubles, target: Doubles) -> Doubles:
    """How much more probable each prefix is under the policy in question. Both are natural logs; of the same shape."""
    found: Doubles = np.exp(target - logging)
    return found


def effective(weight: Doubles) -> Doubles:
    """(Σw)² / Σw² of each column: so many slates of the policy's own would say as much. 0 where every weight is 0.

    >>> effective(np.array([[1.0, 3.0], [1.0, 0.0]])).tolist()
    [2.0, 1.0]
    """
    # Relative to the greatest: weights near either end of a float's range square out of it.
    share = weight / np.maximum(weight.max(axis=0, initial=0.0), np.finfo(np.float64).tiny)
    squares = np.square(share).sum(axis=0)
    found: Doubles = np.divide(np.square(share.sum(axis=0)), squares, out=np.zeros(weight.shape[1]), where=squares > 0)
    return found
