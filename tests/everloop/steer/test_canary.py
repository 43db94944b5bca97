"""The canary's judge, on simulated readers."""

from __future__ import annotations

import numpy as np
import pytest

from everloop.steer.canary import Interval, Sequence, Users, judge
from everloop.steer.settings import CanarySettings
from feedback.clock import SECOND

SETTINGS = CanarySettings(grid=192, cap=8, clicks=2, low=0.01)


def readers(rng: np.random.Generator, users: int, rate: float) -> list[tuple[int, int]]:
    """Users differ in how much they ask and in how gladly they click: their requests are not independent."""
    requests = rng.integers(1, SETTINGS.cap + 1, users)
    taste = rng.beta(2.0, 2.0 / rate - 2.0, users)
    return list(zip(rng.binomial(requests, taste).tolist(), requests.tolist(), strict=True))


def test_looking_again_and_again_excludes_the_truth_no_more_often_than_promised() -> None:
    rng = np.random.default_rng(11)
    wrong, runs = 0, 120
    for _ in range(runs):
        sequence = Sequence(SETTINGS)
        live, canary = readers(rng, 320, 0.3), readers(rng, 320, 0.3)
        for start in range(0, 320, 32):
            for arm, users in (("live", live), ("canary", canary)):
                for clicks, requests in users[start : start + 32]:
                    sequence.add(arm, clicks, requests)  # type: ignore[arg-type]
            found = sequence.interval()
            if not found.low <= 0 <= found.high:
                wrong += 1
                break
    # 5 % are promised; beyond 11 of 120 the chance is below 1 in 100 if that held with nothing to spare.
    assert wrong <= 11


@pytest.mark.parametrize(("rate", "action"), [(0.12, "drop"), (0.45, "promote")])
def test_a_clear_difference_is_found(rate: float, action: str) -> None:
    rng = np.random.default_rng(5)
    sequence = Sequence(SETTINGS)
    for clicks, requests in readers(rng, 3000, 0.3):
        sequence.add("live", clicks, requests)
    for clicks, requests in readers(rng, 3000, rate):
        sequence.add("canary", clicks, requests)
    found = sequence.interval()
    assert found.low < rate / 0.3 - 1 < found.high
    assert judge(found, elapsed_s=1, settings=SETTINGS).action == action


def test_the_rules_of_the_verdict() -> None:
    def of(low: float, high: float, elapsed_s: float = 0) -> str:
        return judge(Interval(low, high, 5, 5), elapsed_s=elapsed_s, settings=SETTINGS).action

    assert of(-0.2, -0.001) == "drop"
    assert of(-0.009, 0.3) == "promote"
    assert of(-0.02, 0.3) == "wait"
    assert of(-0.02, 0.3, SETTINGS.horizon_s) == "keep"


def test_a_user_counts_once_in_the_arm_first_seen() -> None:
    users = Users(CanarySettings(cap=2, window_s=10))
    assert users.request("u", "canary", 1, 0) is None
    assert users.request("u", "live", 1, 1) is None
    assert users.request("u", "canary", 9, 2) == ("canary", 5, 2)
    assert users.request("u", "canary", 1, 3) is None
    assert users.request("v", "live", 0, 0) is None
    assert users.expire(11 * SECOND) == [("live", 0, 1)]
    assert users.request("v", "live", 0, 12 * SECOND) is None
