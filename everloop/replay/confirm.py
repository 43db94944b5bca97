"""Which predictions have reached Kafka: a reader of the predictions topic's keys, on a thread of its own."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from feedback.errors import UnavailableError
from feedback.settings import KafkaSettings
from feedback.topics import PREDICTIONS

log = logging.getLogger(__name__)


class Confirmer:
    """Reads from where the topic ends when it is opened, and hands over the keys of what comes."""

    def __init__(self, settings: KafkaSettings, seen: Callable[[list[str]], None]) -> None:
        try:
            self._consumer = KafkaConsumer(
                **settings.client(),
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                fetch_max_wait_ms=20,
            )
            topic = settings.name(PREDICTIONS)
            partitions = [TopicPartition(topic, number) for number in range(settings.partitions)]
            self._consumer.assign(partitions)
            ends = self._consumer.end_offsets(partitions)
            for partition in partitions:
                self._consumer.seek(partition, ends[partition])
        except KafkaError as error:
            raise UnavailableError(f"kafka at {settings.bootstrap}: {error}") from error
        self._seen, self._stop = seen, threading.Event()
        self._thread = threading.Thread(target=self._run, name="confirm", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                records = self._consumer.poll(timeout_ms=50)
            except KafkaError as error:
                # The broker is away or just back: the positions are ours, so nothing is missed.
                log.warning("confirm: %s", error)
                self._stop.wait(0.2)
                continue
            keys = [each.key.decode() for batch in records.values() for each in batch if each.key]
            if keys:
                self._seen(keys)

    def close(self) -> None:
        """Stop reading."""
        self._stop.set()
        self._thread.join()
        self._consumer.close()
