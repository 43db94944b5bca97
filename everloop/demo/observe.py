"""What flows through Kafka while the demo runs, read from the topics themselves: nothing is taken from a part's own word."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Final

import msgspec
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from everloop.demo.freshness import Learned, Served
from feedback import topics
from feedback.deltas import read_header
from feedback.errors import DecodeError, UnavailableError
from feedback.events import Ledger, Progress
from feedback.settings import KafkaSettings
from feedback.versions import ModelEvent

log = logging.getLogger(__name__)


class _Answer(msgspec.Struct, gc=False):
    """The fields of a prediction event (or tick) that are looked at here."""

    type: str
    sent_time: int
    version: int = 0
    epoch: int = 0
    sequence: int = 0


_ANSWER: Final = msgspec.json.Decoder(_Answer)
_PROGRESS: Final = msgspec.json.Decoder(Progress)
_EVENT: Final = msgspec.json.Decoder(ModelEvent)
_IS_PROGRESS: Final = b'"type":"progress"'


class Observer:
    """Reads predictions, samples, deltas and models from their beginning, committed records only, until it is closed."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self.served: list[Served] = []
        """Every prediction event."""
        self.learned = Learned()
        """The outcomes that deltas name."""
        self.progress: dict[int, Progress] = {}
        """The last progress record of each partition."""
        self.events: list[ModelEvent] = []
        """Lives of versions."""
        self.examples = 0
        """Examples that deltas say were learned."""
        self.deltas = 0
        self.samples = 0
        self._readers: dict[str, Callable[[Any], None]] = {
            settings.name(topics.PREDICTIONS): self._prediction,
            settings.name(topics.SAMPLES): self._sample,
            settings.name(topics.DELTAS): self._delta,
            settings.name(topics.MODELS): self._model,
        }
        self._stop = threading.Event()
        self._consumer = self._open()
        self._thread = threading.Thread(target=self._run, name="observe", daemon=True)
        self._thread.start()

    def ledger(self) -> Ledger:
        """All partitions' ledgers together."""
        total = Ledger()
        for progress in list(self.progress.values()):
            total.add(progress.ledger)
        return total

    def residual(self) -> int:
        """Impressions that a partition has in no column, or in two, over all partitions."""
        return sum(abs(each.ledger.residual) for each in self.progress.values())

    def sample_residual(self) -> int:
        """Emissions more or fewer than the label rule says, over all partitions."""
        return sum(abs(each.ledger.sample_residual) for each in self.progress.values())

    def live(self) -> list[ModelEvent]:
        """The events that made a version live."""
        return [event for event in self.events if event.event == "live"]

    def close(self) -> None:
        """Stop reading."""
        self._stop.set()
        self._thread.join()
        self._consumer.close()

    def _open(self) -> Any:
        settings = self._settings
        try:
            consumer = KafkaConsumer(
                **settings.client(),
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                isolation_level="read_committed",
                fetch_max_wait_ms=200,
                max_poll_records=5_000,
            )
            keyed = {settings.name(each.name): each.keyed_by_request for each in topics.TOPICS}
            partitions = [
                TopicPartition(name, number)
                for name in self._readers
                for number in range(settings.partitions if keyed[name] else 1)
            ]
            consumer.assign(partitions)
            consumer.seek_to_beginning(*partitions)
        except KafkaError as error:
            raise UnavailableError(f"kafka at {settings.bootstrap}: {error}") from error
        return consumer

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                records = self._consumer.poll(timeout_ms=200)
            except KafkaError as error:
                # The broker was killed or is just back; the positions are kept here.
                log.warning("observe: %s", error)
                time.sleep(0.2)
                continue
            for partition, batch in records.items():
                read = self._readers[partition.topic]
                for record in batch:
                    if record.value is not None:
                        read(record)

    def _prediction(self, record: Any) -> None:
        answer = _ANSWER.decode(record.value)
        if answer.type == "prediction":
            self.served.append(Served(answer.sent_time, answer.version, answer.epoch, answer.sequence))

    def _sample(self, record: Any) -> None:
        if _IS_PROGRESS in record.value[:64]:
            self.progress[record.partition] = _PROGRESS.decode(record.value)
        else:
            self.samples += 1

    def _delta(self, record: Any) -> None:
        try:
            header = read_header(record.headers)
        except DecodeError as error:
            log.warning("observe: offset %d of deltas: %s", record.offset, error)
            return
        if header.kind != "rows" or header.part != header.parts:
            return
        self.deltas += 1
        self.examples += sum(step.examples for step in header.steps)
        self.learned.add(epoch=header.epoch, sequence=header.sequence, sent_times=header.sent_times)

    def _model(self, record: Any) -> None:
        self.events.append(_EVENT.decode(record.value))
