"""Outcomes and ticks to Kafka, as an event producer sends them, with the log's own event time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kafka import KafkaProducer
from kafka.errors import KafkaError

from everloop.replay.lanes import Told
from feedback import codec
from feedback.clock import now_us
from feedback.errors import UnavailableError
from feedback.events import Outcome, Tick
from feedback.settings import KafkaSettings
from feedback.topics import OUTCOMES, PREDICTIONS

SOURCE = "replay"


def event_id(told: Told) -> str:
    """Name an outcome of a log: the same whenever it is replayed, so that a repeat is ignored."""
    return f"{told.request_id}/{told.happened.item}/{told.happened.kind}/{told.happened.event_time}"


class Teller:
    """An idempotent producer: in order within a partition, and again until the broker has it."""

    def __init__(self, settings: KafkaSettings, *, delivered: Callable[[Told], None]) -> None:
        self._settings, self._delivered = settings, delivered
        self._topics = settings.name(PREDICTIONS), settings.name(OUTCOMES)
        try:
            self._producer = KafkaProducer(
                **settings.client(), acks="all", enable_idempotence=True, linger_ms=5, delivery_timeout_ms=600_000
            )
        except KafkaError as error:
            raise UnavailableError(f"kafka at {settings.bootstrap}: {error}") from error
        self.error = ""
        """Why an outcome could not be delivered, once one could not."""

    def tell(self, told: Told) -> None:
        """Send one outcome; `delivered` is called, on the producer's thread, when the broker has it."""
        happened = told.happened
        outcome = Outcome(
            event_id=event_id(told),
            request_id=told.request_id,
            item_id=happened.item,
            kind=happened.kind,
            value=happened.value,
            event_time=happened.event_time,
            sent_time=now_us(),
        )
        self._send(self._topics[1], outcome, key=told.request_id.encode(), done=lambda _: self._delivered(told))

    def tick(self, event_time: int) -> int:
        """Send a tick to every partition of both topics; returns how many."""
        tick = Tick(event_time=event_time, sent_time=now_us(), source=SOURCE)
        partitions = range(self._settings.partitions)
        for topic in self._topics:
            for partition in partitions:
                self._send(topic, tick, partition=partition)
        return len(self._topics) * len(partitions)

    def flush(self, timeout_s: float) -> None:
        """Wait until all that was sent is in Kafka. Raises UnavailableError when it is not in time."""
        try:
            self._producer.flush(timeout=timeout_s)
        except KafkaError as error:
            raise UnavailableError(f"kafka at {self._settings.bootstrap}: {error}") from error

    def close(self) -> None:
        """Close the connection."""
        self._producer.close(timeout=5)

    def _send(
        self,
        topic: str,
        event: Outcome | Tick,
        *,
        key: bytes | None = None,
        partition: int | None = None,
        done: Callable[[Any], None] | None = None,
    ) -> None:
        try:
            future = self._producer.send(topic, value=codec.encode(event), key=key, partition=partition)
        except KafkaError as error:
            raise UnavailableError(f"kafka at {self._settings.bootstrap}: {error}") from error
        if done is not None:
            future.add_callback(done)
        future.add_errback(self._failed)

    def _failed(self, error: Exception) -> None:
        self.error = self.error or f"kafka at {self._settings.bootstrap}: {error}"
