"""Estimators are right where what they assume holds, to the last digit: every slate that may come is counted, nothing is drawn."""

from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pytest

from everloop.evaluation.interval import Terms
from everloop.evaluation.inverse import ips, rips
from everloop.evaluation.policies import parse
from everloop.evaluation.pseudo import pseudo_inverse, slate_weights
from everloop.evaluation.robust import doubly_robust
from everloop.evaluation.walk import Walk, follow, places
from everloop.evaluation.weights import weights
from everloop.experiments.assumptions import CANDIDATES, SLOTS, WORLDS, requests, value
from everloop.experiments.slates import told
from feedback.errors import UsageError

RAN, ASKED = parse("epsilon_greedy(0.8)+uniform(0.05)"), parse("epsilon_greedy(0.1)")
CASCADE, ADDITIVE, NOTHING = ("rips", "dr"), ("pseudo_inverse",), ("ips",)


def biases(world: str) -> dict[str, float]:
    """Expected estimate less truth, over all slates of one request under the policy that runs."""
    them = requests(1, np.random.default_rng(5))
    truth = WORLDS[world]
    slates = np.array(list(permutations(range(CANDIDATES), SLOTS)))
    every = them.some(np.zeros(len(slates), np.int64))
    logs, _ = follow(Walk(RAN, every.scores, places(every.scores)), slates, every.scores)
    logged = told((RAN, ASKED), every.scores, slates, logs, np.zeros(slates.shape, np.bool_))
    chance, rewards = np.exp(logs[:, -1]), truth(every, slates)
    assert math.fsum(chance) == pytest.approx(1.0)
    weight = weights(logged.logging, logged.target)
    found = {
        "ips": ips(weight, rewards),
        "rips": rips(weight, rewards),
        "dr": doubly_robust(weight, rewards, 0.7 * logged.scores, 0.7 * logged.expected),
        "pseudo_inverse": pseudo_inverse(slate_weights(RAN, ASKED, CANDIDATES, logged.ranks), rewards),
    }
    right = value(truth, them, ASKED)
    return {name: _expected(terms, chance) / right - 1.0 for name, terms in found.items()}


def _expected(terms: Terms, chance: np.ndarray) -> float:
    return float(((terms.influence + terms.value) * chance).sum())


@pytest.mark.parametrize(
    ("world", "right", "wrong"),
    [
        ("independent", (*NOTHING, *CASCADE, *ADDITIVE), ()),
        ("serial", (*NOTHING, *CASCADE), ADDITIVE),
        ("glancing", (*NOTHING, *ADDITIVE), CASCADE),
    ],
)
def test_each_estimator_needs_what_it_says_it_assumes(
    world: str, right: tuple[str, ...], wrong: tuple[str, ...]
) -> None:
    found = biases(world)
    assert {name: found[name] for name in right} == pytest.approx(dict.fromkeys(right, 0.0), abs=1e-9)
    assert all(abs(found[name]) > 0.01 for name in wrong), found


def test_the_pseudo_inverse_refuses_a_policy_that_never_shows_what_the_other_would() -> None:
    ranks = np.array([[0, 1]])
    with pytest.raises(UsageError, match=r"greedy never shows some of what epsilon_greedy\(0.1\) would"):
        slate_weights(parse("greedy"), parse("epsilon_greedy(0.1)"), 4, ranks)
    assert slate_weights(parse("epsilon_greedy(0.1)"), parse("epsilon_greedy(0.1)"), 4, ranks) == pytest.approx(1.0)
