"""What the loop says of itself, from Kafka: what shall be live (control), which line and epoch a version is of (models), how far
the followers are (replicas), and which outcomes a delta has learned from (deltas).

A thread reads, with kafka-python: deltas are compressed with LZ4, which it decompresses, and their bytes are of no use here. The
rest of the gateway sees plain attributes, which the thread replaces whole; freshness is fed through `on_delta`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any, Final

import msgspec
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from feedback import topics
from feedback.deltas import DeltaHeader, read_header
from feedback.errors import EventError
from feedback.settings import KafkaSettings
from feedback.versions import Control, ModelEvent, Replica

_LOG: Final = logging.getLogger("everloop.gateway.watch")
_COMPACTED: Final = (topics.CONTROL, topics.MODELS, topics.REPLICAS)


class Watch:
    """The last word of each record about one model."""

    def __init__(self, kafka: KafkaSettings, model: str, on_delta: Callable[[DeltaHeader], object]) -> None:
        self._kafka, self._model, self._on_delta = kafka, model, on_delta
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._offsets: dict[TopicPartition, int] = {}
        self.control = Control(model=model)
        self.lines: dict[int, str] = {}
        self._epochs: dict[int, int] = {}
        self._replicas: dict[str, Replica] = {}

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def stop(self) -> None:
        """Stop reading; returns when the thread has ended."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(5.0)

    def line(self, version: int) -> str:
        """The line that a version is of; "" while unknown."""
        return self.lines.get(version, "")

    def epoch(self, version: int) -> int:
        """The epoch of a version's line: what the followers apply, or what it was exported with."""
        live = [replica.epoch for replica in self._replicas.values() if replica.live == version]
        return max(live, default=self._epochs.get(version, self.control.epoch))

    def take(self, topic: str, value: bytes | None, headers: list[tuple[str, bytes]]) -> None:
        """Take one record; `topic` without the namespace. One that does not decode is logged and passed over."""
        try:
            if topic == topics.DELTAS:
                header = read_header(headers)
                if header.line.startswith(f"{self._model}-"):
                    self._on_delta(header)
            elif value:
                self._note(topic, value)
        except (EventError, msgspec.DecodeError) as error:
            _LOG.warning("%s: a record does not decode: %s", topic, error)

    def _note(self, topic: str, value: bytes) -> None:
        if topic == topics.CONTROL:
            control = msgspec.json.decode(value, type=Control)
            if control.model == self._model:
                self.control = control
        elif topic == topics.MODELS:
            event = msgspec.json.decode(value, type=ModelEvent)
            if event.model == self._model and event.version:
                self.lines = self.lines | {event.version: event.line}
                if event.event == "exported":
                    self._epochs = self._epochs | {event.version: event.epoch}
        else:
            replica = msgspec.json.decode(value, type=Replica)
            if replica.model == self._model:
                self._replicas = self._replicas | {replica.replica: replica}

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._read()
            except (KafkaError, OSError, ValueError) as error:
                # kafka-python raises ValueError where no bootstrap server resolves.
                _LOG.warning("kafka %s: %r; trying again", self._kafka.bootstrap, error)
                self._stopping.wait(1.0)

    def _read(self) -> None:
        consumer = KafkaConsumer(
            **self._kafka.client(),
            group_id=None,
            client_id="everloop-gateway-watch",
            enable_auto_commit=False,
            isolation_level="read_committed",
            fetch_max_wait_ms=250,
            bootstrap_timeout_ms=5_000,
            max_partition_fetch_bytes=4_194_304,
        )
        try:
            names = {self._kafka.name(topic): topic for topic in (*_COMPACTED, topics.DELTAS)}
            partitions = [TopicPartition(name, 0) for name in names]
            consumer.assign(partitions)
            self._seek(consumer, partitions)
            while not self._stopping.is_set():
                self._poll(consumer, names)
        finally:
            consumer.close()

    def _seek(self, consumer: Any, partitions: list[TopicPartition]) -> None:
        deltas = self._kafka.name(topics.DELTAS)
        for partition in partitions:
            if partition in self._offsets:
                consumer.seek(partition, self._offsets[partition])
            elif partition.topic == deltas:
                consumer.seek_to_end(partition)
            else:
                consumer.seek_to_beginning(partition)

    def _poll(self, consumer: Any, names: dict[str, str]) -> None:
        for partition, records in consumer.poll(timeout_ms=250).items():
            for record in records:
                self.take(names[record.topic], record.value, record.headers)
                self._offsets[partition] = record.offset + 1
