"""Inverse propensity scoring: of whole slates, and slot by slot where a slot's reward depends on nothing below it.

`weight` and `rewards` are [n, slots]; a single slot is a slate of one.
"""

from __future__ import annotations

from everloop.evaluation.interval import Terms, mean, ratio, total
from everloop.evaluation.logged import Doubles


def ips(weight: Doubles, rewards: Doubles) -> Terms:
    """Whole slates weighted by the whole slate's probability. Assumes nothing; few slates count.

    Source: Horvitz and Thompson, JASA 47 (1952).
    """
    return mean(weight[:, -1] * rewards.sum(axis=1))


def snips(weight: Doubles, rewards: Doubles) -> Terms:
    """The same over the mean weight: a little biased, less noisy, and never outside the rewards' range.

    Source: Swaminathan and Joachims, The self-normalized estimator for counterfactual learning, NIPS 2015.
    """
    return ratio(weight[:, -1] * rewards.sum(axis=1), weight[:, -1])


def rips(weight: Doubles, rewards: Doubles) -> Terms:
    """Each slot weighted by its prefix. Unbiased where what is below a slot does not change what it brings (a cascade).

    Source: McInerney et al., Counterfactual evaluation of slate recommendations with sequential reward interactions, KDD 2020, eq. 3.
    """
    return mean((weight * rewards).sum(axis=1))


def sn_rips(weight: Doubles, rewards: Doubles) -> Terms:
    """The same, each slot over its own mean weight. Source: as `rips`, eq. 4."""
    columns = zip(weight.T, rewards.T, strict=True)
    return total([ratio(some * reward, some) for some, reward in columns])
