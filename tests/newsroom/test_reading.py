"""What readers read by themselves, and what they look at in a slate."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from newsroom.arrival import dwell
from newsroom.log import HOUR, logged
from newsroom.reading import sample
from newsroom.settings import ArrivalSettings, ReaderSettings, SlateSettings, WorldSettings
from newsroom.world import World

SETTINGS = WorldSettings(days=0.3, readers=ReaderSettings(visits_per_day=100_000.0))


@pytest.fixture(scope="module")
def world() -> World:
    return World(SETTINGS, seed=2)


def test_a_session_goes_from_page_to_page_and_each_knows_the_one_before(world: World) -> None:
    visits = world.visits
    assert (np.diff(visits.t) >= 0).all()
    session, page = visits.id // 1_000, visits.id % 1_000
    order = np.lexsort((page, session))
    same = np.diff(session[order]) == 0
    assert same.sum() > 1_000
    assert np.array_equal(visits.previous[order][1:][same], visits.article[order][:-1][same])
    assert (visits.previous[page == 0] == -1).all()
    pauses = np.diff(visits.t[order])[same]
    assert (pauses > 0).all()
    assert pauses.mean() == pytest.approx(SETTINGS.readers.pause_s, rel=0.1)


def test_nobody_reads_an_article_before_it_is_published(world: World) -> None:
    # Popularity is looked up by the minute: within its first half an article may be read a little too early.
    assert (world.visits.t - world.articles.published[world.visits.article] > -30.0).all()


def test_every_reader_has_noticed_what_he_reads_and_chooses_by_taste_among_it(world: World) -> None:
    visits = world.visits
    noticed = world.noticed(visits)
    assert noticed.shape == (len(visits), SETTINGS.taste.headlines)
    chosen = noticed == visits.article[:, None]
    assert chosen.any(axis=1).all()
    # The most attractive of what he noticed is read more often than any other: the front page tells of tastes.
    best = np.argmax(world.attraction(visits, noticed), axis=1)
    hit = chosen[np.arange(len(visits)), best]
    assert hit.mean() > 2 * chosen.mean()


def test_headlines_are_drawn_in_proportion_to_popularity(world: World) -> None:
    t = np.full(4_000, 3_630.0)
    drawn = sample(world.articles, t, 20, 1, "test", np.arange(len(t)))
    some, logs = world.articles.minutes[60]
    share = np.exp(logs.astype(np.float64) - logs.max())
    share /= share.sum()
    best = np.argsort(-share)[:5]
    found = [(drawn == some[k]).mean() for k in best]
    assert found == pytest.approx(share[best], rel=0.1)
    flat = sample(world.articles, t, 20, 1, "test", np.arange(len(t)), temper=0.0)
    assert (flat == some[best[0]]).mean() == pytest.approx(1 / len(some), rel=0.5)


def test_a_lower_position_is_looked_at_less_by_the_stated_power_and_nothing_else(world: World) -> None:
    visits = world.visits
    offered = world.candidates(visits)
    top = world.probabilities(visits, offered[:, [0, 1, 2, 3, 4]])
    turned = world.probabilities(visits, offered[:, [4, 3, 2, 1, 0]])
    power = SETTINGS.slates.examination
    assert (turned[:, ::-1] / top)[:, 0] == pytest.approx(5.0**-power, rel=1e-9)
    assert (turned[:, ::-1] / top)[:, 1] == pytest.approx((4 / 2) ** -power, rel=1e-9)
    assert top[:, 0] == pytest.approx(world.attraction(visits, offered[:, :1])[:, 0], rel=1e-12)
    flat = World(replace(SETTINGS, slates=replace(SETTINGS.slates, examination=0.0)), seed=2)
    assert flat.examination.tolist() == [1.0] * SETTINGS.slates.positions


def test_position_bias_is_in_the_clicks_too(world: World) -> None:
    visits = world.visits
    clicked = world.clicks(visits, world.candidates(visits)[:, :5])
    rates = clicked.mean(axis=0)
    assert rates / rates[0] == pytest.approx(world.examination, abs=0.06)


def test_each_of_a_section_tires_readers_of_the_next(world: World) -> None:
    tired = World(replace(SETTINGS, slates=replace(SETTINGS.slates, fatigue=0.4)), seed=2)
    section = tired.articles.section
    alike = np.flatnonzero(section == section[0])[:2]
    other = np.flatnonzero(section != section[0])[:1]
    slate = np.array([[alike[0], other[0], alike[1]]])
    assert tired.looked_at(slate)[0] == pytest.approx(tired.examination[:3] * [1.0, 1.0, 0.6])
    assert world.looked_at(slate)[0] == pytest.approx(world.examination[:3])


def test_reading_takes_the_stated_time_in_the_middle_and_has_a_long_tail() -> None:
    many = np.arange(40_000)
    found = dwell(ArrivalSettings(dwell_s=60.0), 1, many, many)
    assert np.median(found) == pytest.approx(60.0, rel=0.04)
    assert np.log(found).std() == pytest.approx(1.0, rel=0.02)
    assert (found > 600.0).mean() == pytest.approx(0.0107, rel=0.3)


def test_the_log_has_one_click_a_slate_among_articles_that_were_read_in_the_hour_before(world: World) -> None:
    visits = world.visits
    log = logged(visits, world.articles)
    assert (log.y.sum(axis=1) == 1).all()
    clicked = log.item[log.y > 0]
    kept = np.isin(visits.t, log.t)
    assert kept.mean() > 0.95
    assert np.array_equal(clicked, visits.article[kept][: len(clicked)])
    # The click stands in any place as often as in another.
    assert log.y.mean(axis=0) == pytest.approx(0.2, abs=0.02)
    for k in range(0, len(log), len(log) // 50):
        window = visits.article[(visits.t < log.t[k]) & (visits.t >= log.t[k] - HOUR)]
        assert np.isin(log.item[k][log.y[k] == 0], window).all()
        assert len(set(log.item[k].tolist())) == 5


def test_more_candidates_than_there_are_articles_are_refused_with_the_numbers() -> None:
    from feedback.errors import UsageError

    small = WorldSettings(days=0.01, slates=SlateSettings(candidates=125, pool=500))
    few = World(replace(small, articles=replace(small.articles, per_day=50.0)), seed=1)
    with pytest.raises(UsageError, match=r"slates\.candidates = 125 are asked for"):
        few.candidates(few.visits)
