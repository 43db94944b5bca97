"""The policies on a small stage: who knows more does better, and all meet the same luck."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from everloop.experiments.emission import LabelRule
from everloop.experiments.front import FrontPage, front_page, once
from everloop.experiments.plots import bars, lines
from everloop.experiments.policies import (
    ELSEWHERE,
    EXPLORE,
    LEFT,
    More,
    Refresh,
    explored,
    model,
    most_read,
    noticed,
    oracle,
    popularity,
    ranked,
    uniform,
    unshown,
)
from everloop.experiments.stage import BUCKETS, Stage, stage
from feedback.events import NEGATIVE, REVISION
from newsroom.settings import ReaderSettings, WorldSettings

RULE = LabelRule(hold_s=0.0)
WORLD = WorldSettings(days=0.2, readers=ReaderSettings(visits_per_day=40_000.0))


@pytest.fixture(scope="module")
def here() -> Stage:
    return stage(WORLD, 1)


@pytest.fixture(scope="module")
def front() -> FrontPage:
    return front_page(WORLD, 1)


def test_the_oracle_shows_the_most_attractive_first_and_nobody_expects_more(here: Stage) -> None:
    slates = oracle(here).slates
    shown = np.take_along_axis(here.attraction, slates, axis=1)
    assert (np.diff(shown, axis=1) <= 0).all()
    assert np.array_equal(shown[:, 0], here.attraction.max(axis=1))
    best = oracle(here).truth(here).sum(axis=1)
    assert (uniform(here).truth(here).sum(axis=1) <= best + 1e-6).all()


def test_random_shows_each_candidate_as_often_as_another(here: Stage) -> None:
    counts = np.bincount(uniform(here).slates.ravel(), minlength=here.offered.shape[1])
    expected = counts.sum() / len(counts)
    assert np.abs(counts - expected).max() < 5 * math.sqrt(expected)


def test_all_show_an_article_once_and_are_clicked_where_luck_is_below_the_truth(here: Stage) -> None:
    for played in (oracle(here), uniform(here), *popularity(here, (1_800.0,)), model(here, Refresh(60.0), RULE)):
        assert (np.diff(np.sort(played.slates, axis=1), axis=1) > 0).all()
        truth, clicked = played.truth(here), played.clicked(here)
        assert abs(clicked.sum() - truth.sum()) < 5 * np.sqrt((truth * (1 - truth)).sum())


def test_exploring_gives_the_stated_share_of_slots_away_and_leaves_the_others_ranked() -> None:
    random = np.random.default_rng(3)
    scores = random.random((20_000, 30)).astype(np.float32)
    dice = random.random((20_000, 10)).astype(np.float32)
    found, plain = explored(scores, dice, 5), ranked(scores, 5)
    untouched = (dice[:, :5] >= EXPLORE).all(axis=1)
    assert np.array_equal(found[untouched], plain[untouched])
    changed = (found[:, 0] != plain[:, 0]).mean()
    assert changed == pytest.approx(EXPLORE * 29 / 30, rel=0.5)
    assert (found[~untouched] != plain[~untouched]).any(axis=1).mean() > 0.8


def test_a_model_that_is_never_refreshed_never_learns_and_a_fresh_one_does(here: Stage) -> None:
    frozen, living = (model(here, Refresh(every_s), RULE) for every_s in (math.inf, 10.0))
    half = here.t > here.t[-1] / 2
    rates = [played.truth(here)[half].mean() for played in (uniform(here), frozen, living, oracle(here))]
    assert rates[1] == pytest.approx(rates[0], rel=0.05)
    assert rates[0] * 1.1 < rates[2] < rates[3]


def test_a_frozen_model_shows_what_a_fresh_one_shows_until_it_is_frozen_and_not_after(here: Stage) -> None:
    warm = 6_000.0
    one, other = (model(here, Refresh(every_s, warm_until_s=warm), RULE) for every_s in (math.inf, 60.0))
    alike = (one.slates == other.slates).all(axis=1)
    assert alike[here.t < warm + 60].all()
    assert not alike[here.t > warm + 600].all()


def test_a_label_that_is_held_back_is_not_learned_before_its_time(here: Stage) -> None:
    held = model(here, Refresh(10.0), replace(RULE, hold_s=3_000.0, positives="at_close"))
    untaught = model(here, Refresh(math.inf), RULE)
    early = here.t < 3_000.0
    assert np.array_equal(held.slates[early], untaught.slates[early])
    assert not np.array_equal(held.slates[here.t > 4_000.0], untaught.slates[here.t > 4_000.0])


def test_plots_come_out_the_same_twice_and_differ_with_the_figures(tmp_path: Path) -> None:
    for name, shift in (("a", 0.0), ("b", 0.0), ("c", 0.5)):
        bars(tmp_path / name / "bars.svg", ["one", "two"], [[0.1, 0.2], [0.3, 0.4 + shift]], "rate")
        lines(tmp_path / name / "lines.svg", {"one": np.array([0.0, 1.0 + shift, 3.0])}, "hour", "clicks")
    for plot in ("bars.svg", "lines.svg"):
        one, two, other = ((tmp_path / name / plot).read_bytes() for name in "abc")
        assert one == two != other
        assert b"<svg" in one
    assert b">two<" in (tmp_path / "a" / "bars.svg").read_bytes()


def test_who_is_told_more_does_better(here: Stage, front: FrontPage) -> None:
    told: tuple[list[More], ...] = ([], [noticed(front, RULE)], [noticed(front, RULE), unshown(RULE)])
    half = here.t > here.t[-1] / 2
    rates = [model(here, Refresh(10.0), RULE, more=more).truth(here)[half].mean() for more in told]
    assert rates == sorted(rates)
    assert rates[0] * 1.02 < rates[1]


def test_what_was_not_shown_is_told_once_each_and_with_its_luck(here: Stage) -> None:
    part, slate = slice(100, 200), ranked(here.attraction[100:200], 5)
    when, rows, kind = unshown(RULE)(here, part, slate)
    negatives = kind == NEGATIVE
    assert negatives.sum() == 100 * (here.offered.shape[1] - 5)
    assert set(kind.tolist()) == {NEGATIVE, REVISION}
    lucky = here.luck[part] < here.attraction[part]
    shown = np.take_along_axis(lucky, slate, axis=1).sum()
    assert 0 < (kind == REVISION).sum() <= lucky.sum() - shown
    assert (rows[:, -1] == BUCKETS + 5 + LEFT).all()
    assert when[negatives].min() == here.t[100]


def test_the_front_page_is_told_in_its_time_and_one_article_of_each_visit_is_opened(
    here: Stage, front: FrontPage
) -> None:
    part = slice(1_000, 1_200)
    when, rows, kind = noticed(front, RULE)(here, part, np.empty((200, 5), np.int64))
    negatives = kind == NEGATIVE
    assert (here.t[part.start] <= when[negatives]).all() and (when[negatives] < here.t[part.stop]).all()
    assert (kind == REVISION).sum() == 200
    assert 200 * 2 < negatives.sum() <= 200 * WORLD.taste.headlines
    assert (rows[:, -1] == BUCKETS + 5 + ELSEWHERE).all()


def test_an_article_that_stands_twice_among_the_headlines_is_noticed_once() -> None:
    found = once(np.array([[3, 1, 3, 3], [2, 2, 1, 0]]))
    assert found.tolist() == [[True, True, False, False], [True, False, True, True]]


def test_most_read_ranks_by_what_was_opened_before_and_never_by_this_visit(here: Stage, front: FrontPage) -> None:
    [played] = most_read(here, front, [math.inf])
    k = len(here) - 1
    opened = np.bincount(front.article[:k], minlength=int(here.offered.max()) + 1)
    best = here.offered[k][np.argsort(-opened[here.offered[k]], kind="stable")[:5]]
    assert len(set(here.offered[k][played.slates[k]].tolist()) - set(best.tolist())) <= 1
