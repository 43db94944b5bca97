"""What holds of every estimator, whatever the log."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from everloop.evaluation.interval import Terms, interval, mean, ratio
from everloop.evaluation.inverse import ips, rips, sn_rips, snips
from everloop.evaluation.logged import Doubles
from everloop.evaluation.rewards import scaled
from everloop.evaluation.robust import doubly_robust, switch
from everloop.evaluation.weights import effective, weights

shapes = st.tuples(st.integers(2, 30), st.integers(1, 4))


@st.composite
def slates(draw: st.DrawFn) -> dict[str, Doubles]:
    shape = draw(shapes)
    numbers = arrays.arrays(np.float64, shape, elements=st.floats(0.0, 8.0).map(lambda value: round(value, 6)))
    return {name: draw(numbers) for name in ("weight", "rewards", "predicted", "expected")}


def every(log: dict[str, Doubles]) -> dict[str, Terms]:
    weight, rewards, models = log["weight"], log["rewards"], (log["predicted"], log["expected"])
    return {
        "ips": ips(weight, rewards),
        "snips": snips(weight, rewards),
        "rips": rips(weight, rewards),
        "sn_rips": sn_rips(weight, rewards),
        "dr": doubly_robust(weight, rewards, *models),
        "switch_dr": switch(weight, rewards, *models, threshold=2.0),
    }


@given(slates())
def test_under_the_policy_that_ran_the_answer_is_the_plain_mean(log: dict[str, Doubles]) -> None:
    log["weight"] = np.ones_like(log["weight"])
    log["expected"] = log["predicted"]
    plain = log["rewards"].sum(axis=1).mean()
    assert {name: terms.value for name, terms in every(log).items()} == pytest.approx(
        dict.fromkeys(every(log), plain), abs=1e-9
    )


@given(slates(), st.integers(0, 99))
def test_the_order_of_the_slates_does_not_matter(log: dict[str, Doubles], seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(log["weight"]))
    other = every({name: values[order] for name, values in log.items()})
    for name, terms in every(log).items():
        assert other[name].value == pytest.approx(terms.value, abs=1e-9)
        assert interval(other[name]).se == pytest.approx(interval(terms).se, abs=1e-9)


@given(slates())
def test_what_each_slate_adds_sums_to_nothing(log: dict[str, Doubles]) -> None:
    for terms in every(log).values():
        scale = max(1.0, float(np.abs(terms.influence).max()))
        assert terms.influence.mean() / scale == pytest.approx(0.0, abs=1e-9)


@given(slates())
def test_self_normalised_estimates_stay_inside_what_was_seen(log: dict[str, Doubles]) -> None:
    assert -1e-9 <= snips(log["weight"], log["rewards"]).value <= log["rewards"].sum(axis=1).max() + 1e-9
    assert -1e-9 <= sn_rips(log["weight"], log["rewards"]).value <= log["rewards"].max(axis=0).sum() + 1e-9


@given(slates())
def test_one_slot_needs_no_assumption(log: dict[str, Doubles]) -> None:
    one = {name: values[:, :1] for name, values in log.items()}
    assert rips(one["weight"], one["rewards"]).value == ips(one["weight"], one["rewards"]).value
    assert sn_rips(one["weight"], one["rewards"]).value == snips(one["weight"], one["rewards"]).value


@given(slates())
def test_a_model_that_is_always_right_leaves_no_noise_of_the_weights(log: dict[str, Doubles]) -> None:
    found = doubly_robust(
        log["weight"][:, :1], log["predicted"][:, :1], log["predicted"][:, :1], log["expected"][:, :1]
    )
    assert found.value == pytest.approx(log["expected"][:, 0].mean(), abs=1e-9)


@given(slates())
def test_a_switch_that_is_never_thrown_is_doubly_robust_and_one_always_thrown_is_the_model(
    log: dict[str, Doubles],
) -> None:
    weight, rewards, models = log["weight"], log["rewards"], (log["predicted"], log["expected"])
    assert switch(weight, rewards, *models, threshold=np.inf).value == doubly_robust(weight, rewards, *models).value
    first = switch(weight[:, :1] + 1, rewards[:, :1], models[0][:, :1], models[1][:, :1], threshold=0.5)
    assert first.value == pytest.approx(models[1][:, 0].mean(), abs=1e-9)


@given(arrays.arrays(np.float64, shapes, elements=st.floats(0.0, 1e300)))
def test_the_effective_sample_size_is_between_nothing_and_all(weight: Doubles) -> None:
    found = effective(weight)
    assert (found <= len(weight) * (1 + 1e-9)).all()
    assert ((found >= 1 - 1e-9) == (weight > 0).any(axis=0)).all()
    assert effective(np.ones((len(weight), 1))) == pytest.approx([len(weight)])


def test_an_impossible_prefix_weighs_nothing() -> None:
    logs = np.log(np.array([[0.5, 0.25]]))
    assert weights(logs, np.array([[0.0, -np.inf]])).tolist() == [[2.0, 0.0]]


def test_a_ratio_without_weights_is_nothing_rather_than_a_crash() -> None:
    found = ratio(np.zeros(3), np.zeros(3))
    assert found.value == 0.0
    assert found.influence.tolist() == [0.0, 0.0, 0.0]


def test_slates_of_one_reader_count_as_one_observation() -> None:
    terms = mean(np.array([1.0, 1.0, 0.0, 0.0]))
    alone, together = interval(terms), interval(terms, np.array([5, 5, 9, 9]))
    assert alone.se == pytest.approx(np.std([1, 1, 0, 0], ddof=1) / 2)
    assert together.se == pytest.approx(np.std([1, 0], ddof=1) / np.sqrt(2))
    assert together.high - together.value == pytest.approx(1.959964 * together.se, rel=1e-6)
    assert interval(terms, np.array([1, 1, 1, 1])).se == np.inf


def test_common_luck_cancels_in_a_difference() -> None:
    one = mean(np.array([1.0, 2.0, 6.0]))
    assert interval(one.less(mean(np.array([0.0, 1.0, 5.0])))).se == pytest.approx(0.0)


def test_no_slates_own_clicks_are_in_what_is_predicted_for_it() -> None:
    scores, readers = np.full((4, 1), 0.5), np.array([10, 11, 10, 11])
    rewards = np.array([[1.0], [0.0], [1.0], [0.0]])
    predicted, expected = scaled(rewards, scores, 2 * scores, readers)
    assert predicted.ravel().tolist() == [0.0, 1.0, 0.0, 1.0]
    assert expected.ravel().tolist() == [0.0, 2.0, 0.0, 2.0]
