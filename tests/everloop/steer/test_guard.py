"""When a version is held responsible for requests that fail."""

from __future__ import annotations

from everloop.steer.guard import Guard
from everloop.steer.settings import GuardSettings
from feedback.clock import SECOND

SETTINGS = GuardSettings(requests=20, share=0.1, factor=3, watch_s=60)


def watched(before: float, after: float, *, requests: int = 40) -> Guard:
    guard = Guard(SETTINGS)
    guard.moved(1, 0)
    for number in range(requests):
        guard.answered(number < before * requests, 1 * SECOND)
    guard.moved(2, 10 * SECOND)
    for number in range(requests):
        guard.answered(number < after * requests, 11 * SECOND)
    return guard


def test_a_version_under_which_requests_fail_is_named() -> None:
    alarm = watched(0.0, 0.5).verdict(12 * SECOND)
    assert alarm is not None
    assert alarm.version == 2
    assert "50.0% of 40 requests since version 2 went live" in alarm.reason


def test_what_failed_before_too_is_not_its_fault() -> None:
    assert watched(0.4, 0.5).verdict(12 * SECOND) is None


def test_a_few_requests_prove_nothing() -> None:
    assert watched(0.0, 0.5, requests=10).verdict(12 * SECOND) is None


def test_a_version_that_has_served_long_is_not_blamed() -> None:
    assert watched(0.0, 0.5).verdict(71 * SECOND) is None


def test_the_first_version_has_nothing_to_be_compared_with() -> None:
    guard = Guard(SETTINGS)
    guard.moved(1, 0)
    for _ in range(40):
        guard.answered(True, SECOND)
    assert guard.verdict(2 * SECOND) is None
