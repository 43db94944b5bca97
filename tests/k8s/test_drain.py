"""A rolling update of the gateway as its manifest has it, with real gateways: out of the Service, a pause, SIGTERM; nothing is dropped."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from everloop.config.compose import FEATURES
from feedback.settings import KafkaSettings, RedisSettings, Secret
from feedback.topics import PREDICTIONS, create_topics
from k8s.render import Wanted, render
from serving.gateway.settings import GatewaySettings
from serving.protocol.fake import FakeModelServer
from tests.gateway.world import Process, model, read_all
from tests.k8s.kit import until

CALLERS = 4
SLOW_S = 1.0


class Service:
    """What a Service does: each new connection goes to one of those that are ready. Callers call without a pause."""

    def __init__(self) -> None:
        self.ready: list[Process] = []
        self.answers: list[int | str] = []
        self._begun = [0] * CALLERS
        self._ending = threading.Event()
        self._threads = [threading.Thread(target=self._call, args=(number,)) for number in range(CALLERS)]

    def __enter__(self) -> Service:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join()

    def leave(self, gateway: Process) -> None:
        """Send no more to a gateway; returns when every caller has learned of it."""
        self.ready = [each for each in self.ready if each is not gateway]
        before = list(self._begun)
        until(lambda: all(now > then + 1 for now, then in zip(self._begun, before, strict=True)))

    def _call(self, number: int) -> None:
        chance = random.Random(number)
        while not self._ending.is_set():
            self._begun[number] += 1
            self.answers.append(ask(chance.choice(self.ready)))


def ask(gateway: Process) -> int | str:
    """The status of an answer, or what went wrong."""
    body = {"user": "u", "candidates": [{"id": "i1"}, {"id": "i2"}]}
    try:
        return httpx.post(f"{gateway.url}/v1/recommend", json=body, timeout=20).status_code
    except httpx.HTTPError as error:
        return repr(error)


def grace() -> dict[str, Any]:
    """What the manifest gives a gateway to go."""
    [pod] = [
        item["spec"]["template"]["spec"]
        for item in render(Wanted())
        if (item["kind"], item["metadata"]["name"]) == ("StatefulSet", "gateway")
    ]
    [container] = pod["containers"]
    flush = next(each["value"] for each in container["env"] if each["name"] == "EVERLOOP_GATEWAY__SPOOL__FLUSH_S")
    return {
        "pause_s": container["lifecycle"]["preStop"]["sleep"]["seconds"],
        "flush_s": float(flush),
        "all_s": pod["terminationGracePeriodSeconds"],
    }


@pytest.fixture
def topics(kafka: str, namespace: str) -> KafkaSettings:
    settings = KafkaSettings(bootstrap=kafka, namespace=namespace, partitions=2)
    create_topics(settings)
    return settings


Start = Callable[[int, FakeModelServer], Process]


@pytest.fixture
def start(topics: KafkaSettings, redis_url: str, namespace: str, tmp_path: Path) -> Iterator[Start]:
    """Start the gateway of a number, on the volume that the pod of that number has."""
    settings = GatewaySettings(ticks=False)
    settings = replace(settings, spool=replace(settings.spool, flush_s=grace()["flush_s"]))
    settings = replace(settings, budget=replace(settings.budget, request_s=20.0, model_s=20.0))
    started = []

    def begin(number: int, server: FakeModelServer) -> Process:
        options = {
            "kafka": topics,
            "redis": RedisSettings(url=Secret(redis_url), namespace=namespace),
            "features": FEATURES,
            "settings": settings,
            "data": tmp_path / f"gateway-{number}",
            "model_server": server.address,
        }
        started.append(Process(options))
        return started[-1]

    yield begin
    for each in started:
        each.end()


def test_no_request_is_dropped_while_every_gateway_is_replaced_and_none_is_missing_in_kafka(
    topics: KafkaSettings, start: Start
) -> None:
    with FakeModelServer(model) as server:
        service = Service()
        service.ready = [start(0, server), start(1, server)]
        with service:
            for number, old in reversed(list(enumerate(service.ready))):
                service.leave(old)
                assert old.stop() == 0
                service.ready = [start(number, server), *service.ready]
            until(lambda: len(service.answers) > 50)
        for each in service.ready:
            assert each.stop() == 0
    assert set(service.answers) == {200}
    assert len(read_all(topics, PREDICTIONS)) == len(service.answers)


def test_requests_that_are_being_answered_when_a_gateway_must_go_are_answered(
    topics: KafkaSettings, start: Start
) -> None:
    def slow(signature: str, inputs: Any) -> Any:
        time.sleep(SLOW_S)
        return model(signature, inputs)

    answers: list[int | str] = []
    with FakeModelServer(slow) as server:
        gateway = start(0, server)
        callers = [threading.Thread(target=lambda: answers.append(ask(gateway))) for _ in range(CALLERS)]
        for each in callers:
            each.start()
        until(lambda: f"everloop_http_requests_in_flight {CALLERS}.0" in gateway.http.get("/metrics").text)
        assert gateway.stop() == 0
        for each in callers:
            each.join()
    assert answers == [200] * CALLERS
    assert len(read_all(topics, PREDICTIONS)) == CALLERS


def test_the_time_to_go_is_enough_for_the_pause_the_requests_and_the_spool() -> None:
    given, in_flight_s = grace(), 5
    assert given["pause_s"] > 0
    assert given["pause_s"] + in_flight_s + given["flush_s"] < given["all_s"]
