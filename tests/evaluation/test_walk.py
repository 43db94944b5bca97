"""Policies on arrays are the gateway's policies: the same probabilities, and slates drawn as often as they say."""

from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everloop.evaluation.marginals import by_rank, marginals
from everloop.evaluation.policies import parse
from everloop.evaluation.walk import Walk, draw, follow, places
from feedback.errors import UsageError
from serving.gateway.policies.choose import choose
from serving.gateway.policies.slate import Candidates
from serving.gateway.settings import PolicySettings

policies = st.builds(
    PolicySettings,
    name=st.sampled_from(["greedy", "epsilon_greedy", "softmax"]),
    epsilon=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    temperature=st.sampled_from([0.05, 0.3, 1.0, 10.0]),
    uniform_share=st.sampled_from([0.0, 0.02, 0.5, 1.0]),
)
scores = st.lists(st.sampled_from([0.0, 0.1, 0.1, 0.3, 0.5, 0.9, 1.0]), min_size=1, max_size=5)
ABC = "abcdefgh"


@settings(deadline=None)
@given(policies, scores, st.data())
def test_a_walk_has_the_gateways_probabilities(
    policy: PolicySettings, values: list[float], data: st.DataObject
) -> None:
    them = Candidates(list(ABC[: len(values)]), values)
    slots = data.draw(st.integers(1, len(values)))
    slates = np.array(list(permutations(range(len(values)), slots)))
    rows = np.tile(np.array(values), (len(slates), 1))
    logs, _ = follow(Walk(policy, rows, places(rows)), slates, rows)
    wanted = [choose(policy).prefixes(them, slate) for slate in slates.tolist()]
    assert np.exp(logs) == pytest.approx(np.exp(np.array(wanted)), rel=1e-9, abs=1e-12)


@settings(deadline=None)
@given(policies, scores, st.data())
def test_what_may_come_next_is_what_the_gateway_would_show_next(
    policy: PolicySettings, values: list[float], data: st.DataObject
) -> None:
    them, mixture = Candidates(list(ABC[: len(values)]), values), choose(policy)
    slots = data.draw(st.integers(1, len(values)))
    rows, slate = np.array([values]), mixture.decide(them, slots, data.draw(st.text(max_size=4))).slate
    walk = Walk(policy, rows, places(rows))
    for slot, shown in enumerate(slate):
        before = mixture.prefixes(them, slate[:slot])[-1] if slot else 0.0
        wanted = [
            0.0 if item in slate[:slot] else math.exp(mixture.prefixes(them, [*slate[:slot], item])[-1] - before)
            for item in range(len(values))
        ]
        assert walk.next()[0] == pytest.approx(wanted, abs=1e-9)
        walk.take(np.array([shown]))


@pytest.mark.parametrize("name", ["greedy+uniform(0.3)", "epsilon_greedy(0.4)", "softmax(1)+uniform(0.1)"])
def test_slates_are_drawn_as_often_as_they_say(name: str) -> None:
    policy, count = parse(name), 20_000
    rows = np.tile([0.6, 0.2, 0.4, 0.2], (count, 1))
    slates, logs = draw(Walk(policy, rows, places(rows)), np.random.default_rng(1).random((count, 2)))
    again, _ = follow(Walk(policy, rows, places(rows)), slates, rows)
    assert logs == pytest.approx(again)
    mixture, them = choose(policy), Candidates(list("abcd"), [0.6, 0.2, 0.4, 0.2])
    chi2 = 0.0
    for slate in permutations(range(4), 2):
        expected = count * math.exp(mixture.prefixes(them, slate)[-1])
        chi2 += ((slates == slate).all(axis=1).sum() - expected) ** 2 / expected
    assert chi2 < 31.3, "beyond the 0.1 % quantile for 11 degrees of freedom"


@settings(deadline=None, max_examples=40)
@given(policies.filter(by_rank), st.integers(1, 7), st.data())
def test_marginals_are_what_counting_every_slate_gives(policy: PolicySettings, size: int, data: st.DataObject) -> None:
    slots = data.draw(st.integers(1, min(3, size)))
    them = Candidates(list(ABC[:size]), np.linspace(0.9, 0.1, size).tolist())
    one, two = np.zeros(slots * size), np.zeros((slots * size, slots * size))
    for slate in permutations(range(size), slots):
        at = np.arange(slots) * size + np.array(slate)
        chance = math.exp(choose(policy).prefixes(them, slate)[-1])
        one[at] += chance
        two[np.ix_(at, at)] += chance
    found = marginals(policy, size, slots)
    assert found.one == pytest.approx(one, abs=1e-12)
    assert found.two == pytest.approx(two, abs=1e-12)


def test_policies_that_look_further_than_the_order_have_no_marginals_by_rank() -> None:
    with pytest.raises(UsageError, match=r"softmax\(0.3\)"):
        marginals(parse("softmax"), 5, 2)
    with pytest.raises(UsageError, match="slates of 7"):
        marginals(parse("greedy"), 9, 7)
    with pytest.raises(UsageError, match="heads are not logged"):
        Walk(parse("thompson"), np.ones((1, 2)), np.zeros((1, 2), np.int64))


@pytest.mark.parametrize(
    "text", ["greedy", "epsilon_greedy(0.05)", "softmax(0.3)+uniform(0.02)", "thompson(0.1)", "greedy+uniform(1)"]
)
def test_a_logged_name_is_the_policy(text: str) -> None:
    assert choose(parse(text)).name == text


def test_a_name_alone_has_the_configured_parameter() -> None:
    default = PolicySettings(epsilon=0.25, temperature=0.7, uniform_share=0.1)
    assert choose(parse("epsilon_greedy", default)).name == "epsilon_greedy(0.25)"
    assert choose(parse("softmax+uniform(0.5)", default)).name == "softmax(0.7)+uniform(0.5)"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "popularity",
        "greedy(1)",
        "epsilon_greedy(2)",
        "epsilon_greedy(nan)",
        "softmax(0)",
        "softmax(x)",
        "softmax(1",
    ],
)
def test_what_is_no_policy_is_refused_by_name(text: str) -> None:
    with pytest.raises(UsageError, match=r"policy = .*: (greedy, epsilon_greedy\(SHARE\)|'x' is no number)"):
        parse(text)
