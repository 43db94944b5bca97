"""Outcomes and ticks to Kafka, with the log's own event time: outcomes through the client that every event producer uses."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from kafka import KafkaProducer
from kafka.errors import KafkaError

from everloop.replay.lanes import Told
from feedback import codec
from feedback.clock import now_us
from feedback.errors import UnavailableError
from feedback.events import Tick
from feedback.produce import Delivery, OutcomeProducer
from feedback.settings import KafkaSettings
from feedback.topics import OUTCOMES, PREDICTIONS

SOURCE = "replay"
_PATIENCE_S = 600.0
"""How long an event waits for a broker that is away, s."""


def event_id(told: Told) -> str:
    """Name an outcome of a log: the same whenever it is replayed, so that a repeat is ignored."""
    return f"{told.request_id}/{told.happened.item}/{told.happened.kind}/{told.happened.event_time}"


class Teller:
    """Sends in order within a partition, and again until the broker has it."""

    def __init__(self, settings: KafkaSettings, *, delivered: Callable[[Told], None]) -> None:
        self._settings, self._delivered = settings, delivered
        self._topics = settings.name(PREDICTIONS), settings.name(OUTCOMES)
        self.error = ""
        """Why an event could not be delivered, once one could not."""
        try:
            self._ticks = KafkaProducer(
                **settings.client(),
                client_id="everloop-ticks",
                enable_idempotence=True,
                delivery_timeout_ms=round(_PATIENCE_S * 1_000),
            )
        except KafkaError as error:
            raise UnavailableError(f"kafka at {settings.bootstrap}: {error}") from error
        self._outcomes = OutcomeProducer(settings, max_buffered=100_000, delivery_timeout_s=_PATIENCE_S)

    def tell(self, told: Told) -> None:
        """Send one outcome; `delivered` is called, on the producer's thread, when the broker has it."""
        happened = told.happened
        delivery = self._outcomes.send(
            event_id=event_id(told),
            request_id=told.request_id,
            item_id=happened.item,
            kind=happened.kind,
            value=happened.value,
            event_time=happened.event_time,
        )
        delivery.add_done_callback(partial(self._told, told))

    def tick(self, event_time: int) -> int:
        """Send a tick to every partition of both topics; returns how many."""
        value = codec.encode(Tick(event_time=event_time, sent_time=now_us(), source=SOURCE))
        partitions = range(self._settings.partitions)
        for topic in self._topics:
            for partition in partitions:
                try:
                    self._ticks.send(topic, value=value, partition=partition).add_errback(self._failed)
                except KafkaError as error:
                    raise UnavailableError(f"kafka at {self._settings.bootstrap}: {error}") from error
        return len(self._topics) * len(partitions)

    def flush(self, timeout_s: float) -> None:
        """Wait until all that was sent is in Kafka. Raises UnavailableError when it is not in time."""
        self._outcomes.flush(timeout_s)
        try:
            self._ticks.flush(timeout=timeout_s)
        except KafkaError as error:
            raise UnavailableError(f"kafka at {self._settings.bootstrap}: {error}") from error
        if self.error:
            raise UnavailableError(self.error)

    def close(self) -> None:
        """Close the connections; what has not arrived by now is given up."""
        self._ticks.close(timeout=5)
        try:
            self._outcomes.close(timeout_s=1.0)
        except UnavailableError as error:
            self.error = self.error or str(error)

    def _told(self, told: Told, delivery: Delivery) -> None:
        error = delivery.exception()
        if error is None:
            self._delivered(told)
        else:
            self._failed(error)

    def _failed(self, error: BaseException) -> None:
        self.error = self.error or f"kafka at {self._settings.bootstrap}: {error}"
