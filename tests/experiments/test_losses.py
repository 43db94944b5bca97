"""What each loss teaches, against the formulas of its source written out in plain numpy."""

from __future__ import annotations

import numpy as np
import pytest

from everloop.experiments.ftrl import Floats
from everloop.experiments.losses import DelayedFeedback, ElapsedTime, FakeNegative, Kinds, Loss, Plain, Reversal
from feedback.events import NEGATIVE, POSITIVE, REVISION

P = np.array([0.02, 0.3, 0.5, 0.9], np.float32)
NEVER = np.zeros(4, np.float32)


def kinds(kind: int) -> Kinds:
    return np.full(4, kind, np.int8)


@pytest.mark.parametrize("loss", [Plain(), Reversal(), FakeNegative(), DelayedFeedback(10.0), ElapsedTime()])
def test_a_negative_teaches_down_and_a_positive_up(loss: Loss) -> None:
    assert (loss.gradient(P, kinds(NEGATIVE), NEVER) > 0).all()
    assert (loss.gradient(P, kinds(POSITIVE), NEVER + 1) < 0).all()


def test_plain_and_reversal_differ_in_revisions_only_and_a_revision_takes_the_negative_back() -> None:
    for kind, label in ((NEGATIVE, 0), (POSITIVE, 1)):
        for loss in (Plain(), Reversal()):
            assert loss.gradient(P, kinds(kind), NEVER) == pytest.approx(P - label)
    assert Plain().gradient(P, kinds(REVISION), NEVER) == pytest.approx(P - 1)
    both = Reversal().gradient(P, kinds(NEGATIVE), NEVER) + Reversal().gradient(P, kinds(REVISION), NEVER)
    assert both == pytest.approx(P - 1)


def test_fake_negatives_are_weighted_with_the_clipped_prediction() -> None:
    c = np.minimum(P, 0.5)
    assert FakeNegative().gradient(P, kinds(NEGATIVE), NEVER) == pytest.approx((1 - c) * (1 + c) * P)
    assert FakeNegative().gradient(P, kinds(REVISION), NEVER) == pytest.approx((1 + c) * (P - 1))
    assert FakeNegative().gradient(P, kinds(POSITIVE), NEVER) == pytest.approx(P - 1)


def test_delayed_feedback_is_the_slope_of_chapelles_likelihood() -> None:
    hold_s = 10.0
    loss = DelayedFeedback(hold_s)
    # It begins with one click of hold_s; nothing clicked is in this step.
    rate = 1.0 / hold_s
    z = np.log(P / (1 - P)).astype(np.float64)

    def likelihood(logit: Floats) -> Floats:
        p = 1 / (1 + np.exp(-logit))
        found: Floats = -np.log(1 - p + p * np.exp(-rate * hold_s))
        return found

    slope = (likelihood(z + 1e-5) - likelihood(z - 1e-5)) / 2e-5
    assert loss.gradient(P, kinds(NEGATIVE), NEVER) == pytest.approx(slope, rel=1e-4)
    assert not loss.gradient(P, kinds(REVISION), NEVER + 5).any()


def settled(loss: Loss, mean_s: float, hold_s: float, truth: float) -> float:
    """The prediction at which the loss teaches nothing more, where clicks come after exponential delays."""
    random = np.random.default_rng(7)
    count = 200_000
    delay = np.where(random.random(count) < truth, random.exponential(mean_s, count), np.inf)
    first = np.where(delay <= hold_s, POSITIVE, NEGATIVE).astype(np.int8)
    late = np.isfinite(delay) & (delay > hold_s)
    all_kinds = np.concatenate([first, np.full(late.sum(), REVISION, np.int8)])
    delays = np.where(np.isfinite(delay), delay, 0).astype(np.float32)
    all_delays = np.concatenate([delays, delays[late]])
    order = random.permutation(len(all_kinds))
    logit = 0.0
    for at in np.array_split(order, 1_000):
        p = np.full(len(at), 1 / (1 + np.exp(-logit)), np.float32)
        logit -= 0.02 * float(loss.gradient(p, all_kinds[at], all_delays[at]).sum())
    return float(1 / (1 + np.exp(-logit)))


@pytest.mark.parametrize("hold_s", [5.0, 20.0])
def test_both_delay_models_find_the_true_rate_where_delays_are_exponential_and_plain_does_not(hold_s: float) -> None:
    truth, mean_s = 0.3, 20.0
    assert settled(DelayedFeedback(hold_s), mean_s, hold_s, truth) == pytest.approx(truth, abs=0.02)
    assert settled(ElapsedTime(), mean_s, hold_s, truth) == pytest.approx(truth, abs=0.02)
    assert settled(Plain(), mean_s, hold_s, truth) < truth - 0.02


def test_elapsed_time_weighs_by_what_is_still_to_come() -> None:
    # It begins with one early click and one late: half is known within the hold.
    later = P * 0.5
    expected = (1 + later) * (1 - P) / (1 - later) * P
    assert ElapsedTime().gradient(P, kinds(NEGATIVE), NEVER) == pytest.approx(expected)
    # Four more early clicks: five of six are.
    later = P / 6
    assert ElapsedTime().gradient(P, kinds(POSITIVE), NEVER) == pytest.approx((1 + later) * (P - 1))
