"""The pseudo-inverse estimator: whole slates, weighted as if each slot added its own part to what the slate brings.

Unbiased where the slate's reward is a sum over slots of something that depends on the slot and its item only, and needs far fewer slates
than IPS; it looks at the slate's sum, never at which slot brought it.

Source: Swaminathan et al., Off-policy evaluation for slate recommendation, NIPS 2017, eq. 6: q_πᵀ Γ_μ⁺ 1_s.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from everloop.evaluation.interval import Terms, mean
from everloop.evaluation.logged import Doubles, Integers
from everloop.evaluation.marginals import marginals
from everloop.evaluation.walk import Walk, follow
from feedback.errors import UsageError
from serving.gateway.policies.choose import choose
from serving.gateway.settings import PolicySettings

_TOLERANCE = 1e-3
"""A policy's name has six digits of its parameters."""


def pseudo_inverse(weight: Doubles, rewards: Doubles) -> Terms:
    """`weight`: of each slate, [n]; `rewards`: [n, slots]."""
    return mean(weight * rewards.sum(axis=1))


def check_logged(policy: PolicySettings, candidates: int, ranks: Integers, logged: Doubles) -> None:
    """Compare the logged probabilities of whole slates (natural logs, [n]) with those of the policy that is said to have run.

    Raises:
        UsageError: they are not its own. The pseudo-inverse goes by the policy, every other estimator by what was logged.
    """
    columns = np.broadcast_to(np.arange(candidates), (len(ranks), candidates))
    logs, _ = follow(Walk(policy, np.zeros(columns.shape), columns), ranks, np.zeros(columns.shape))
    worst = float(np.abs(np.expm1(logs[:, -1] - logged)).max(initial=0.0))
    if not worst < _TOLERANCE:
        raise UsageError(
            f"propensities logged under {choose(policy).name} are not its own: one is wrong by {worst:.2g} of it"
        )


def slate_weights(logging: PolicySettings, target: PolicySettings, candidates: int, ranks: Integers) -> Doubles:
    """Weights of slates of one length out of equally many candidates. `ranks`: what each slot holds, [n, slots].

    Raises:
        UsageError: a policy's marginals are not known, or the one that ran never shows what the other would.
    """
    slots = ranks.shape[1]
    found: Doubles = _solved(logging, target, candidates, slots)[np.arange(slots), ranks].sum(axis=1)
    return found


@lru_cache(maxsize=256)
def _solved(logging: PolicySettings, target: PolicySettings, candidates: int, slots: int) -> Doubles:
    pairs, wanted = marginals(logging, candidates, slots).two, marginals(target, candidates, slots).one
    solved = np.linalg.pinv(pairs, rcond=1e-10, hermitian=True) @ wanted
    if not np.allclose(pairs @ solved, wanted, atol=1e-8):
        raise UsageError(f"{choose(logging).name} never shows some of what {choose(target).name} would")
    return solved.reshape(slots, candidates)
