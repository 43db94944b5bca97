"""Labelled slates to arrays: each with the probability that the policy in question would have shown it, by the gateway's own code.

The prediction event holds all that the policy saw: candidates shown and not shown, their scores, and what was logged of the policy that
ran. A slate that no policy chose (a fallback, or one that something else than everloop chose), or that the one that ran could not have
chosen otherwise, says nothing about another: it is left out, and counted.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from everloop.evaluation.logged import Doubles, Integers, Logged
from everloop.evaluation.pair import Labelled
from everloop.evaluation.walk import Walk, follow
from feedback.errors import UsageError
from feedback.events import OBSERVED, Prediction
from serving.gateway.policies.choose import choose
from serving.gateway.policies.slate import Candidates
from serving.gateway.settings import PolicySettings

FALLBACK, UNLOGGED, CERTAIN = "fallback", "no_propensities", "certain"
"""Why a slate says nothing: no policy chose it; it does not tell how probable it was; it could not have been another."""


@dataclass
class Recalled:
    """What was read: the slates that say something, and how many do not, by reason."""

    logged: Logged
    left_out: Counter[str]
    certain_policies: Counter[str]
    """Of the certain ones, the names of the policies."""


@dataclass
class _Group:
    """Slates of one length out of equally many candidates."""

    at: list[int] = field(default_factory=list)
    scores: list[list[float]] = field(default_factory=list)
    ranks: list[list[int]] = field(default_factory=list)
    target: list[list[float]] = field(default_factory=list)
    logging: list[list[float]] = field(default_factory=list)
    rewards: list[list[bool]] = field(default_factory=list)


def recall(slates: Iterable[Labelled], policy: PolicySettings) -> Recalled:
    """Put slates into arrays.

    Raises:
        UsageError: the policy asks for more than is logged, or no slate says anything.
    """
    if policy.name == "thompson":
        raise UsageError(
            "policy thompson: its bootstrap heads' scores are not logged; greedy, epsilon_greedy or softmax can be asked"
        )
    mixture = choose(policy)
    left_out: Counter[str] = Counter()
    certain: Counter[str] = Counter()
    groups: defaultdict[tuple[int, int], _Group] = defaultdict(_Group)
    readers: list[str] = []
    policies: list[str] = []
    for slate in slates:
        event = slate.prediction
        them = _candidates(event)
        if why := silent(event, len(them)):
            left_out[why] += 1
            certain[event.policy] += why == CERTAIN
            continue
        group = groups[len(them), len(event.items)]
        group.at.append(len(readers))
        group.scores.append(list(them.scores))
        group.ranks.append(_places(them))
        group.logging.append(event.propensities)
        group.target.append(mixture.prefixes(them, range(len(event.items))))
        group.rewards.append(slate.clicked)
        readers.append(event.user_id)
        policies.append(event.policy)
    codes = np.unique(np.array(readers, dtype=np.str_), return_inverse=True)[1].astype(np.int64)
    return Recalled(_joined(groups, policy, codes, policies), left_out, certain)


def silent(event: Prediction, candidates: int) -> str:
    """Why a slate says nothing about another policy; empty when it does."""
    if event.policy == OBSERVED:
        return OBSERVED
    if event.fallback:
        return FALLBACK
    if not event.propensities:
        return UNLOGGED
    if candidates > 1 and event.propensities[-1] > -1e-12:
        return CERTAIN
    return ""


def _candidates(event: Prediction) -> Candidates:
    hidden = event.unshown
    if hidden is None:
        return Candidates(event.items, event.scores)
    return Candidates([*event.items, *hidden.items], [*event.scores, *hidden.scores])


def _places(them: Candidates) -> list[int]:
    places = [0] * len(them)
    for place, which in enumerate(them.best):
        places[which] = place
    return places


def _joined(
    groups: dict[tuple[int, int], _Group], policy: PolicySettings, readers: Integers, policies: list[str]
) -> Logged:
    count, slots = len(readers), max((length for _, length in groups), default=1)
    matrices = {name: np.zeros((count, slots)) for name in ("rewards", "logging", "target", "scores", "expected")}
    ranks = np.zeros((count, slots), np.int64)
    lengths, candidates = np.zeros(count, np.int64), np.zeros(count, np.int64)
    for (size, length), group in groups.items():
        at, scores, places = np.array(group.at), np.array(group.scores), np.array(group.ranks)
        shown = np.broadcast_to(np.arange(length), (len(at), length))
        _, expected = follow(Walk(policy, scores, places), shown, scores)
        lengths[at], candidates[at] = length, size
        ranks[at, :length] = places[:, :length]
        columns = (("rewards", group.rewards), ("scores", scores[:, :length]), ("expected", expected))
        for name, values in columns:
            matrices[name][at, :length] = values
        for name, logs in (("logging", group.logging), ("target", group.target)):
            matrices[name][at] = _padded(np.array(logs), slots)
    return Logged(**matrices, ranks=ranks, candidates=candidates, lengths=lengths, readers=readers, policies=policies)


def _padded(logs: Doubles, slots: int) -> Doubles:
    return np.pad(logs, ((0, 0), (0, slots - logs.shape[1])), mode="edge")
