"""The control and models topics as they stand now: read from the beginning, then followed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from feedback.errors import UnavailableError
from feedback.settings import KafkaSettings
from feedback.topics import CONTROL, MODELS
from feedback.versions import Control, ModelEvent
from serving.follower.plan import Known

log = logging.getLogger("everloop.follower")

_EMPTY = 5
"""Looks without a record after which a topic that ends in transaction markers counts as read."""


def fold(events: Iterable[ModelEvent]) -> dict[int, Known]:
    """What is known of each version, from the events in its life (one of each kind: the topic is compacted).

    A follower's own refusal says something about that replica, not about the version.
    """
    by_version: dict[int, dict[str, ModelEvent]] = {}
    for event in events:
        if event.version:
            by_version.setdefault(event.version, {})[event.event] = event
    return {version: _known(version, found) for version, found in by_version.items()}


def _known(version: int, events: Mapping[str, ModelEvent]) -> Known:
    first = max(events.values(), key=lambda event: (bool(event.uri), event.time))
    against = [events[name] for name in ("refused", "dropped") if name in events]
    against = [event for event in against if not event.by.startswith("follower/")]
    return Known(
        version=version,
        line=next((event.line for event in events.values() if event.line), ""),
        epoch=first.epoch,
        sequence=first.sequence,
        uri=first.uri,
        passed="gated" in events or "promoted" in events,
        refused=bool(against),
        removed="removed" in events,
        aside=any(bool(event.detail.get("canary")) for event in events.values()),
    )


class Records:
    """The newest control record of a model and the events of its versions. Feed it records; ask it any time."""

    def __init__(self, model: str) -> None:
        self.model = model
        self.control: Control | None = None
        self._events: dict[bytes, ModelEvent] = {}
        self._lock = threading.Lock()

    def take_control(self, key: bytes, value: bytes | None) -> None:
        """Take a record of the control topic."""
        if key.decode() == self.model:
            self.control = msgspec.json.decode(value, type=Control) if value else None

    def take_event(self, key: bytes, value: bytes | None) -> None:
        """Take a record of the models topic."""
        event = msgspec.json.decode(value, type=ModelEvent) if value else None
        with self._lock:
            if event is None:
                self._events.pop(key, None)
            elif event.model == self.model:
                self._events[key] = event

    def known(self) -> dict[int, Known]:
        """What the models topic says of each version."""
        with self._lock:
            events = list(self._events.values())
        return fold(events)


class RecordReader(threading.Thread):
    """Keeps `Records` up to date."""

    def __init__(self, kafka: KafkaSettings, records: Records, *, on_change: Callable[[], None]) -> None:
        super().__init__(name="records", daemon=True)
        self.records, self.problem = records, ""
        self.complete = threading.Event()
        """Set once both topics have been read to the end that they had at the start."""
        self._kafka, self._on_change = kafka, on_change
        self._control = TopicPartition(kafka.name(CONTROL), 0)
        self._models = TopicPartition(kafka.name(MODELS), 0)
        self._empty = 0
        self._stopped = threading.Event()

    def stop(self) -> None:
        """End the thread, within a second."""
        self._stopped.set()

    def run(self) -> None:
        """Read until told to stop; connect again after any failure."""
        while not self._stopped.is_set():
            try:
                self._follow()
            except (KafkaError, UnavailableError) as error:
                self.problem = f"kafka: {error}"
                log.warning("control and models topics: %s", error)
                self._stopped.wait(1.0)

    def _follow(self) -> None:
        consumer = KafkaConsumer(
            **self._kafka.client(),
            client_id="everloop-follower-records",
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
        )
        try:
            partitions = [self._control, self._models]
            consumer.assign(partitions)
            consumer.seek_to_beginning(*partitions)
            ends = consumer.end_offsets(partitions)
            while not self._stopped.is_set():
                self._take(consumer.poll(timeout_ms=200), consumer, ends)
        finally:
            consumer.close()

    def _take(self, batches: Mapping[Any, list[Any]], consumer: Any, ends: Mapping[Any, int]) -> None:
        for partition, records in batches.items():
            take = self.records.take_control if partition == self._control else self.records.take_event
            for record in records:
                self._take_one(take, record)
        self.problem = ""
        self._empty = 0 if batches else self._empty + 1
        if not self.complete.is_set() and (
            self._empty >= _EMPTY or all(consumer.position(partition) >= end for partition, end in ends.items())
        ):
            self.complete.set()
            self._on_change()
        elif batches:
            self._on_change()

    def _take_one(self, take: Callable[[bytes, bytes | None], None], record: Any) -> None:
        try:
            take(record.key or b"", record.value)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            log.error("offset %s of %s is left out: %s", record.offset, record.topic, error)
