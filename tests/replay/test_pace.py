from __future__ import annotations

import math

from everloop.replay.pace import Pace


def test_event_time_runs_at_the_given_speed() -> None:
    pace = Pace(begin_us=1_000_000, began_s=50.0, speed=100.0)
    assert pace.event_time(50.5) == 51_000_000
    assert pace.wait_s(51_000_000, 50.25) == 0.25
    assert pace.wait_s(51_000_000, 60.0) == 0.0


def test_speed_zero_holds_nothing_back() -> None:
    pace = Pace(begin_us=0, began_s=0.0, speed=0.0)
    assert pace.event_time(0.0) == math.inf
    assert pace.wait_s(10**15, 0.0) == 0.0
