"""All of it: arrays in, estimates with their intervals out, or a refusal."""

from __future__ import annotations

from collections import Counter

import numpy as np
from msgspec import Struct

from everloop.evaluation.interval import Estimate, Terms, interval, mean
from everloop.evaluation.inverse import ips, rips, sn_rips, snips
from everloop.evaluation.logged import Doubles, Logged
from everloop.evaluation.policies import parse
from everloop.evaluation.pseudo import check_logged, pseudo_inverse, slate_weights
from everloop.evaluation.refuse import check_weights
from everloop.evaluation.rewards import scaled
from everloop.evaluation.robust import SWITCH, doubly_robust, switch
from everloop.evaluation.weights import effective, weights
from feedback.errors import UsageError
from serving.gateway.policies.choose import choose
from serving.gateway.settings import PolicySettings


class Answer(Struct, frozen=True, kw_only=True):
    """One estimator's answer."""

    estimator: str
    assumes: str
    """What must hold beside right propensities."""
    value: Estimate
    """Positives per slate under the policy in question."""
    gain: Estimate
    """How many more than under the policy that ran, on the same slates."""


class Evaluation(Struct, frozen=True, kw_only=True):
    """What the log says about a policy."""

    policy: str
    """The policy in question."""
    logged_policies: dict[str, int]
    """Slates by the policy that ran."""
    slates: int
    readers: int
    slots: int
    logged: Estimate
    """Positives per slate, as it was."""
    effective_sample_size: list[float]
    """By slot: so many slates of the policy's own would say as much."""
    mean_weight: list[float]
    """By slot; 1 but for chance."""
    answers: list[Answer]
    left_out: dict[str, int]
    """Slates of the range that are in none of the numbers, by reason."""
    notes: list[str]
    """What was not computed, and why."""


_CASCADE = "what is below a slot does not change what it brings"
_ADDITIVE = "slots add up"
_MODEL = f"{_CASCADE}; the model is right where a weight is above {SWITCH:g}"


def evaluate(logged: Logged, policy: PolicySettings, *, left_out: Counter[str] | None = None) -> Evaluation:
    """Estimate what the policy would have brought.

    Raises:
        UsageError: the log cannot answer that.
    """
    weight = weights(logged.logging, logged.target)
    check_weights(weight)
    terms, notes = estimates(logged, weight), []
    try:
        terms["pseudo_inverse"] = (_ADDITIVE, pseudo_inverse(_pseudo(logged, policy), logged.rewards))
    except UsageError as error:
        notes.append(f"pseudo_inverse: {error}")
    was = mean(logged.rewards.sum(axis=1))
    return Evaluation(
        policy=choose(policy).name,
        logged_policies=dict(Counter(logged.policies).most_common()),
        slates=len(logged),
        readers=len(np.unique(logged.readers)),
        slots=logged.slots,
        logged=interval(was, logged.readers),
        effective_sample_size=effective(weight).tolist(),
        mean_weight=weight.mean(axis=0).tolist(),
        answers=[
            Answer(
                estimator=name,
                assumes=assumes,
                value=interval(found, logged.readers),
                gain=interval(found.less(was), logged.readers),
            )
            for name, (assumes, found) in terms.items()
        ],
        left_out=dict(left_out or {}),
        notes=notes,
    )


def estimates(logged: Logged, weight: Doubles) -> dict[str, tuple[str, Terms]]:
    """Every estimator's answer by its name, with what it assumes. On one slot RIPS is IPS: only the classical names stand then."""
    rewards = logged.rewards
    predicted, expected = scaled(rewards, logged.scores, logged.expected, logged.readers)
    found = {"ips": ("", ips(weight, rewards)), "snips": ("", snips(weight, rewards))}
    if logged.slots > 1:
        found["rips"] = (_CASCADE, rips(weight, rewards))
        found["sn_rips"] = (_CASCADE, sn_rips(weight, rewards))
    found["dr"] = (_CASCADE if logged.slots > 1 else "", doubly_robust(weight, rewards, predicted, expected))
    found["switch_dr"] = (_MODEL, switch(weight, rewards, predicted, expected))
    return found


def _pseudo(logged: Logged, policy: PolicySettings) -> Doubles:
    """The pseudo-inverse weight of each slate: once per policy that ran, number of candidates and length."""
    found = np.empty(len(logged))
    names, codes = np.unique(np.array(logged.policies), return_inverse=True)
    groups = np.stack([codes, logged.candidates, logged.lengths], axis=1)
    for group in np.unique(groups, axis=0):
        at = np.flatnonzero((groups == group).all(axis=1))
        code, candidates, length = group.tolist()
        ran, ranks = parse(str(names[code])), logged.ranks[at, :length]
        found[at] = slate_weights(ran, policy, candidates, ranks)
        check_logged(ran, candidates, ranks, logged.logging[at, -1])
    return found
