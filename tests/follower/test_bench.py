"""The figures of a swap, from requests whose latencies are known."""

from __future__ import annotations

import pytest

from feedback.clock import SECOND
from serving.follower.bench import Shot, p99_ratio, windows


def test_the_ratio_compares_requests_in_the_windows_with_all_others() -> None:
    canary = {"version": 3, "asked": 0, "moved": 1, "live": 0}
    swaps = windows([{"version": 2, "asked": 10 * SECOND, "moved": 12 * SECOND, "live": 1}, canary])
    assert swaps == [(10 * SECOND, 13 * SECOND)]
    shots = [Shot(at * SECOND // 10, 0.02 if 100 <= at <= 130 else 0.01, 1) for at in range(200)]
    found = p99_ratio(shots, swaps)
    assert found.value == pytest.approx(2.0)
    assert (found.inside, found.outside) == (31, 169)
    assert found.low <= found.value <= found.high
