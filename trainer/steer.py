"""The trainer's ear and voice on `models`, `control` and `replicas`: what shall be live, what is loaded where, what happened."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError

from feedback.errors import UnavailableError
from feedback.settings import KafkaSettings
from feedback.topics import CONTROL, MODELS, REPLICAS
from feedback.versions import Control, ModelEvent, Replica

T = TypeVar("T")


class Steering:
    """Follows the three topics on a thread of its own; writes events and control records."""

    def __init__(self, settings: KafkaSettings, *, model: str, changed: Callable[[], None] = lambda: None) -> None:
        self._settings, self._model, self._changed = settings, model, changed
        self._partitions = {TopicPartition(settings.name(t), 0): t for t in (CONTROL, MODELS, REPLICAS)}
        self._lock = threading.Lock()
        self._control = Control(model=model)
        self._replicas: dict[str, Replica] = {}
        self._events: dict[tuple[int, str], ModelEvent] = {}
        self._stop = threading.Event()
        self._caught_up = threading.Event()
        self._failure: UnavailableError | None = None
        try:
            self._producer = KafkaProducer(
                **settings.client(),
                client_id="everloop-trainer-events",
                acks="all",
            )
            self._consumer = KafkaConsumer(
                **settings.client(),
                group_id=None,
                enable_auto_commit=False,
                fetch_max_wait_ms=200,
            )
        except KafkaError as error:
            raise UnavailableError(f"kafka at {settings.bootstrap}: {error}") from error
        self._thread = threading.Thread(target=self._work, name="steer", daemon=True)
        self._thread.start()
        self._caught_up.wait()
        self.check()

    @property
    def control(self) -> Control:
        """What shall be live, as of the newest record."""
        with self._lock:
            return self._control

    @property
    def replicas(self) -> list[Replica]:
        """What each replica last said."""
        with self._lock:
            return list(self._replicas.values())

    @property
    def events(self) -> list[ModelEvent]:
        """The events in the lives of the model's versions."""
        with self._lock:
            return list(self._events.values())

    def tell(self, event: ModelEvent) -> None:
        """Write an event, and wait until it is there."""
        self._write(MODELS, event.key, event)
        with self._lock:
            self._events[(event.version, event.event)] = event

    def order(self, control: Control) -> None:
        """Say what shall be live, and wait until it is said."""
        self._write(CONTROL, control.model.encode(), control)
        with self._lock:
            if control.time >= self._control.time:
                self._control = control

    def check(self) -> None:
        """Raise what stopped the thread, if anything did."""
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """Stop following."""
        self._stop.set()
        self._thread.join(timeout=10)
        self._producer.close(timeout=5)

    def _write(self, topic: str, key: bytes, record: Any) -> None:
        try:
            value = msgspec.json.encode(record)
            self._producer.send(self._settings.name(topic), key=key, value=value).get(timeout=60)
        except KafkaError as error:
            raise UnavailableError(f"topic {self._settings.name(topic)}: {error!r}") from error

    def _work(self) -> None:
        try:
            consumer = self._consumer
            consumer.assign(list(self._partitions))
            consumer.seek_to_beginning(*self._partitions)
            ends = consumer.end_offsets(list(self._partitions))
            while not self._stop.is_set():
                if all(consumer.position(partition) >= end for partition, end in ends.items()):
                    self._caught_up.set()
                for partition, records in consumer.poll(timeout_ms=200).items():
                    for record in records:
                        self._take(self._partitions[partition], record.value or b"")
                    self._changed()
            consumer.close()
        except KafkaError as error:
            self._failure = UnavailableError(f"kafka at {self._settings.bootstrap}: {error!r}")
        finally:
            if not self._stop.is_set() and self._failure is None:
                self._failure = UnavailableError("the reader of control ended by an error of its own")
            self._caught_up.set()

    def _take(self, topic: str, value: bytes) -> None:
        with self._lock:
            if topic == CONTROL and (control := _read(value, Control)) is not None:
                if control.model == self._model and control.time >= self._control.time:
                    self._control = control
            elif topic == REPLICAS and (replica := _read(value, Replica)) is not None:
                if replica.model == self._model:
                    self._replicas[replica.replica] = replica
            elif topic == MODELS and (event := _read(value, ModelEvent)) is not None and event.model == self._model:
                self._events[(event.version, event.event)] = event


def _read(value: bytes, kind: type[T]) -> T | None:
    """A record, or nothing where it is not one: a stranger's record must not stop the trainer."""
    try:
        return msgspec.json.decode(value, type=kind)
    except (msgspec.ValidationError, msgspec.DecodeError):
        return None
