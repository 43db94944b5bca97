"""Breaker, bucket and freshness: pure, driven by a hand-made clock."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback.deltas import DeltaHeader
from serving.gateway.breaker import Breaker
from serving.gateway.bucket import Bucket
from serving.gateway.freshness import Freshness


def test_a_breaker_opens_after_failures_in_a_row_and_tries_one_call_after_its_cooldown() -> None:
    breaker = Breaker(failures=3, cooldown_s=1.0)
    for _ in range(2):
        breaker.failed(10.0)
    breaker.succeeded()
    for _ in range(3):
        assert breaker.allows(10.0)
        breaker.failed(10.0)
    assert breaker.state == "open"
    assert not breaker.allows(10.9)
    assert breaker.allows(11.0)
    assert not breaker.allows(11.1), "one call at a time while half open"
    breaker.failed(11.2)
    assert not breaker.allows(12.1)
    assert breaker.allows(12.2)
    breaker.succeeded()
    assert breaker.allows(12.2)
    assert str(breaker.state) == "closed"


def test_a_trial_call_that_nobody_reports_on_does_not_keep_the_breaker_open_for_ever() -> None:
    breaker = Breaker(failures=1, cooldown_s=1.0)
    breaker.failed(0.0)
    assert breaker.allows(1.0)
    assert breaker.allows(2.0)


@given(st.lists(st.floats(0, 5), max_size=100), st.floats(0.5, 50), st.integers(1, 20))
def test_a_bucket_never_gives_more_than_its_burst_and_its_rate(pauses: list[float], rate: float, burst: int) -> None:
    bucket, now, taken = Bucket(rate, burst), 1.0, 0
    for pause in pauses:
        now += pause
        taken += bucket.take(now) == 0
    assert taken <= burst + rate * (now - 1.0) + 1e-6


def test_a_bucket_says_when_there_is_a_token_again() -> None:
    bucket = Bucket(2.0, 1)
    assert bucket.take(5.0) == 0
    wait = bucket.take(5.0)
    assert wait == pytest.approx(0.5)
    assert bucket.take(5.0 + wait) == 0


def delta(sequence: int, *sent: int, line: str = "news-a", trained: int = 0) -> DeltaHeader:
    return DeltaHeader(
        line=line,
        epoch=1,
        previous=sequence - 1,
        sequence=sequence,
        crc32c=0,
        sent_times=list(sent),
        trained_time=trained,
    )


def test_an_outcome_is_as_old_as_the_first_answer_that_knows_it() -> None:
    freshness = Freshness()
    freshness.published(delta(5, 1_000_000, 1_200_000, trained=1_400_000))
    freshness.published(delta(6, 1_300_000))
    assert freshness.answered("news-a", 4, 1_500_000) is None
    served = freshness.answered("news-a", 5, 1_500_000)
    assert served is not None
    assert served.total_s == pytest.approx([0.5, 0.3])
    assert served.served_s == pytest.approx([0.1])
    assert freshness.answered("news-a", 5, 9_000_000) is None, "counted once"
    assert freshness.answered("news-a", 9, 1_600_000) is not None
    found = freshness.quantiles()
    assert found == pytest.approx({"p50_s": 0.3, "p99_s": 0.5, "count": 3})


def test_deltas_of_another_line_and_checksums_do_not_count() -> None:
    freshness = Freshness()
    freshness.published(delta(5, 1, line="news-b"))
    freshness.published(DeltaHeader(line="news-a", kind="checksum", epoch=1, previous=1, sequence=1, crc32c=0))
    assert freshness.answered("news-a", 10, 1_000_000) is None
    assert freshness.answered("", 10, 1_000_000) is not None, "the only line there is"
