"""A loop's topics of its own, for the tests that run trainers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.trainer.loop.running import World


@pytest.fixture
def world(kafka: str, namespace: str, data_dir: Path) -> Iterator[World]:
    """Topics with two partitions, and a data folder."""
    # Imported here: pytest reads this file before it knows which warnings of kafka-python to ignore.
    from feedback.settings import KafkaSettings
    from feedback.topics import create_topics
    from tests.trainer.loop.running import World

    settings = KafkaSettings(bootstrap=kafka, namespace=namespace, partitions=2)
    create_topics(settings)
    made = World(settings, data_dir)
    try:
        yield made
    finally:
        made.close()
