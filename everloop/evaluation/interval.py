"""From one number per slate to an estimate with its interval.

Every estimator here is a mean, or a smooth function of means, of one number per slate. Its interval is the normal one with the variance of
the influence function (the delta method): what each slate adds to the estimate, to first order. Slates of one reader are summed first, so
that a reader who comes often counts as one observation. With an effective sample size of 1,000 and more the normal shape holds
(`everloop experiment evaluation` measures the coverage).

Source: Owen, Monte Carlo theory, methods and examples, 2013, ch. 9 (ratio estimates); Liang and Zeger, Biometrika 73 (1986), clusters.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from msgspec import Struct

from everloop.evaluation.logged import Doubles, Integers


@dataclass(frozen=True)
class Terms:
    """An estimate, and each slate's part in it."""

    value: float
    influence: Doubles
    """How much more the estimate is for each slate, times n; its mean is 0. [n]"""

    def less(self, other: Terms) -> Terms:
        """The difference of two estimates on the same slates, whose common luck cancels."""
        return Terms(self.value - other.value, self.influence - other.influence)


class Estimate(Struct, frozen=True, kw_only=True):
    """A value per slate with its 95 % interval."""

    value: float
    se: float
    """Standard error."""
    low: float
    high: float


def mean(terms: Doubles) -> Terms:
    """The plain mean of one number per slate."""
    value = float(terms.mean())
    return Terms(value, terms - value)


def ratio(tops: Doubles, bottoms: Doubles) -> Terms:
    """The quotient of two means. 0 where the bottom one is 0: nothing is known then, and the weights say so."""
    bottom = float(bottoms.mean())
    if bottom == 0:
        return Terms(0.0, np.zeros(len(tops)))
    value = float(tops.mean()) / bottom
    return Terms(value, (tops - value * bottoms) / bottom)


def total(parts: list[Terms]) -> Terms:
    """The sum of estimates on the same slates."""
    return Terms(sum(part.value for part in parts), np.sum([part.influence for part in parts], axis=0))


def interval(terms: Terms, readers: Integers | None = None, *, level: float = 0.95) -> Estimate:
    """The estimate with its interval. `readers`: who saw each slate, as numbers; without, every slate is another reader's."""
    parts = terms.influence if readers is None else _per_reader(terms.influence, readers)
    clusters = len(parts)
    se = math.inf
    if clusters > 1:
        se = math.sqrt(clusters / (clusters - 1) * float(np.square(parts).sum())) / len(terms.influence)
    reach = NormalDist().inv_cdf(0.5 + level / 2) * se
    return Estimate(value=terms.value, se=se, low=terms.value - reach, high=terms.value + reach)


def _per_reader(influence: Doubles, readers: Integers) -> Doubles:
    return np.bincount(np.unique(readers, return_inverse=True)[1], weights=influence).astype(np.float64)
