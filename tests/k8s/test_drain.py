"""A rolling update of the gateway as its manifest has it, with real gateways: out of the Service, a pause, SIGTERM; nothing is dropped."""

from __future__ import annotations

import random
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx

from everloop.config.compose import FEATURES
from feedback.settings import KafkaSettings, RedisSettings, Secret
from feedback.topics import PREDICTIONS, create_topics
from k8s.render import Wanted, render
from serving.gateway.settings import GatewaySettings
from serving.protocol.fake import FakeModelServer
from tests.gateway.world import Process, model, read_all

CALLERS = 4


class Service:
    """What a Service does: each new connection goes to one of those that are ready."""

    def __init__(self) -> None:
        self.ready: list[Process] = []
        self.answers: list[int | str] = []
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

    def _call(self, number: int) -> None:
        chance = random.Random(number)
        while not self._ending.is_set():
            url = f"{chance.choice(self.ready).url}/v1/recommend"
            body = {"user": f"u{number}", "candidates": [{"id": "i1"}, {"id": "i2"}]}
            try:
                self.answers.append(httpx.post(url, json=body, timeout=20).status_code)
            except httpx.HTTPError as error:
                self.answers.append(repr(error))


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


def test_no_request_is_dropped_while_every_gateway_is_replaced_and_none_is_missing_in_kafka(
    kafka: str, redis_url: str, namespace: str, tmp_path: Path
) -> None:
    topics = KafkaSettings(bootstrap=kafka, namespace=namespace, partitions=2)
    create_topics(topics)
    settings = GatewaySettings(ticks=False)
    settings = replace(settings, spool=replace(settings.spool, flush_s=grace()["flush_s"]))

    def start(number: int, address: str) -> Process:
        return Process(
            {
                "kafka": topics,
                "redis": RedisSettings(url=Secret(redis_url), namespace=namespace),
                "features": FEATURES,
                "settings": settings,
                "data": tmp_path / f"gateway-{number}",
                "model_server": address,
            }
        )

    with FakeModelServer(model) as server:
        service = Service()
        service.ready = [start(number, server.address) for number in (0, 1)]
        gone = []
        with service:
            for number in (1, 0):
                old = service.ready[number]
                service.ready = [each for each in service.ready if each is not old]
                # The pause of the manifest, shorter: here nobody learns late that the address is gone.
                threading.Event().wait(0.3)
                assert old.stop() == 0
                gone.append(old)
                # The same volume, as the pod of that name gets it.
                new = start(number, server.address)
                service.ready = [new, *service.ready] if number == 0 else [*service.ready, new]
        for each in service.ready:
            assert each.stop() == 0
            gone.append(each)
        for each in gone:
            each.end()
    assert set(service.answers) == {200}
    assert len(service.answers) > 50
    assert len(read_all(topics, PREDICTIONS)) == len(service.answers)


def test_the_time_to_go_is_enough_for_the_pause_the_requests_and_the_spool() -> None:
    given, in_flight_s = grace(), 5
    assert given["pause_s"] > 0
    assert given["pause_s"] + in_flight_s + given["flush_s"] < given["all_s"]
