"""From prediction events to arrays, and what is refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace as changed

import numpy as np
import pytest
from msgspec.structs import replace

from everloop.evaluation.evaluate import Evaluation, evaluate
from everloop.evaluation.pair import Labelled
from everloop.evaluation.policies import parse
from everloop.evaluation.recall import Recalled, recall
from everloop.evaluation.refuse import check_silent, check_weights
from everloop.evaluation.weights import weights
from feedback.errors import UsageError
from feedback.events import OBSERVED
from serving.gateway.settings import PolicySettings
from tests.evaluation.build import ATTRACTION, log

RAN = parse("epsilon_greedy(0.4)")


def labelled(policy: PolicySettings, count: int, *, slots: int = 2, items: str = "abcdef") -> list[Labelled]:
    return [
        Labelled(
            prediction=told.prediction,
            clicked=[item in {outcome.item_id for outcome in told.outcomes} for item in told.prediction.items],
        )
        for told in log(policy, count, slots=slots, items=items)
    ]


def asked(slates: Iterable[Labelled], policy: str) -> Evaluation:
    wanted = parse(policy)
    found = recall(slates, wanted)
    check_silent(found.left_out, len(found.logged), found.certain_policies)
    return evaluate(found.logged, wanted, left_out=found.left_out)


def values(found: Evaluation) -> dict[str, float]:
    return {each.estimator: each.value.value for each in found.answers}


def test_the_policy_that_ran_is_recalled_with_the_probabilities_that_it_logged() -> None:
    for ran in (RAN, parse("softmax(0.7)+uniform(0.1)")):
        logged = recall(labelled(ran, 300), ran).logged
        assert weights(logged.logging, logged.target) == pytest.approx(1.0, rel=1e-9)


def test_asked_about_the_policy_that_ran_every_estimator_says_what_was() -> None:
    found = asked(labelled(RAN, 2_000), "epsilon_greedy(0.4)")
    ratio = {name: value / found.logged.value for name, value in values(found).items()}
    # The reward model's own luck stays in the doubly robust ones.
    exact = {name: each for name, each in ratio.items() if "dr" not in name}
    assert exact == pytest.approx(dict.fromkeys(exact, 1.0))
    assert ratio["dr"] == pytest.approx(1.0, abs=0.02)
    assert found.effective_sample_size == pytest.approx([2_000.0, 2_000.0])


def test_one_slot_gets_the_classical_estimators() -> None:
    found = asked(labelled(RAN, 3_000, slots=1), "epsilon_greedy(0.1)")
    assert list(values(found)) == ["ips", "snips", "dr", "switch_dr", "pseudo_inverse"]


def test_what_another_policy_would_have_brought_is_told_within_the_interval() -> None:
    """Drawn under either policy; the seeds are fixed, so the test is the same every time."""
    found = asked(labelled(RAN, 4_000), "epsilon_greedy(0.1)")
    own = np.mean([sum(slate.clicked) for slate in labelled(parse("epsilon_greedy(0.1)"), 40_000)])
    assert found.policy == "epsilon_greedy(0.1)"
    assert found.logged_policies == {"epsilon_greedy(0.4)": 4_000}
    assert {each.estimator for each in found.answers if not each.value.low < own < each.value.high} == set()
    assert all(each.gain.low > 0 for each in found.answers if each.estimator in ("sn_rips", "dr"))


def test_shorter_slates_and_fewer_candidates_lie_among_the_others() -> None:
    mixed = labelled(RAN, 2_500) + labelled(RAN, 2_500, slots=1, items="abc")
    found = recall(mixed, parse("epsilon_greedy(0.1)")).logged
    assert found.lengths.tolist() == [2] * 2_500 + [1] * 2_500
    assert found.candidates.tolist() == [6] * 2_500 + [3] * 2_500
    short = slice(2_500, None)
    assert (found.rewards[short, 1] == 0).all()
    assert (found.logging[short, 0] == found.logging[short, 1]).all()
    assert (found.target[short, 0] == found.target[short, 1]).all()
    evaluation = evaluate(found, parse("epsilon_greedy(0.1)"))
    parts = [asked(mixed[:2_500], "epsilon_greedy(0.1)"), asked(mixed[2_500:], "epsilon_greedy(0.1)")]
    for name in ("ips", "pseudo_inverse"):
        assert values(evaluation)[name] == pytest.approx(np.mean([values(part)[name] for part in parts]))


def test_policies_that_took_turns_are_weighted_each_by_its_own() -> None:
    both = labelled(RAN, 1_500) + labelled(parse("epsilon_greedy(0.6)"), 1_500)
    found = asked(both, "epsilon_greedy(0.2)")
    assert found.logged_policies == {"epsilon_greedy(0.4)": 1_500, "epsilon_greedy(0.6)": 1_500}
    assert found.mean_weight == pytest.approx([1.0, 1.0], abs=0.05)


def test_softmax_has_no_pseudo_inverse_and_says_so() -> None:
    found = asked(labelled(parse("softmax(1)"), 2_000), "softmax(0.7)")
    assert "pseudo_inverse" not in values(found)
    assert found.notes == [
        "pseudo_inverse: policy softmax(1): its slates depend on the scores themselves, not only on their order"
    ]


def test_propensities_that_are_not_the_named_policys_are_found_out() -> None:
    slates = [
        changed(each, prediction=replace(each.prediction, policy="epsilon_greedy(0.5)"))
        for each in labelled(RAN, 2_000)
    ]
    (note,) = asked(slates, "epsilon_greedy(0.1)").notes
    assert note.startswith("pseudo_inverse: propensities logged under epsilon_greedy(0.5) are not its own")


def test_a_greedy_log_is_refused() -> None:
    with pytest.raises(
        UsageError, match=r"50 of 50 slates say nothing .* 50 shown with certainty.*policy greedy \(50\): no support"
    ):
        asked(labelled(parse("greedy"), 50), "epsilon_greedy(0.1)")


def test_slates_with_one_candidate_are_certain_and_say_as_much_as_there_is_to_say() -> None:
    (slate, *_) = labelled(parse("greedy"), 1, slots=1, items="a")
    assert recall([slate], RAN).left_out == {}


def test_what_something_else_chose_is_left_out_however_much_it_is() -> None:
    ours = labelled(RAN, 2_000)
    theirs = [
        changed(
            each,
            prediction=replace(
                each.prediction, policy=OBSERVED, fallback=OBSERVED, propensities=[], scores=[0.0, 0.0], unshown=None
            ),
        )
        for each in labelled(RAN, 3_000)
    ]
    policy = parse("epsilon_greedy(0.1)")
    mixed = recall(ours + theirs, policy)
    assert mixed.left_out == {OBSERVED: 3_000}
    check_silent(mixed.left_out, len(mixed.logged), mixed.certain_policies)
    alone = evaluate(recall(ours, policy).logged, policy)
    both = evaluate(mixed.logged, policy, left_out=mixed.left_out)
    assert values(both) == values(alone)
    assert (both.slates, both.left_out) == (2_000, {OBSERVED: 3_000})
    nothing = recall(theirs, policy)
    with pytest.raises(
        UsageError, match=r"no slate of this range has settled: 0 .* 3,000 were chosen by something else"
    ):
        check_silent(nothing.left_out, len(nothing.logged), nothing.certain_policies)


@pytest.mark.parametrize(
    ("change", "reason", "words"),
    [
        ({"fallback": "model_timeout", "policy": "popularity"}, "fallback", "fallback answers, which no policy chose"),
        ({"propensities": []}, "no_propensities", "without propensities"),
    ],
)
def test_fallbacks_and_slates_without_propensities_are_left_out_and_too_many_refused(
    change: dict[str, object], reason: str, words: str
) -> None:
    slates = labelled(RAN, 2_000)
    silent = [changed(each, prediction=replace(each.prediction, **change)) for each in slates[:200]]
    found = asked([*silent[:100], *slates[100:]], "epsilon_greedy(0.3)")
    assert found.left_out == {reason: 100}
    assert found.slates == 1_900
    with pytest.raises(
        UsageError, match=f"200 of 2,000 slates say nothing about another policy: 200 {words}. At most 5% may"
    ):
        asked([*silent, *slates[200:]], "epsilon_greedy(0.3)")


def test_too_small_an_effective_sample_size_is_refused_with_the_numbers() -> None:
    with pytest.raises(
        UsageError, match=r"effective sample size \d+\.\d at slot 1 of 1,100 slates .*: 1,000 are needed"
    ):
        asked(labelled(RAN, 1_100), "greedy")


def test_weights_that_miss_one_are_refused() -> None:
    weight = np.tile([[1.0, 0.5], [1.0, 1.2]], (2_000, 1))
    with pytest.raises(UsageError, match=r"mean weight 0.8500 ± 0.0055 at slot 1, expected 1"):
        check_weights(weight)


def test_a_log_that_lost_some_of_its_slates_is_refused() -> None:
    best = [each for each in labelled(RAN, 4_000) if each.prediction.propensities[0] > np.log(0.5)]
    with pytest.raises(UsageError, match=r"mean weight 1.3750 ± 0.0000 at slot 0, expected 1"):
        asked(best, "epsilon_greedy(0.1)")


def test_thompson_sampling_cannot_be_asked() -> None:
    with pytest.raises(UsageError, match="heads' scores are not logged"):
        recall([], parse("thompson"))


def test_a_range_with_nothing_settled_says_how_much_is_open() -> None:
    nothing: Recalled = recall([], RAN)
    with pytest.raises(UsageError, match="no slate of this range has settled: 12 are still open"):
        check_silent(Counter(unsettled=12), len(nothing.logged), nothing.certain_policies)


def test_the_built_logs_are_clicked_as_often_as_their_items_attract() -> None:
    slates = labelled(RAN, 5_000)
    expected = sum(ATTRACTION[item] for slate in slates for item in slate.prediction.items)
    assert sum(sum(slate.clicked) for slate in slates) == pytest.approx(expected, rel=0.05)
