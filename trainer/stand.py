"""What stands before and behind a trainer in its benches: a writer of samples, as the join writes them, and a reader of deltas."""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice

from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from feedback.clock import now_us
from feedback.codec import encode
from feedback.deltas import read_header
from feedback.errors import UnavailableError
from feedback.events import Ledger, Progress, Sample
from feedback.settings import KafkaSettings
from feedback.topics import DELTAS, SAMPLES

Write = Callable[[Sequence[Sample]], dict[int, int]]
"""Writes samples; answers the offset of the last record of each partition."""


@contextmanager
def written(kafka: KafkaSettings) -> Iterator[Write]:
    """What writes samples in one transaction with the progress of every partition, which settles all of them."""
    producer = KafkaProducer(**kafka.client(), transactional_id=kafka.name("bench-join"), acks="all", linger_ms=5)
    producer.init_transactions()
    topic = kafka.name(SAMPLES)

    def write(samples: Sequence[Sample]) -> dict[int, int]:
        producer.begin_transaction()
        for sample in samples:
            key = sample.request_id.encode()
            producer.send(topic, key=key, value=encode(sample), partition=zlib.crc32(key) % kafka.partitions)
        last = {}
        for partition in range(kafka.partitions):
            done = Progress(
                partition=partition,
                watermark=max(sample.settle_time for sample in samples),
                predictions_offset=0,
                outcomes_offset=0,
                ledger=Ledger(),
                sent_time=now_us(),
            )
            last[partition] = producer.send(topic, value=encode(done), partition=partition)
        producer.commit_transaction()
        return {partition: each.get().offset for partition, each in last.items()}

    try:
        yield write
    finally:
        producer.close(timeout=5)


@contextmanager
def read_at(rate: float, write: Write, samples: Iterator[Sample]) -> Iterator[None]:
    """Write so many slates a second meanwhile, ten times a second."""
    stop = threading.Event()

    def work() -> None:
        due = time.monotonic()
        while not stop.wait(max(0.0, due - time.monotonic())):
            write(list(islice(samples, max(1, round(rate / 10)))))
            due += 0.1

    thread = threading.Thread(target=work, name="readers", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=30)


class Deltas:
    """The greatest sequence among the committed deltas."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._consumer = KafkaConsumer(
            **kafka.client(),
            group_id=None,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            fetch_max_wait_ms=20,
        )
        self._consumer.assign([TopicPartition(kafka.name(DELTAS), 0)])
        self._newest = 0

    def __enter__(self) -> Deltas:
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()

    def newest(self) -> int:
        """Read to the end."""
        while any(self._read(200)):
            pass
        return self._newest

    def follow(self, seconds: float) -> None:
        """Read along for a while."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._read(100)

    def wait_for(self, sequence: int, *, timeout_s: float = 120.0) -> int:
        """Wait until a delta of that sequence is there. Raises UnavailableError where none comes."""
        until = time.monotonic() + timeout_s
        while self._newest < sequence:
            if time.monotonic() > until:
                raise UnavailableError(f"no delta {sequence} after {timeout_s:g} s: the newest is {self._newest}")
            self._read(50)
        return self._newest

    def _read(self, timeout_ms: int) -> list[int]:
        found = [
            read_header(record.headers).sequence
            for records in self._consumer.poll(timeout_ms=timeout_ms).values()
            for record in records
        ]
        self._newest = max([self._newest, *found])
        return found
