"""Slates drawn under one policy, told as a log about another, as the gateway and the join would have told them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from everloop.evaluation.logged import Doubles, Integers, Logged
from everloop.evaluation.walk import Walk, draw, follow, places
from serving.gateway.policies.choose import choose
from serving.gateway.settings import PolicySettings

Booleans = NDArray[np.bool_]


def drawn(policy: PolicySettings, scores: Doubles, slots: int, random: np.random.Generator) -> tuple[Integers, Doubles]:
    """A slate for each request, as columns of its candidates, and the log-probabilities of its prefixes; [n, slots]."""
    return draw(Walk(policy, scores, places(scores)), random.random((len(scores), slots)))


def told(
    policies: tuple[PolicySettings, PolicySettings], scores: Doubles, slates: Integers, logs: Doubles, clicks: Booleans
) -> Logged:
    """The log of those slates. `policies`: the one that drew them, and the one in question. Every slate is another reader's."""
    ran, asked = policies
    ranks = places(scores)
    target, expected = follow(Walk(asked, scores, ranks), slates, scores)
    count, slots = slates.shape
    return Logged(
        rewards=clicks.astype(np.float64),
        logging=logs,
        target=target,
        scores=np.take_along_axis(scores, slates, axis=1),
        expected=expected,
        ranks=np.take_along_axis(ranks, slates, axis=1),
        candidates=np.full(count, scores.shape[1]),
        lengths=np.full(count, slots),
        readers=np.arange(count),
        policies=[choose(ran).name] * count,
    )
