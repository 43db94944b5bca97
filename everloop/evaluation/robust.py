"""Doubly robust estimators: a reward model where it knows, weights for what it does not.

Slot by slot, under the cascade assumption; on one slot they are the classical ones. Unbiased with right propensities however wrong the
model, which only decides how noisy they are.

Source: Dudík, Langford, Li, Doubly robust policy evaluation and learning, ICML 2011; Kiyohara et al., Doubly robust off-policy evaluation
for ranking policies under the cascade behavior model, WSDM 2022.
"""

from __future__ import annotations

import numpy as np

from everloop.evaluation.interval import Terms, mean
from everloop.evaluation.logged import Doubles

SWITCH = 10.0
"""Prefix weight above which `switch` leaves a slot to the model."""


def doubly_robust(weight: Doubles, rewards: Doubles, predicted: Doubles, expected: Doubles) -> Terms:
    """What the model expects of the policy's next slot, corrected by what it got wrong about the slot that was shown.

    `predicted`: the model's reward of what was shown; `expected`: of what the policy would show after the same prefix; all [n, slots].
    """
    return switch(weight, rewards, predicted, expected, threshold=np.inf)


def switch(
    weight: Doubles, rewards: Doubles, predicted: Doubles, expected: Doubles, *, threshold: float = SWITCH
) -> Terms:
    """Without the correction where its weight is above the threshold: less noise for some bias.

    Source: Wang, Agarwal, Dudík, Optimal and adaptive off-policy evaluation in contextual bandits, ICML 2017.
    """
    before = np.concatenate([np.ones((len(weight), 1)), weight[:, :-1]], axis=1)
    kept = np.where(weight <= threshold, weight, 0.0)
    return mean((before * expected + kept * (rewards - predicted)).sum(axis=1))
