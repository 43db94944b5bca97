"""The experiment itself, in small: its truths are true, and its figures are all there."""

from __future__ import annotations

import numpy as np
import pytest

from everloop.experiments.assumptions import SLOTS, WORLDS, requests, value
from everloop.experiments.evaluation import ASKED, biases, coverage, errors, room
from everloop.experiments.openbandit import compared
from everloop.experiments.slates import drawn

ESTIMATORS = {"ips", "snips", "rips", "sn_rips", "dr", "switch_dr", "pseudo_inverse"}


def test_the_newsrooms_truth_is_what_slates_of_the_policy_bring() -> None:
    here, random = room(3, 4_000), np.random.default_rng(3)
    brought = []
    for _ in range(10):
        slates, _ = drawn(ASKED, here.scores, len(here.examination), random)
        truth = np.take_along_axis(here.attraction, slates, axis=1) * here.examination
        brought.append(truth.sum(axis=1).mean())
    assert here.value() == pytest.approx(np.mean(brought), rel=0.005)


@pytest.mark.parametrize("world", WORLDS)
def test_the_small_worlds_truth_is_what_slates_of_the_policy_bring(world: str) -> None:
    random = np.random.default_rng(4)
    them = requests(50_000, random)
    slates, _ = drawn(ASKED, them.scores, SLOTS, random)
    brought = WORLDS[world](them, slates).sum(axis=1).mean()
    assert value(WORLDS[world], them, ASKED) == pytest.approx(brought, rel=0.01)


def test_the_same_seed_gives_the_same_figures() -> None:
    assert list(errors(2, 2_000)) == list(errors(2, 2_000))
    assert list(biases(1, 2_000)) == list(biases(1, 2_000))


def test_every_estimator_is_measured_in_every_way() -> None:
    names = {each.name for each in [*errors(1, 2_000), *coverage(2_000, 3), *biases(1, 2_000)]}
    assert {f"rel_rmse_{name}" for name in ESTIMATORS} < names
    assert {f"coverage_{name}" for name in ESTIMATORS} < names
    assert {f"bias_{world}_{name}" for world in WORLDS for name in ESTIMATORS} < names
    assert {"ope_rel_rmse", "coverage", "least_effective_sample_size"} < names


@pytest.mark.slow
def test_the_open_bandit_pipeline_says_the_same() -> None:
    peers = compared()
    assert {peer.figure for peer in peers} >= {"sample_ips", "sample_snips", "sample_dr", "slates_sn_rips", "slates_dr"}
    assert {peer.figure: peer.ratio for peer in peers} == pytest.approx({peer.figure: 1.0 for peer in peers}, abs=1e-9)
