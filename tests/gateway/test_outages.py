"""Each part really stopped under load: the gateway answers, and what it answered is in the topic afterwards."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from everloop.runtime.kafka import KafkaNode
from everloop.runtime.redis import RedisNode
from feedback import state
from feedback.events import Prediction
from feedback.settings import KafkaSettings, RedisSettings, Secret
from serving.gateway.settings import BudgetSettings, GatewaySettings
from serving.protocol.fake import FakeModelServer
from tests.gateway.conftest import Start
from tests.gateway.world import Process, model, read_all, until

PATIENT = GatewaySettings(ticks=False, budget=BudgetSettings(request_s=30, model_s=20, cooldown_s=0.2))


class Asking:
    """Asks without a pause, from four threads, and keeps every answer."""

    def __init__(self, gateway: Process) -> None:
        self.answers: list[dict[str, Any]] = []
        self.bad: list[str] = []
        self._gateway, self._stop = gateway, threading.Event()
        self._pool = ThreadPoolExecutor(4)
        self._lanes = [self._pool.submit(self._ask) for _ in range(4)]

    def _ask(self) -> None:
        with httpx.Client(base_url=self._gateway.url, timeout=60) as http:
            while not self._stop.is_set():
                try:
                    answer = http.post(
                        "/v1/recommend", json={"user": "anna", "candidates": [{"id": "i1"}, {"id": "i9"}]}
                    )
                except httpx.TransportError:
                    return
                if answer.status_code == 200:
                    self.answers.append(answer.json())
                else:
                    self.bad.append(answer.text)

    def more(self, count: int, what: str, **having: str) -> None:
        """Wait for `count` more answers that have these values."""
        begin = len(self.answers)

        def enough() -> bool:
            new = self.answers[begin:]
            return sum(all(a[k] == v for k, v in having.items()) for a in new) >= count

        until(enough, what, 60)

    def end(self) -> None:
        self._stop.set()
        for lane in self._lanes:
            lane.result(60)
        self._pool.shutdown()


def ids(kafka: KafkaSettings) -> list[str]:
    events = [event for _, _, event in read_all(kafka, "predictions")]
    return [event.request_id for event in events if isinstance(event, Prediction)]


def test_after_a_sigkill_every_prediction_that_was_answered_is_in_the_topic(
    start: Start, loop_kafka: KafkaSettings
) -> None:
    first = start(PATIENT)
    asking = Asking(first)
    asking.more(100, "answers")
    first.kill()
    asking.end()
    second = start(PATIENT)
    until(lambda: second.status()["spool"]["waiting_bytes"] == 0, "the spool is empty")
    assert set(ids(loop_kafka)) >= {answer["request_id"] for answer in asking.answers}


@pytest.fixture
def own_kafka(tmp_path: Path) -> Iterator[KafkaNode]:
    folder = tmp_path / "own-kafka"
    folder.mkdir()
    with KafkaNode(folder) as node:
        yield node


def test_while_kafka_is_away_slates_and_outcomes_wait_in_the_spool(start: Start, own_kafka: KafkaNode) -> None:
    from feedback.topics import create_topics

    kafka = KafkaSettings(bootstrap=own_kafka.bootstrap, partitions=2)
    create_topics(kafka)
    gateway = start(PATIENT, kafka=kafka)
    asking = Asking(gateway)
    asking.more(50, "answers with Kafka")
    # Stopped, not closed: connections stay open and nothing answers, the worse of the two ways to be away.
    for pid in pids(own_kafka):
        os.kill(pid, signal.SIGSTOP)
    asking.more(100, "answers without Kafka", fallback="")
    taken = gateway.http.post("/v1/outcomes", json={"request_id": "r", "item_id": "i1", "kind": "click"})
    assert taken.status_code == 202
    assert gateway.status()["spool"]["waiting_bytes"] > 0
    for pid in pids(own_kafka):
        os.kill(pid, signal.SIGCONT)
    asking.more(20, "answers with Kafka again")
    asking.end()
    until(lambda: gateway.status()["spool"]["waiting_bytes"] == 0, "the spool is empty", 60)
    found = ids(kafka)
    assert sorted(set(found)) == sorted(answer["request_id"] for answer in asking.answers)
    assert asking.bad == []
    assert all(answer["logged"] for answer in asking.answers)
    assert len(read_all(kafka, "outcomes")) >= 1
    assert gateway.stop() == 0


def pids(node: KafkaNode) -> list[int]:
    """The node's Java processes: those whose command line names its folder."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and str(node.folder).encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    assert found
    return found


def test_while_redis_is_away_defaults_stand_in_and_then_features_come_back(start: Start, tmp_path: Path) -> None:
    folder = tmp_path / "own-redis"
    folder.mkdir()
    import redis

    with RedisNode(folder) as node:
        address = node.url
        with redis.Redis.from_url(address) as client:
            fields = {
                state.reads_field(0): state.encode_reads(
                    offset=1, count=state.Count(1, 1.0), half_life_s=60, last=[(1, "i5")]
                )
            }
            client.hset(state.user_key("", "anna"), mapping=fields)
            client.zadd(state.pool_key("", state.POOL_POPULAR), {"i9": 5.0, "i1": 4.0})
        settings = RedisSettings(url=Secret(address), timeout_s=5.0)
        gateway = start(PATIENT, redis=settings)
        asking = Asking(gateway)
        asking.more(20, "answers with features", degraded=[])  # type: ignore[arg-type]
        until(lambda: gateway.recommend()["items"], "the pool is read")
    asking.more(20, "answers without features", degraded=["features_unavailable"])  # type: ignore[arg-type]
    assert [item["id"] for item in gateway.recommend()["items"]] == ["i9", "i1"], "the pool is remembered"
    with RedisNode(folder, port=int(address.rsplit(":", 1)[1].split("/")[0])):
        asking.more(20, "answers with features again", degraded=[])  # type: ignore[arg-type]
    asking.end()
    assert asking.bad == []


def test_while_the_model_server_is_away_popularity_ranks_and_then_the_model_again(
    start: Start, fake_model: FakeModelServer
) -> None:
    gateway = start(PATIENT)
    asking = Asking(gateway)
    asking.more(20, "answers of the model", fallback="")
    fake_model.stop()
    asking.more(50, "answers without it", fallback="model_unavailable")
    with FakeModelServer(model, versions=(8,), port=fake_model.port):
        asking.more(20, "answers of the model again", fallback="")
        asking.end()
    assert asking.bad == []
    assert {answer["model"]["version"] for answer in asking.answers} == {0, 7, 8}
