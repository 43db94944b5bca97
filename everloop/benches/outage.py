"""Each part away for 30 s under 200 requests/s, while the loop learns: who was answered, how fast, and what is in the topic afterwards.

A part is killed and kept away by the supervisor; the gateway is the one that has to go on. What counts as steady is measured right
before each outage, since a machine is not the same from minute to minute.
"""

from __future__ import annotations

import json
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from kafka import KafkaConsumer, TopicPartition

from everloop.benches.whole import Whole
from feedback.codec import decode_input
from feedback.errors import DivergedError, UnavailableError
from feedback.events import Prediction
from feedback.topics import PREDICTIONS
from serving.gateway.bench import generate

PARTS: Final = ("kafka", "redis", "model-server", "follower", "streams", "trainer")
RATE: Final = 200.0
STEADY_S: Final = 15.0
AWAY_S: Final = 30.0
_RETRY_S: Final = 5.0
_FLUSHED_S: Final = 120.0

Measured = list[tuple[str, str, list[float]]]


def outages(loop: Whole, candidate_features: dict[str, Any]) -> Measured:
    """Take each part away in turn, and count.

    Raises:
        DivergedError: a prediction that was answered is not in the topic, or not once.
        UnavailableError: a part does not come back, or the spool does not empty.
    """
    sent = ["--features", json.dumps(candidate_features), "--rate", str(RATE), "--retry", str(_RETRY_S)]
    url = loop.supervisor.addresses["gateway"]
    lost = errors = 0.0
    found: Measured = []
    before = _Stood(_counted(loop), _ends(loop))
    with _learning(loop):
        for name in PARTS:
            steady = generate(url, [*sent, "--seconds", str(STEADY_S)])
            with _away(loop, name):
                away = generate(url, [*sent, "--seconds", str(AWAY_S), "--warm", "0"])
            _say(f"{name} away: {away}; before: {steady}")
            lost += steady["lost"] + away["lost"]
            errors += steady["errors"] + away["errors"]
            part = name.replace("-", "_")
            found += [
                (f"p99_ratio_without_{part}", "", [away["p99_ms"] / steady["p99_ms"]]),
                (f"p99_ms_without_{part}", "ms", [away["p99_ms"]]),
                (f"fallbacks_without_{part}", "", [away["fallbacks"]]),
            ]
            loop.supervisor.wait_ready(timeout_s=120)
    missing = _missing(loop, before)
    return [
        ("answers_lost", "", [lost]),
        ("server_errors", "", [errors]),
        ("predictions_missing", "", [float(missing)]),
        *found,
    ]


@contextmanager
def _away(loop: Whole, name: str) -> Iterator[None]:
    runner = loop.supervisor.runners[name]
    runner.hold()
    while runner.pid is not None:
        time.sleep(0.02)
    try:
        yield
    finally:
        runner.release()


@contextmanager
def _learning(loop: Whole) -> Iterator[None]:
    """Readers who click, so that there is something to learn all the while."""
    done = threading.Event()

    def come() -> None:
        seed = 100
        while not done.is_set():
            try:
                loop.readers(rate=10.0, seconds=5.0, seed=seed)
            except UnavailableError as error:
                # Without Kafka their outcomes have nowhere to go.
                _say(f"readers: {error}")
            seed += 1

    thread = threading.Thread(target=come, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@dataclass(frozen=True)
class _Stood:
    """How far the loop had come before: other gateways may have written into the topic too."""

    logged: int
    ends: dict[TopicPartition, int]


def _missing(loop: Whole, before: _Stood) -> int:
    """Predictions that were answered and logged since, and are not in the topic."""
    logged = _counted(loop) - before.logged
    seen = set(_logged(loop, before.ends))
    if len(seen) > logged:
        raise DivergedError(f"predictions: {len(seen)} are in the topic: {logged} were answered")
    return logged - len(seen)


def _counted(loop: Whole) -> int:
    """Requests that the gateway answered and took into its log, once all of them are in the topic."""
    status = _flushed(loop)
    return int(status["requests"] - status["spool"]["unlogged"])


def _flushed(loop: Whole) -> dict[str, Any]:
    deadline = time.monotonic() + _FLUSHED_S
    while True:
        with urllib.request.urlopen(f"{loop.supervisor.addresses['gateway']}/v1/status", timeout=10) as answer:
            status: dict[str, Any] = json.load(answer)
        if not status["spool"]["waiting_bytes"]:
            return status
        if time.monotonic() > deadline:
            raise UnavailableError(f"spool: {status['spool']['waiting_bytes']} bytes still wait after {_FLUSHED_S:g} s")
        time.sleep(0.2)


@contextmanager
def _reading(loop: Whole) -> Iterator[tuple[KafkaConsumer, list[TopicPartition]]]:
    kafka = loop.kafka
    consumer = KafkaConsumer(**kafka.client(), enable_auto_commit=False)
    try:
        yield consumer, [TopicPartition(kafka.name(PREDICTIONS), number) for number in range(kafka.partitions)]
    finally:
        consumer.close()


def _ends(loop: Whole) -> dict[TopicPartition, int]:
    """Where the predictions topic ends."""
    with _reading(loop) as (consumer, partitions):
        ends: dict[TopicPartition, int] = consumer.end_offsets(partitions)
    return ends


def _logged(loop: Whole, begins: dict[TopicPartition, int]) -> Iterator[str]:
    """Request ids in the predictions topic from there on."""
    with _reading(loop) as (consumer, partitions):
        for partition, end in consumer.end_offsets(partitions).items():
            consumer.assign([partition])
            consumer.seek(partition, begins[partition])
            while consumer.position(partition) < end:
                for records in consumer.poll(timeout_ms=1_000).values():
                    events = (decode_input(record.value) for record in records if record.offset < end)
                    yield from (event.request_id for event in events if type(event) is Prediction)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
