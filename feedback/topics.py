"""The topics: names, who keys them by what, how long they are kept; and their creation, which changes nothing the second time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from kafka.admin import KafkaAdminClient, NewTopic
from kafka.errors import KafkaError, TopicAlreadyExistsError

from feedback.errors import UnavailableError, UsageError
from feedback.settings import KafkaSettings

PREDICTIONS: Final = "predictions"
OUTCOMES: Final = "outcomes"
SAMPLES: Final = "samples"
CHANGELOG: Final = "join-changelog"
DELTAS: Final = "deltas"
MODELS: Final = "models"
CONTROL: Final = "control"
REPLICAS: Final = "replicas"
DEADLETTER: Final = "deadletter"

DAY_MS: Final = 86_400_000

_COMPACT: Final = {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.1", "segment.ms": "600000"}
_INPUT: Final = {"retention.ms": str(7 * DAY_MS), "message.timestamp.type": "LogAppendTime"}


@dataclass(frozen=True)
class Topic:
    """One topic of the loop."""

    name: str
    """Its name, without the namespace."""
    key: str
    """What keys its records."""
    keyed_by_request: bool
    """Whether it has the configured number of partitions (True) or one (False)."""
    config: dict[str, str] = field(default_factory=dict)
    """Its topic configuration."""


TOPICS: Final[tuple[Topic, ...]] = (
    Topic(PREDICTIONS, "request_id", True, _INPUT),
    Topic(OUTCOMES, "request_id", True, _INPUT),
    Topic(SAMPLES, "request_id", True, {"retention.ms": str(7 * DAY_MS), "message.timestamp.type": "LogAppendTime"}),
    Topic(CHANGELOG, "request_id", True, _COMPACT),
    Topic(
        DELTAS,
        "model line",
        False,
        # No time limit: the trainer deletes what no kept base needs, segment by segment.
        {
            "retention.ms": "-1",
            "message.timestamp.type": "LogAppendTime",
            "segment.bytes": "67108864",
            "compression.type": "lz4",
        },
    ),
    Topic(MODELS, "model/version/event", False, _COMPACT),
    Topic(CONTROL, "model", False, _COMPACT),
    Topic(REPLICAS, "model/replica", False, _COMPACT),
    Topic(DEADLETTER, "none", False, {"retention.ms": str(30 * DAY_MS)}),
)
"""Every topic, in the order in which data flows through them."""


def create_topics(settings: KafkaSettings) -> list[str]:
    """Create the topics that do not exist yet; answer the names of those created.

    Raises:
        UnavailableError: no broker answers at `settings.bootstrap`.
        UsageError: a topic exists with another number of partitions than configured: keys would move.
    """
    wanted = {settings.name(t.name): (t, settings.partitions if t.keyed_by_request else 1) for t in TOPICS}
    try:
        admin = KafkaAdminClient(**settings.client(), client_id="everloop-topics")
    except KafkaError as error:
        raise UnavailableError(f"kafka: no broker answers at {settings.bootstrap}: {error}") from error
    try:
        existing = set(admin.list_topics())
        missing = [name for name in wanted if name not in existing]
        _refuse_other_partitions(admin, {name: wanted[name][1] for name in wanted if name in existing})
        created = [_create(admin, name, wanted[name][0], wanted[name][1], settings.replication) for name in missing]
        return [name for name in created if name]
    except KafkaError as error:
        raise UnavailableError(f"kafka at {settings.bootstrap}: {error}") from error
    finally:
        admin.close()


def _create(admin: KafkaAdminClient, name: str, topic: Topic, partitions: int, replication: int) -> str:
    new = NewTopic(name, num_partitions=partitions, replication_factor=replication, topic_configs=topic.config)
    try:
        admin.create_topics([new])
    except TopicAlreadyExistsError:
        return ""
    return name


def _refuse_other_partitions(admin: KafkaAdminClient, expected: dict[str, int]) -> None:
    if not expected:
        return
    for described in admin.describe_topics(list(expected)):
        name = described.get("topic") or described["name"]
        found = len(described["partitions"])
        if found != expected[name]:
            raise UsageError(
                f"topic {name} has {found} partitions: {expected[name]} are configured, and keys cannot move"
            )
