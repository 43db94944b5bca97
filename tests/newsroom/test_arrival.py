"""What becomes of clicks on their way: twice, late, with a wrong clock, each as often as was ordered."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from newsroom.arrival import CLICK, DWELL, Arrivals, arrivals, click_delay
from newsroom.reading import Visits
from newsroom.settings import ArrivalSettings

COUNT = 40_000


def visits(seed: int = 1) -> Visits:
    """Readers who come once a second, each of a hundred again and again."""
    which = np.arange(COUNT)
    return Visits(seed, which, which.astype(float), which % 100, which * 0, which * 0 - 1, which)


def arrived(seed: int = 1, **settings: float) -> Arrivals:
    """All that comes where every reader clicks on the one article of his slate."""
    some = visits(seed)
    slates = some.id[:, None]
    return arrivals(replace(ArrivalSettings(), **settings), some, slates, np.ones(slates.shape, np.bool_))


def test_a_click_comes_with_a_dwell_when_the_reading_is_over_and_neither_comes_twice() -> None:
    found = arrived()
    assert len(found) == 2 * COUNT == len(np.unique(found.event))
    order = np.lexsort((found.kind, found.request))
    kind, happened, value = (column[order].reshape(-1, 2) for column in (found.kind, found.happened, found.value))
    assert (kind == [CLICK, DWELL]).all()
    assert np.allclose(happened[:, 1] - happened[:, 0], value[:, 1])
    assert (value[:, 0] == 1).all()


def test_without_faults_each_comes_when_it_happened_in_the_order_of_time() -> None:
    found = arrived()
    assert np.array_equal(found.arrives, found.happened)
    assert np.array_equal(found.stamped, found.happened)
    assert (np.diff(found.arrives) >= 0).all()


@pytest.mark.parametrize("share", [0.02, 0.5, 1.0])
def test_the_ordered_share_comes_twice_and_a_repeat_differs_in_nothing_but_its_arrival(share: float) -> None:
    found = arrived(duplicate=share)
    _, first, count = np.unique(found.event, return_index=True, return_counts=True)
    assert set(count.tolist()) <= {1, 2}
    repeats = (count == 2).mean()
    assert abs(repeats - share) < 5 * np.sqrt(share * (1 - share) / len(count)) + 1e-12
    again = np.setdiff1d(np.arange(len(found)), first)
    originals = first[np.searchsorted(found.event[first], found.event[again])]
    for name in ("request", "article", "kind", "value", "happened", "stamped"):
        column = getattr(found, name)
        assert np.array_equal(column[again], column[originals]), name
    assert (found.arrives[again] > found.arrives[originals]).all()


def test_the_ordered_share_is_held_back_for_the_ordered_time() -> None:
    found = arrived(late=0.2, late_s=500.0)
    held = found.arrives - found.happened
    # What is not held back comes as it happened, to the last bit.
    assert abs((held > 0).mean() - 0.2) < 5 * np.sqrt(0.2 * 0.8 / len(held))
    assert held[held > 0].mean() == pytest.approx(500.0, rel=0.05)
    assert (np.diff(found.arrives) >= 0).all()
    assert (np.diff(found.happened) < 0).any()


def test_a_readers_clock_is_wrong_by_the_same_always_and_nobody_is_late_for_it() -> None:
    found = arrived(skew_s=7.0)
    wrong = found.stamped - found.happened
    by_reader = wrong[np.argsort(found.request % 100, kind="stable")].reshape(100, -1)
    assert np.ptp(by_reader, axis=1).max() < 1e-6
    assert 5.0 < by_reader[:, 0].std() < 9.0
    assert np.array_equal(found.arrives, found.happened)


def test_clicks_take_the_stated_time_on_average_and_are_skewed_unless_exponential_is_asked_for() -> None:
    some = visits()
    lognormal = click_delay(ArrivalSettings(delay_s=20.0, delay_spread=1.0), 1, some.id, some.article)
    assert lognormal.mean() == pytest.approx(20.0, rel=0.05)
    assert np.log(lognormal).std() == pytest.approx(1.0, rel=0.02)
    exponential = click_delay(ArrivalSettings(delay_s=20.0, delay_spread=0.0), 1, some.id, some.article)
    assert exponential.mean() == pytest.approx(20.0, rel=0.03)
    assert (exponential > 60.0).mean() == pytest.approx(np.exp(-3), rel=0.1)


def test_what_is_not_clicked_leaves_no_trace() -> None:
    some = visits()
    clicked = np.zeros((COUNT, 3), np.bool_)
    clicked[5, 2] = True
    slates = some.id[:, None] * 10 + np.arange(3)
    found = arrivals(ArrivalSettings(), some, slates, clicked)
    assert found.request.tolist() == [5, 5]
    assert found.article.tolist() == [52, 52]
