"""What is logged as a propensity is the probability with which the slate comes: by enumeration, and by drawing."""

from __future__ import annotations

import math
from collections import Counter
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.gateway.policies.choose import choose
from serving.gateway.policies.slate import Candidates, Mixture, Policy
from serving.gateway.settings import PolicySettings

NAMES = ("greedy", "epsilon_greedy", "softmax", "thompson")
probability = st.floats(0.0, 1.0, width=32)


@st.composite
def candidates(draw: st.DrawFn) -> Candidates:
    n = draw(st.integers(1, 5))
    heads = draw(st.integers(0, 4))
    scores = draw(st.lists(st.sampled_from([0.0, 0.1, 0.1, 0.5, 0.9, 1.0]), min_size=n, max_size=n))
    rows = (
        draw(st.lists(st.lists(probability, min_size=heads, max_size=heads), min_size=n, max_size=n)) if heads else []
    )
    ids = draw(st.lists(st.text("ab1", min_size=1, max_size=4), min_size=n, max_size=n, unique=True))
    return Candidates(ids, scores, rows)


policies = st.builds(
    PolicySettings,
    name=st.sampled_from(NAMES),
    epsilon=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    temperature=st.sampled_from([0.05, 0.3, 1.0, 10.0]),
    uniform_share=st.sampled_from([0.0, 0.02, 0.5, 1.0]),
)


def whole(mixture: Mixture, them: Candidates, slate: tuple[int, ...]) -> list[float]:
    """The mixture's prefix probabilities of any slate, written out apart from `decide`."""
    base = [math.exp(x) for x in mixture.base.prefixes(them, slate)]
    uniform = [1 / math.perm(len(them), slot + 1) for slot in range(len(slate))]
    return [mixture.share * u + (1 - mixture.share) * b for u, b in zip(uniform, base, strict=True)]


@settings(max_examples=150, deadline=None)
@given(policies, candidates(), st.integers(1, 5), st.text(max_size=8))
def test_the_probabilities_of_all_slates_sum_to_one_and_the_logged_one_is_among_them(
    configured: PolicySettings, them: Candidates, count: int, seed: str
) -> None:
    mixture = choose(configured)
    count = min(count, len(them))
    for length in range(1, count + 1):
        total = math.fsum(whole(mixture, them, slate)[-1] for slate in permutations(range(len(them)), length))
        assert total == pytest.approx(1.0, abs=1e-9)
    decision = mixture.decide(them, count, seed)
    assert len(set(decision.slate)) == count
    expected = whole(mixture, them, tuple(decision.slate))
    assert [math.exp(x) for x in decision.prefixes] == pytest.approx(expected, rel=1e-9)
    assert all(p > 0 for p in expected), "a slate was drawn that the policy says it never shows"


@settings(max_examples=60, deadline=None)
@given(policies, candidates(), st.integers(1, 5), st.text(max_size=8))
def test_the_same_seed_gives_the_same_slate_and_order_of_arrival_does_not_matter_to_the_best(
    configured: PolicySettings, them: Candidates, count: int, seed: str
) -> None:
    mixture = choose(configured)
    assert mixture.decide(them, count, seed) == mixture.decide(them, count, seed)
    backwards = Candidates(them.ids[::-1], them.scores[::-1], them.heads[::-1])
    greedy = choose(PolicySettings())
    one = [them.ids[i] for i in greedy.decide(them, count, seed).slate]
    other = [backwards.ids[i] for i in greedy.decide(backwards, count, seed).slate]
    assert one == other


FOUR = Candidates(
    ["a", "b", "c", "d"],
    [0.2, 0.2, 0.6, 0.4],
    [[0.1, 0.9, 0.2], [0.3, 0.1, 0.2], [0.9, 0.2, 0.5], [0.2, 0.3, 0.6]],
)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("share", [0.0, 0.2])
def test_slates_are_drawn_as_often_as_their_propensity_says(name: str, share: float) -> None:
    """Chi-squared over the slates of two out of four; the seeds are fixed, so the test is the same every time."""
    mixture = choose(PolicySettings(name=name, epsilon=0.3, temperature=1.0, uniform_share=share))  # type: ignore[arg-type]
    draws = 6000
    seen = Counter(tuple(mixture.decide(FOUR, 2, f"request-{i}").slate) for i in range(draws))
    expected = {slate: draws * whole(mixture, FOUR, slate)[-1] for slate in permutations(range(4), 2)}
    possible = {slate: e for slate, e in expected.items() if e > 0}
    assert set(seen) <= set(possible)
    chi2 = sum((seen[slate] - e) ** 2 / e for slate, e in possible.items())
    assert chi2 < 31.3, "beyond the 0.1 % quantile for 11 degrees of freedom"


def test_epsilon_greedy_has_the_propensities_of_its_definition() -> None:
    base: Policy = choose(PolicySettings(name="epsilon_greedy", epsilon=0.3)).base
    # Ranking: c, d, a, b (a before b: equal scores, by id).
    found = [math.exp(x) for x in base.prefixes(FOUR, [2, 1])]
    assert found == pytest.approx([0.7 + 0.3 / 4, (0.7 + 0.3 / 4) * (0.3 / 3)])


def test_thompson_counts_the_heads_that_prefer_what_was_shown() -> None:
    base: Policy = choose(PolicySettings(name="thompson", epsilon=0.1)).base
    # First slot: the heads prefer c, a, d. Second, without c: head 0 prefers b, head 1 a, head 2 d.
    found = [math.exp(x) for x in base.prefixes(FOUR, [2, 1])]
    first = 0.9 / 3 + 0.1 / 4
    assert found == pytest.approx([first, first * (0.9 / 3 + 0.1 / 3)])


def test_softmax_keeps_its_digits_when_weights_differ_by_many_orders() -> None:
    base: Policy = choose(PolicySettings(name="softmax", temperature=0.05)).base
    them = Candidates(["a", "b", "c"], [1.0, 1e-9, 1e-9])
    found = base.prefixes(them, [0, 1, 2])
    assert found == pytest.approx([0.0, math.log(0.5), math.log(0.5)])


def test_the_policys_name_tells_its_parameters() -> None:
    mixture = choose(PolicySettings(name="epsilon_greedy", epsilon=0.05, uniform_share=0.01))
    assert mixture.decide(FOUR, 2, "seed").policy == "epsilon_greedy(0.05)+uniform(0.01)"
