"""Reads the samples topic, committed records only, on a thread of its own, and hands decoded records over in order."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from feedback.codec import decode_output
from feedback.errors import EventError, UnavailableError
from feedback.settings import KafkaSettings
from feedback.topics import SAMPLES
from trainer.observe import log
from trainer.steps import Record


class Reader:
    """One consumer of all partitions, without a group: the checkpoint owns the offsets."""

    def __init__(self, settings: KafkaSettings, offsets: Mapping[int, int], *, limit: int) -> None:
        self._settings, self._limit = settings, limit
        self._topic = settings.name(SAMPLES)
        self._ready = threading.Condition()
        self._records: list[Record] = []
        self._held = 0
        self._stop = False
        self._failure: UnavailableError | None = None
        self.unreadable = 0
        """Records that were no samples."""
        self.ends: dict[int, int] = {}
        """High watermark of each partition, as last heard: for the lag."""
        try:
            self._consumer = KafkaConsumer(
                **settings.client(),
                client_id="everloop-trainer-samples",
                group_id=None,
                enable_auto_commit=False,
                isolation_level="read_committed",
                auto_offset_reset="earliest",
                max_poll_records=2_000,
                max_partition_fetch_bytes=4_194_304,
            )
            self._partitions = [
                TopicPartition(self._topic, number)
                for number in sorted(self._consumer.partitions_for_topic(self._topic) or ())
            ]
            if not self._partitions:
                raise UnavailableError(f"topic {self._topic} does not exist: everloop topics create")
            self._consumer.assign(self._partitions)
            self._start(offsets)
        except KafkaError as error:
            raise UnavailableError(f"kafka at {settings.bootstrap}: {error}") from error
        self._thread = threading.Thread(target=self._work, name="consume", daemon=True)
        self._thread.start()

    def drain(self, timeout_s: float) -> list[Record]:
        """Everything that came since the last call; waits for the first at most `timeout_s`.

        Raises:
            UnavailableError: the broker went away for good.
        """
        with self._ready:
            if not self._records and self._failure is None and timeout_s > 0:
                self._ready.wait(timeout_s)
            if self._failure is not None and not self._records:
                raise self._failure
            records, self._records = self._records, []
            return records

    def release(self, examples: int) -> None:
        """Say that so many examples (at least 1 per record) left memory, so that others may come."""
        with self._ready:
            self._held -= examples
            self._ready.notify_all()

    def widen(self) -> None:
        """Let twice as much wait in memory from now on."""
        with self._ready:
            if self._held > self._limit:
                self._limit *= 2
                self._ready.notify_all()

    def wake(self) -> None:
        """End a `drain` that waits."""
        with self._ready:
            self._ready.notify_all()

    def close(self) -> None:
        """Stop reading."""
        with self._ready:
            self._stop = True
            self._ready.notify_all()
        self._thread.join(timeout=10)

    def _start(self, offsets: Mapping[int, int]) -> None:
        firsts = self._consumer.beginning_offsets(self._partitions)
        for partition in self._partitions:
            wanted = offsets.get(partition.partition, 0)
            if partition.partition in offsets and wanted < firsts[partition]:
                log(
                    "samples_lost", level="error", partition=partition.partition, wanted=wanted, first=firsts[partition]
                )
            self._consumer.seek(partition, max(wanted, firsts[partition]))

    def _work(self) -> None:
        try:
            while not self._stop:
                found = self._consumer.poll(timeout_ms=200)
                batch = [
                    record
                    for partition, raws in found.items()
                    for raw in raws
                    if (record := self._decoded(partition.partition, raw.offset, raw.timestamp, raw.value)) is not None
                ]
                for partition in self._partitions:
                    self.ends[partition.partition] = self._consumer.highwater(partition) or 0
                if batch:
                    self._hand_over(batch)
            self._consumer.close()
        except KafkaError as error:
            self._failure = UnavailableError(f"topic {self._topic}: {error!r}")
        finally:
            if not self._stop and self._failure is None:
                self._failure = UnavailableError(f"topic {self._topic}: the reader ended by an error of its own")
            self.wake()

    def _decoded(self, partition: int, offset: int, timestamp_ms: int, value: bytes | None) -> Record | None:
        try:
            return Record(partition, offset, timestamp_ms * 1_000, decode_output(value or b""))
        except EventError as error:
            self.unreadable += 1
            log("sample_unreadable", level="error", partition=partition, offset=offset, reason=str(error))
            return None

    def _hand_over(self, batch: list[Record]) -> None:
        with self._ready:
            self._records.extend(batch)
            self._held += sum(weight(record) for record in batch)
            self._ready.notify_all()
            while self._held > self._limit and not self._stop:
                self._ready.wait(1.0)


def weight(record: Record) -> int:
    """What a record counts against the limit of examples in memory."""
    return max(1, record.examples)


def end_offsets(settings: KafkaSettings) -> dict[int, int]:
    """The offset behind the last committed record of each partition of samples, now. Raises UnavailableError."""
    topic = settings.name(SAMPLES)
    try:
        consumer = KafkaConsumer(**settings.client(), group_id=None, isolation_level="read_committed")
        try:
            partitions = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic) or ()]
            return {p.partition: offset for p, offset in consumer.end_offsets(partitions).items()}
        finally:
            consumer.close()
    except KafkaError as error:
        raise UnavailableError(f"kafka at {settings.bootstrap}: {error}") from error
