"""Fixtures of the follower's tests: topics of their own, a line that publishes to them, a model server, followers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from feedback.settings import KafkaSettings
from serving.follower.settings import FollowerSettings

if TYPE_CHECKING:
    # kafka-python warns when it is imported: not before pytest knows which warnings are no errors.
    from serving.follower.follow import Follower
    from serving.follower.server import ModelServer
    from tests.follower.kit import Line
    from tests.follower.stage import Process


@pytest.fixture
def model(namespace: str) -> str:
    """The tests share a model server: each has a model of its own."""
    return f"news{namespace.rstrip('-')}"


@pytest.fixture
def fast(model: str) -> FollowerSettings:
    """Settings for impatient tests."""
    return FollowerSettings(
        model=model, poll_s=0.05, drain_s=0.2, first_live_s=1.0, fetch_retry_s=0.1, fetch_attempts=2, report_s=0.1
    )


@pytest.fixture
def topics(kafka: str, namespace: str) -> KafkaSettings:
    from feedback.topics import create_topics

    settings = KafkaSettings(bootstrap=kafka, namespace=namespace, partitions=1)
    create_topics(settings)
    return settings


@pytest.fixture
def line(topics: KafkaSettings, tmp_path: Path, model: str) -> Iterator[Line]:
    from tests.follower.kit import Line

    line = Line(topics, tmp_path / "models", model)
    yield line
    line.close()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A model server for the tests that do not harm it."""
    from tests.follower.stage import model_server

    with model_server(tmp_path_factory.mktemp("server")) as process:
        yield process


@pytest.fixture
def ask(server: Process, model: str) -> Iterator[ModelServer]:
    from tests.follower.stage import client

    asking = client(server.ready["grpc_port"], model)
    yield asking
    asking.close()


Start = Callable[..., "Follower"]


@pytest.fixture
def follow(topics: KafkaSettings, server: Process, data_dir: Path, fast: FollowerSettings) -> Iterator[Start]:
    """Start a follower in this process, on a thread of its own."""
    from serving.follower.follow import Follower

    started: list[tuple[Follower, threading.Thread]] = []

    def start(*, replica: str = "a", address: str = "", **changes: Any) -> Follower:
        address = address or f"127.0.0.1:{server.ready['grpc_port']}"
        settings = replace(fast, **changes)
        follower = Follower(kafka=topics, settings=settings, data=data_dir, replica=replica, model_server=address)
        follower.start()
        thread = threading.Thread(target=follower.run)
        thread.start()
        started.append((follower, thread))
        return follower

    yield start
    for follower, thread in started:
        follower.stop()
        thread.join(10.0)
        follower.close()
