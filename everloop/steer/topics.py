"""Compacted topics as they stand now, and readers for the others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import msgspec

from feedback.errors import UnavailableError
from feedback.settings import KafkaSettings
from feedback.topics import CONTROL, MODELS, REPLICAS
from feedback.versions import Control, ModelEvent, Replica

T = TypeVar("T")

_PATIENCE = 25
"""Looks of 0.2 s without a record after which what is left are transaction markers."""


@contextmanager
def reading(kafka: KafkaSettings, topic: str, partition: int = 0, *, start: int | None = None) -> Iterator[Any]:
    """A consumer of one partition, at its beginning or at `start`, of committed records.

    Raises:
        UnavailableError: the broker does not answer.
    """
    from kafka import KafkaConsumer, TopicPartition
    from kafka.errors import KafkaError

    place = TopicPartition(kafka.name(topic), partition)
    try:
        consumer = KafkaConsumer(
            **kafka.client(),
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=8 * 2**20,
            receive_message_max_bytes=2**30,
            fetch_max_wait_ms=100,
        )
        try:
            consumer.assign([place])
            if start is None:
                consumer.seek_to_beginning(place)
            else:
                consumer.seek(place, start)
            yield consumer
        finally:
            consumer.close()
    except KafkaError as error:
        raise UnavailableError(f"kafka at {kafka.bootstrap}: {error}") from error


def records(kafka: KafkaSettings, topic: str, partition: int = 0, *, start: int | None = None) -> Iterator[Any]:
    """The committed records of one partition, up to its end as it is now. Raises as `reading`."""
    with reading(kafka, topic, partition, start=start) as consumer:
        (place,) = consumer.assignment()
        end = consumer.end_offsets([place])[place]
        quiet = 0
        while quiet < _PATIENCE and consumer.position(place) < end:
            found = consumer.poll(timeout_ms=200).get(place, ())
            quiet = 0 if found else quiet + 1
            for record in found:
                if record.offset >= end:
                    return
                yield record


def table(kafka: KafkaSettings, topic: str, kind: type[T]) -> dict[bytes, T]:
    """The newest record of each key of a compacted topic; what can't be read is left out. Raises as `reading`."""
    found: dict[bytes, T] = {}
    for record in records(kafka, topic):
        key = record.key or b""
        try:
            if record.value:
                found[key] = msgspec.json.decode(record.value, type=kind)
            else:
                found.pop(key, None)
        except msgspec.DecodeError:
            continue
    return found


def control(kafka: KafkaSettings, model: str) -> Control:
    """The control record in force; without one, the record that orders nothing."""
    return table(kafka, CONTROL, Control).get(model.encode(), Control(model=model))


def events(kafka: KafkaSettings, model: str) -> list[ModelEvent]:
    """The events in the lives of a model's versions."""
    return [event for event in table(kafka, MODELS, ModelEvent).values() if event.model == model]


def replicas(kafka: KafkaSettings, model: str) -> list[Replica]:
    """What each replica of a model last said."""
    return [replica for replica in table(kafka, REPLICAS, Replica).values() if replica.model == model]
