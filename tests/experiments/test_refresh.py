"""Which model is served at which time, by how often it is refreshed."""

from __future__ import annotations

import math

import pytest

from everloop.experiments.freshness import REFRESHES
from everloop.experiments.policies import Refresh, Waiting
from newsroom.articles import DAY


def times(every_s: float, start: float, end: float, warm_until_s: float = DAY) -> list[float]:
    """All refreshes after one time up to another."""
    found, refresh = [start], Refresh(every_s, warm_until_s=warm_until_s)
    while (following := refresh.after(found[-1])) <= end:
        found.append(following)
    return found[1:]


@pytest.mark.parametrize("name", list(REFRESHES))
def test_on_the_first_day_all_are_refreshed_every_minute_and_at_its_end(name: str) -> None:
    assert times(REFRESHES[name], 0.0, DAY) == [60.0 * k for k in range(1, 1_441)]


def test_afterwards_frozen_stays_as_it_is_and_the_others_come_at_their_times() -> None:
    after = {name: times(every_s, DAY, 3 * DAY) for name, every_s in REFRESHES.items()}
    assert after["frozen"] == []
    assert after["daily"] == [2 * DAY, 3 * DAY]
    assert after["hourly"] == [DAY + 3_600.0 * k for k in range(1, 49)]
    assert len(after["minutes"]) == 2 * 1_440
    assert len(after["living"]) == 2 * 86_400


def test_a_refresh_is_never_at_the_time_itself_nor_skipped() -> None:
    assert Refresh(3_600.0).after(7_200.0) == 10_800.0
    assert Refresh(3_600.0).after(7_199.5) == 7_200.0
    assert Refresh(3_600.0, warm_until_s=90.0).after(61.0) == 90.0
    assert math.isinf(Refresh(math.inf).after(5.0))


def test_what_waits_goes_out_once_in_order_when_its_time_has_come() -> None:
    import numpy as np

    waiting = Waiting(1)
    waiting.add(np.array([3.0, 1.0, 2.0]), np.array([[3], [1], [2]]), np.array([0, 1, 2], np.int8))
    rows, kinds = waiting.take(2.0)
    assert rows.ravel().tolist() == [1, 2]
    assert kinds.tolist() == [1, 2]
    assert waiting.take(2.5)[0].tolist() == []
    assert waiting.take(9.0)[0].tolist() == [[3]]
