"""Articles come through the day, rise, fall and differ: as the settings say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from newsroom.articles import DAY, PAST, PUBLISHING, Articles
from newsroom.keyed import Doubles
from newsroom.settings import ArticleSettings

PLAIN = ArticleSettings(placement=0.0, life_spread=0.0)
"""Every article rises and falls alike, and nobody moves it."""


def curve(articles: Articles, article: int, ages: list[float]) -> Doubles:
    """An article's popularity at some ages, s, in parts of its weight."""
    logs = articles.log_popularity(np.array([article]), articles.published[article] + np.array(ages))
    height = articles.weight[article] + articles.settings.breaking * articles.breaking[article]
    found: Doubles = np.exp(logs.astype(np.float64) - height)
    return found


def one(articles: Articles, *, breaking: bool) -> int:
    return int(np.flatnonzero(articles.breaking == breaking)[0])


def test_as_many_are_published_as_the_settings_say_most_of_them_by_day() -> None:
    found = Articles(ArticleSettings(), 1, 20.0, 12)
    expected = ArticleSettings().per_day * (20.0 + PAST / DAY)
    assert abs(len(found.ids) - expected) < 5 * np.sqrt(expected) + 0.5 * ArticleSettings().per_day
    whole = found.published[(found.published >= 0)]
    by_hour = np.bincount((whole // 3600).astype(int) % 24, minlength=24) / len(whole)
    assert np.abs(by_hour - PUBLISHING / PUBLISHING.sum()).max() < 0.01
    assert (np.diff(found.published) >= 0).all()


def test_nobody_reads_what_is_not_published_yet() -> None:
    found = Articles(PLAIN, 1, 1.0, 12)
    assert curve(found, 5, [-1.0, -3600.0]).tolist() == [0.0, 0.0]


def test_popularity_bursts_to_its_share_within_the_rise_and_then_decays_by_e_each_life() -> None:
    found = Articles(PLAIN, 1, 1.0, 12)
    article, rise, life = one(found, breaking=False), PLAIN.rise_s, PLAIN.life_s
    at_rise = curve(found, article, [rise])[0]
    assert at_rise == pytest.approx((1 - np.exp(-1)) * np.exp(-rise / life), rel=1e-4)
    late = curve(found, article, [10 * rise, 10 * rise + life, 10 * rise + 2 * life])
    assert late[:-1] / late[1:] == pytest.approx(np.e, rel=1e-3)
    first = curve(found, article, [60.0, 120.0, 240.0])
    assert (np.diff(first) > 0).all()


def test_breaking_news_rises_ten_times_as_fast_and_stands_above_its_weight() -> None:
    found = Articles(replace(PLAIN, breaking_per_day=70.0), 1, 1.0, 12)
    news, other = one(found, breaking=True), one(found, breaking=False)
    tenth = PLAIN.rise_s / 10
    decay = np.exp(-tenth / PLAIN.life_s)
    assert curve(found, news, [tenth])[0] == pytest.approx((1 - np.exp(-1)) * decay, rel=1e-4)
    assert curve(found, other, [tenth])[0] == pytest.approx((1 - np.exp(-0.1)) * decay, rel=1e-4)
    at = found.log_popularity(np.array([news]), found.published[news] + np.array([10.0 * PLAIN.rise_s]))[0]
    assert at - found.weight[news] == pytest.approx(PLAIN.breaking - 10 * PLAIN.rise_s / PLAIN.life_s, abs=1e-3)


def test_as_much_is_breaking_as_the_settings_say() -> None:
    found = Articles(ArticleSettings(breaking_per_day=140.0), 1, 20.0, 12)
    assert found.breaking.mean() == pytest.approx(0.1, abs=0.01)
    assert not Articles(ArticleSettings(breaking_per_day=0.0), 1, 1.0, 12).breaking.any()


def test_lifetimes_have_the_stated_median_and_spread_and_weights_the_stated_spread() -> None:
    settings = ArticleSettings()
    found = Articles(settings, 1, 10.0, 12)
    assert np.median(found.life) == pytest.approx(settings.life_s, rel=0.05)
    assert np.log(found.life).std() == pytest.approx(settings.life_spread, rel=0.05)
    assert found.weight.std() == pytest.approx(settings.spread, rel=0.05)


def test_an_editor_moves_an_article_now_and_then_and_leaves_it_where_it_is_in_between() -> None:
    moved = Articles(replace(PLAIN, placement=0.45), 1, 1.0, 12)
    still = Articles(PLAIN, 1, 1.0, 12)
    t = np.arange(6 * 3600.0, 18 * 3600.0, 60.0)
    article = np.array([int(np.searchsorted(still.published, 0.0))])
    shift = moved.log_popularity(article, t) - still.log_popularity(article, t)
    places = np.flatnonzero(np.abs(np.diff(shift)) > 1e-3)
    expected = (t[-1] - t[0]) / PLAIN.placement_s
    assert abs(len(places) - expected) <= 1
    assert np.abs(np.diff(places * 60.0) - PLAIN.placement_s).max() <= 60.0


def test_a_minute_lists_what_is_read_in_it_and_nothing_that_is_hardly_read() -> None:
    found = Articles(ArticleSettings(), 1, 0.1, 12)
    some, logs = found.minutes[60]
    assert np.array_equal(logs, found.log_popularity(some, np.array(60 * 60.0 + 30.0)))
    assert (logs > logs.max() + np.log(1e-4)).all()
    everything = found.log_popularity(found.ids, np.array(60 * 60.0 + 30.0))
    assert len(some) == (everything > everything.max() + np.log(1e-4)).sum()
