"""Real Kafka and Redis for every test that asks: local processes, containers, or servers that run already.

A server that can't be started fails the tests that need it; nothing is skipped.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from everloop.runtime.kafka import KafkaNode
from everloop.runtime.redis import RedisNode


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that choose the servers."""
    group = parser.getgroup("everloop")
    group.addoption("--containers", action="store_true", help="start Kafka and Redis in Docker (testcontainers)")
    group.addoption("--kafka", metavar="HOST:PORT", help="use this Kafka instead of starting one")
    group.addoption("--redis", metavar="URL", help="use this Redis instead of starting one")


def pytest_configure(config: pytest.Config) -> None:
    """Let kafka-python 3.0 read its schemas the way that Python 3.11 and 3.12 call deprecated."""
    config.addinivalue_line("filterwarnings", "ignore:(read|open)_text is deprecated:DeprecationWarning")


@pytest.fixture(scope="session")
def kafka(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The bootstrap address of a Kafka 4 node: topic auto-creation is off, timestamps are LogAppendTime."""
    named = request.config.getoption("--kafka")
    if named:
        yield named
    elif request.config.getoption("--containers"):
        from testcontainers.kafka import KafkaContainer

        image = KafkaContainer("confluentinc/cp-kafka:8.1.1").with_kraft()
        for key, value in _CONTAINER_SETTINGS.items():
            image = image.with_env(key, value)
        with image as container:
            yield container.get_bootstrap_server()
    else:
        with KafkaNode(tmp_path_factory.mktemp("kafka")) as node:
            yield node.bootstrap


_CONTAINER_SETTINGS = {
    "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
    "KAFKA_LOG_MESSAGE_TIMESTAMP_TYPE": "LogAppendTime",
    "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
    "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
    "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
}


@pytest.fixture(scope="session")
def redis_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a Redis server, for the session."""
    named = request.config.getoption("--redis")
    if named:
        yield named
    elif request.config.getoption("--containers"):
        from testcontainers.redis import RedisContainer

        with RedisContainer("redis:8") as container:
            yield f"redis://{container.get_container_host_ip()}:{container.get_exposed_port(6379)}/0"
    else:
        with RedisNode(tmp_path_factory.mktemp("redis")) as node:
            yield node.url


@pytest.fixture
def namespace() -> str:
    """A prefix for topics, groups and keys that no other test has."""
    return f"t{uuid.uuid4().hex[:12]}-"


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """An empty data folder, as `--data` takes one."""
    folder = tmp_path / "data"
    folder.mkdir()
    return folder
