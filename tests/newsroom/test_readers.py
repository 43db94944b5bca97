"""Readers come and come back, new ones all the time; what each likes drifts, and differs from the next one's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from newsroom import readers
from newsroom.articles import READING, Articles
from newsroom.keyed import Doubles
from newsroom.readers import sessions
from newsroom.settings import ArticleSettings, ReaderSettings, TasteSettings
from newsroom.taste import Taste

MANY = ReaderSettings(visits_per_day=60_000.0)


def test_the_ordered_share_of_sessions_is_a_new_readers_from_the_first_hour_to_the_last() -> None:
    found = sessions(MANY, 1, 2.0)
    new = np.zeros(len(found.reader), np.bool_)
    new[np.unique(found.reader, return_index=True)[1]] = True
    assert new[0]
    for part in np.array_split(new, 4):
        assert abs(part.mean() - MANY.fresh) < 5 * np.sqrt(MANY.fresh * (1 - MANY.fresh) / len(part))
    assert found.reader.max() + 1 == new.sum()


def test_who_comes_back_was_here_before_and_mostly_lately() -> None:
    found = sessions(replace(MANY, fresh=0.5), 1, 2.0)
    first = np.unique(found.reader, return_index=True)[1][found.reader]
    here = np.arange(len(first))
    back = first < here
    assert back.mean() == pytest.approx(0.5, abs=0.02)
    # An earlier session is drawn at 2/3 of the way on average; half of them are a first one, the others point further back in turn.
    assert (first[back] / here[back]).mean() == pytest.approx(0.5, abs=0.03)


def test_all_are_new_or_none_is_where_that_is_ordered() -> None:
    assert np.array_equal(
        sessions(replace(MANY, fresh=1.0), 1, 0.2).reader, np.arange(len(sessions(MANY, 1, 0.2).reader))
    )
    assert set(sessions(replace(MANY, fresh=0.0), 1, 0.2).reader.tolist()) == {0}


def test_sessions_follow_the_hours_and_have_the_ordered_number_of_pages() -> None:
    found = sessions(replace(MANY, visits_per_day=400_000.0), 1, 2.0)
    by_hour = np.bincount((found.start // 3600).astype(int) % 24, minlength=24) / len(found.start)
    assert np.abs(by_hour - READING / READING.sum()).max() < 0.005
    assert found.pages.min() == 1
    assert found.pages.mean() == pytest.approx(MANY.pages, rel=0.02)
    assert (found.pages == 1).mean() == pytest.approx(1 / MANY.pages, rel=0.02)
    assert (sessions(replace(MANY, pages=1.0), 1, 0.2).pages == 1).all()


def test_where_readers_live_and_what_they_use_is_as_in_the_log_and_stays() -> None:
    many = np.arange(100_000)
    for name, shares in (("region", readers.REGIONS), ("system", readers.SYSTEMS), ("device", readers.DEVICES)):
        drawn = getattr(readers, name)(1, many)
        assert np.array_equal(drawn, getattr(readers, name)(1, many))
        assert np.abs(np.bincount(drawn, minlength=len(shares)) / len(many) - shares / shares.sum()).max() < 0.006, name


@pytest.fixture(scope="module")
def articles() -> Articles:
    return Articles(ArticleSettings(), 1, 1.0, 12)


ONLY_INTEREST = TasteSettings(previous=0.0, referrer=0.0, region=0.0, system=0.0, interest=0.4, interest_s=40_000.0)


def tastes(taste: Taste, article: int, t: Doubles, reader: int) -> Doubles:
    one = np.zeros(1, np.int64)
    found = taste.of(
        np.array([article]), t, previous=one, referrer=one, region=one, system=one, reader=np.array([reader])
    )
    return found.astype(np.float64)


def test_interests_drift_slowly_and_are_others_in_the_end(articles: Articles) -> None:
    taste = Taste(ONLY_INTEREST, 1, articles)
    t = np.arange(0.0, 400_000.0, 400.0)
    paths = np.array([tastes(taste, 0, t, reader) for reader in range(300)])
    assert paths.std() == pytest.approx(ONLY_INTEREST.interest, rel=0.1)
    # In a hundredth of the time that interests stay they hardly move, and never jump.
    assert np.abs(np.diff(paths)).max() < 0.2
    now, soon, then = paths[:, 0], paths[:, 10], paths[:, 500]
    assert np.corrcoef(now, soon)[0, 1] > 0.9
    assert abs(np.corrcoef(now, then)[0, 1]) < 0.25


def test_an_interest_is_in_a_section_not_in_an_article(articles: Articles) -> None:
    taste = Taste(ONLY_INTEREST, 1, articles)
    alike = np.flatnonzero(articles.section == articles.section[0])
    other = int(np.flatnonzero(articles.section != articles.section[0])[0])
    t = np.array([1_000.0])
    assert tastes(taste, int(alike[1]), t, 3) == tastes(taste, 0, t, 3)
    assert tastes(taste, other, t, 3) != tastes(taste, 0, t, 3)
    assert tastes(taste, 0, t, 4) != tastes(taste, 0, t, 3)


@pytest.mark.parametrize("moving", [0.0, 0.45, 1.0])
def test_of_what_draws_readers_the_ordered_share_changes_while_an_article_lives(
    articles: Articles, moving: float
) -> None:
    settings = replace(ONLY_INTEREST, previous=2.0, interest=0.0, moving=moving, moving_s=1_000.0)
    taste = Taste(settings, 1, articles)
    some, one = articles.ids[:1000], np.zeros(1, np.int64)
    before, after = (
        taste.of(some, np.array([t]), previous=one + 7, referrer=one, region=one, system=one, reader=one)
        for t in (500.0, 5_500.0)
    )
    assert before.std() == pytest.approx(2.0, rel=0.1)
    assert np.corrcoef(before, after)[0, 1] == pytest.approx(1 - moving, abs=0.1)
