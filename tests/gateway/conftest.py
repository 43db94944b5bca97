"""A gateway in its own process, with a fake model behind it and real Kafka and Redis beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from feedback.settings import KafkaSettings, RedisSettings, Secret
from serving.gateway.settings import GatewaySettings
from serving.protocol.fake import FakeModelServer
from tests.gateway.world import FEATURES, Process, model


@pytest.fixture
def loop_kafka(kafka: str, namespace: str) -> KafkaSettings:
    """Topics of this test alone, 4 partitions."""
    # Imported here: kafka-python warns when it is imported, and the filter for that is set after this file is read.
    from feedback.topics import create_topics

    settings = KafkaSettings(bootstrap=kafka, namespace=namespace, partitions=4)
    create_topics(settings)
    return settings


@pytest.fixture
def loop_redis(redis_url: str, namespace: str) -> RedisSettings:
    """Keys of this test alone."""
    return RedisSettings(url=Secret(redis_url), namespace=namespace, timeout_s=1.0)


@pytest.fixture
def fake_model() -> Iterator[FakeModelServer]:
    """A model server whose model is `world.model`, version 7."""
    with FakeModelServer(model, versions=(7,)) as server:
        yield server


Start = Callable[..., Process]


@pytest.fixture
def start(
    loop_kafka: KafkaSettings, loop_redis: RedisSettings, fake_model: FakeModelServer, data_dir: Path
) -> Iterator[Start]:
    """Start gateways; every one is ended with the test."""
    running: list[Process] = []

    def begin(settings: GatewaySettings | None = None, **other: object) -> Process:
        values: Mapping[str, object] = {
            "kafka": loop_kafka,
            "redis": loop_redis,
            "features": FEATURES,
            "settings": settings or GatewaySettings(),
            "data": data_dir,
            "model_server": fake_model.address,
        }
        process = Process(dict(values) | other)
        running.append(process)
        return process

    yield begin
    for process in running:
        process.end()
