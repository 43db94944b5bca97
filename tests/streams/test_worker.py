"""A real worker on a real broker and a real Redis: what comes out, what it says of itself, and what it is told again."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from kafka import KafkaProducer
from redis import Redis

from feedback.clock import SECOND
from feedback.codec import decode_output, encode
from feedback.events import Progress, Sample
from feedback.settings import KafkaSettings
from feedback.state import (
    POOL_FRESH,
    POOL_POPULAR,
    decode_item,
    decode_user,
    item_features,
    item_key,
    pool_key,
    user_key,
)
from feedback.topics import OUTCOMES, PREDICTIONS, SAMPLES, create_topics
from streams.chaos import records, storm
from streams.deadletters import list_, replay
from streams.fleet import Member
from streams.settings import JoinSettings, StateSettings, StreamsSettings
from streams.workload import partition_of
from tests.streams.world import JOIN, START, outcome, prediction, tick


class Loop:
    """One worker and a producer."""

    def __init__(self, kafka: KafkaSettings, redis_url: str, folder: Path) -> None:
        self.kafka = kafka
        settings = StreamsSettings(join=JOIN, state=StateSettings(flush_s=0.05))
        self.worker = Member("one", kafka=kafka, settings=settings, folder=folder, redis=redis_url)
        self.producer = KafkaProducer(**kafka.client(), acks="all")
        self.worker.start()
        self.port = self.worker.ready()["http"]

    def send(self, *events: object) -> None:
        """Send events to where they belong."""
        for event in events:
            name = getattr(event, "request_id", "")
            topic = PREDICTIONS if hasattr(event, "items") else OUTCOMES
            where = partition_of(name, self.kafka.partitions)
            self.producer.send(self.kafka.name(topic), key=name.encode(), value=encode(event), partition=where)
        self.producer.flush()

    def tick(self, at: float) -> None:
        """Move event time in all partitions."""
        for topic in (PREDICTIONS, OUTCOMES):
            for partition in range(self.kafka.partitions):
                self.producer.send(self.kafka.name(topic), value=encode(tick(at)), partition=partition)
        self.producer.flush()

    def samples(self) -> dict[str, Sample]:
        """All samples that are readable now."""
        read = [record for n in range(self.kafka.partitions) for record in records(self.kafka, SAMPLES, n)]
        found = [decode_output(record.value or b"") for record in read]
        return {each.sample_id: each for each in found if isinstance(each, Sample)}

    def page(self, path: str) -> bytes:
        """Ask the worker's web."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
            body: bytes = answer.read()
            return body


def until(holds: Callable[[], object], timeout_s: float = 60) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


@pytest.fixture
def loop(kafka: str, redis_url: str, namespace: str, tmp_path: Path) -> Iterator[Loop]:
    """A worker at work."""
    settings = KafkaSettings(bootstrap=kafka, namespace=namespace, partitions=2)
    create_topics(settings)
    running = Loop(settings, redis_url, tmp_path)
    yield running
    running.producer.close()
    assert running.worker.stop() == 0, running.worker.log.read_text()[-3000:]


def fields(redis: Redis, key: str) -> dict[bytes, bytes]:
    """A hash as bytes: this client decodes nothing."""
    return cast("dict[bytes, bytes]", redis.hgetall(key))


def test_a_worker_joins_settles_refuses_and_counts(loop: Loop, redis_url: str) -> None:
    loop.send(
        prediction("r1", 0, ["a", "b"]), prediction("r2", 1, ["b", "c"]), outcome("r1", 5, "b"), outcome("r2", 6, "z")
    )
    loop.send(outcome("r3", 7, "a"))
    until(lambda: {"r1:n", "r2:n", "r1:p1"} <= loop.samples().keys())
    loop.tick(1_000)
    until(lambda: json.loads(loop.page("/ledger"))["total"]["open"] == 0)
    total = json.loads(loop.page("/ledger"))["total"]
    assert (total["settled_negative"], total["settled_positive"]) == (3, 1)
    assert (total["refused"], total["orphan"], total["residual"], total["sample_residual"]) == (1, 1, 0, 0)
    page = loop.page("/metrics").decode()
    partition = partition_of("r1", 2)
    assert f'everloop_join_residual{{of="impressions",partition="{partition}"}} 0.0' in page
    assert "everloop_join_transaction_seconds_count" in page
    for topic in (PREDICTIONS, OUTCOMES):
        assert f'everloop_join_lag_records{{partition="{partition}",topic="{topic}"}} 0.0' in page
    # Dead letters: shown with their reasons; the orphan is fed again once its prediction is there.
    letters = list_(loop.kafka)
    assert {each.letter.reason for each in letters} == {"item_not_on_slate", "orphan"}
    loop.send(prediction("r3", 990, ["a"]))
    loop.send(outcome("r3", 995, "a", event="other"))
    assert replay(loop.kafka, list_(loop.kafka, reasons=["orphan"])) == {"orphan": 1}
    until(lambda: "r3:p0" in loop.samples())
    # The features say the same as the samples.
    redis, ns = Redis.from_url(redis_url), loop.kafka.namespace
    until(lambda: b"c0" in (found := redis.hgetall(item_key(ns, "b"))) or b"c1" in found)
    state = item_features(decode_item(fields(redis, item_key(ns, "b"))), START + SECOND)
    assert state["item_impressions"] == pytest.approx(2, abs=0.01)
    assert state["item_clicks"] == pytest.approx(1, abs=0.01)
    assert decode_user(fields(redis, user_key(ns, "ur1"))).last == ("b",)
    assert redis.zscore(pool_key(ns, POOL_FRESH), "a") == START
    assert redis.zrevrange(pool_key(ns, POOL_POPULAR), 0, 0) in ([b"a"], [b"b"])


def test_a_killed_worker_goes_on_where_it_was(loop: Loop) -> None:
    loop.send(prediction("r1", 0), prediction("r2", 1), outcome("r4", 2))
    until(lambda: {"r1:n", "r2:n"} <= loop.samples().keys())
    until(lambda: any(_progress(loop, n).outcomes_offset for n in range(2)))
    loop.worker.kill()
    loop.send(outcome("r1", 5, "b"))
    loop.worker.start()
    loop.port = loop.worker.ready()["http"]
    loop.send(prediction("r4", 3), outcome("r2", 6, "c"))
    until(lambda: {"r1:p1", "r2:p2", "r4:n", "r4:p0"} <= loop.samples().keys())
    total = json.loads(loop.page("/ledger"))["total"]
    assert (total["slates"], total["open"], total["revisions"], total["residual"]) == (3, 9, 3, 0)


def _progress(loop: Loop, partition: int) -> Progress:
    found = [decode_output(record.value or b"") for record in records(loop.kafka, SAMPLES, partition)]
    return next(each for each in reversed(found) if isinstance(each, Progress))


def test_chaos_loses_nothing_and_teaches_nothing_twice(kafka: str) -> None:
    result = storm(kafka, slates=2_000, kills=3, freezes=1, extra=1, partitions=4, seed=3, pause_s=1.5)
    assert result.clean, result
    assert result.kills >= 3
    assert result.samples > 2_000
    assert result.joins > 4


@pytest.mark.slow
def test_chaos_of_a_million_candidates(kafka: str) -> None:
    held = JoinSettings(window_s=30, lateness_s=5, hold_s=5, skew_s=2, early_wait_s=20, remember_s=20)
    for join in (replace(held, hold_s=0), held):
        result = storm(kafka, join=join)
        assert result.clean, result
        assert result.candidates >= 1_000_000
        assert result.joins >= 10
