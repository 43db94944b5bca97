"""Real Kafka and Redis for every test that asks: local processes, containers, or servers that run already.

A server that can't be started fails the tests that need it; nothing is skipped.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from everloop.runtime.kafka import KafkaNode, brokers
from everloop.runtime.ports import LOOPBACK, answers, free_port
from everloop.runtime.redis import RedisNode

ROOT = Path(__file__).parents[1]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that choose the servers."""
    group = parser.getgroup("everloop")
    group.addoption("--containers", action="store_true", help="start Kafka and Redis in Docker (testcontainers)")
    group.addoption("--kafka", metavar="HOST:PORT", help="use this Kafka instead of starting one")
    group.addoption("--redis", metavar="URL", help="use this Redis instead of starting one")


@pytest.fixture(scope="session")
def kafka(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The bootstrap address of a Kafka 4 node: topic auto-creation is off, timestamps are LogAppendTime."""
    named = request.config.getoption("--kafka")
    if named:
        yield named
    elif request.config.getoption("--containers"):
        with _kafka_container() as bootstrap:
            yield bootstrap
    else:
        with KafkaNode(tmp_path_factory.mktemp("kafka")) as node:
            yield node.bootstrap


@contextmanager
def _kafka_container() -> Iterator[str]:
    """The image of docker-compose.yml with its settings, on a free port of this machine."""
    from testcontainers.core.container import DockerContainer

    service = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["kafka"]
    port = free_port()
    container = DockerContainer(service["image"]).with_bind_ports(29092, port)
    for name, value in service["environment"].items():
        container.with_env(name, str(value).replace("127.0.0.1:29092", f"{LOOPBACK}:{port}"))
    with container.with_kwargs(hostname="kafka"):
        deadline = time.monotonic() + 90
        while brokers(f"{LOOPBACK}:{port}") == 0:
            assert time.monotonic() < deadline, container.get_logs()
            time.sleep(0.2)
        yield f"{LOOPBACK}:{port}"


@pytest.fixture(scope="session")
def redis_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a Redis server, for the session."""
    named = request.config.getoption("--redis")
    if named:
        yield named
    elif request.config.getoption("--containers"):
        from testcontainers.core.container import DockerContainer

        port = free_port()
        with DockerContainer("redis:8").with_bind_ports(6379, port):
            deadline = time.monotonic() + 60
            while not answers(LOOPBACK, port):
                assert time.monotonic() < deadline
                time.sleep(0.1)
            yield f"redis://{LOOPBACK}:{port}/0"
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
