"""The delta log: one transaction per delta, fenced by the line's transactional id; and reading back what was published.

A delta larger than one record goes out in parts, all in one transaction, so that readers of committed records see it whole or
not at all. A thread of its own talks to the broker; training goes on meanwhile, at most `window` deltas ahead.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec
from crc32c import crc32c
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient
from kafka.errors import (
    InvalidProducerEpochError,
    InvalidTxnStateError,
    KafkaError,
    ProducerFencedError,
)

from feedback.deltas import DeltaHeader, read_header
from feedback.errors import CorruptError, EverloopError, FencedError, UnavailableError
from feedback.settings import KafkaSettings
from feedback.topics import DELTAS

_FENCED: Final = (ProducerFencedError, InvalidProducerEpochError, InvalidTxnStateError)


class Published(msgspec.Struct, frozen=True, kw_only=True):
    """A delta as it stands in the topic, its parts joined."""

    header: DeltaHeader
    """Of the last part."""
    value: bytes
    offset: int
    """Of the first part."""
    size: int
    """Bytes of its records: keys, headers and values, before the broker's codec makes them fewer."""


def parts_of(header: DeltaHeader, value: bytes, *, limit: int) -> list[tuple[DeltaHeader, bytes]]:
    """Split a delta into records of at most `limit` bytes. The steps travel with the last part only."""
    pieces = [value[at : at + limit] for at in range(0, len(value), limit)] or [b""]
    bare = msgspec.structs.replace(header, steps=[], sent_times=[])
    return [
        (
            msgspec.structs.replace(
                header if number == len(pieces) else bare, part=number, parts=len(pieces), crc32c=crc32c(piece)
            ),
            piece,
        )
        for number, piece in enumerate(pieces, 1)
    ]


class DeltaLog:
    """The line's writer. Whoever constructs it fences every earlier one. `done` is told each header that is committed, on
    the writer's thread."""

    def __init__(
        self,
        settings: KafkaSettings,
        *,
        line: str,
        part_bytes: int,
        window: int,
        done: Callable[[DeltaHeader], None],
    ) -> None:
        self._topic = settings.name(DELTAS)
        self._key = line.encode()
        self._part_bytes, self._done = part_bytes, done
        try:
            self._producer = KafkaProducer(
                **settings.client(),
                client_id=f"everloop-trainer-{line}",
                transactional_id=settings.name(f"deltas-{line}"),
                acks="all",
                max_request_size=part_bytes + 100_000,
            )
            self._producer.init_transactions()
        except KafkaError as error:
            raise UnavailableError(f"kafka at {settings.bootstrap}: {error}") from error
        self._queue: queue.Queue[list[tuple[DeltaHeader, bytes]] | None] = queue.Queue(maxsize=window)
        self._failure: EverloopError | None = None
        self._moved = threading.Condition()
        self._committed = 0
        self._offsets: dict[int, int] = {}
        self._thread = threading.Thread(target=self._work, name="publish", daemon=True)
        self._thread.start()

    def publish(self, records: list[tuple[DeltaHeader, bytes]]) -> None:
        """Hand over one delta, or checksum, with its header; both may be in `records`, and go in one transaction.

        Raises:
            FencedError: another trainer of this line runs.
            UnavailableError: the broker refused.
        """
        self.check()
        split = [part for header, value in records for part in parts_of(header, value, limit=self._part_bytes)]
        self._queue.put(split)

    def flush(self) -> None:
        """Wait until everything handed over is committed. Raises as `publish`."""
        self._queue.join()
        self.check()

    def wait(self, sequence: int) -> None:
        """Wait, in any thread, until a delta that was handed over is committed. Raises as `publish`."""
        with self._moved:
            self._moved.wait_for(lambda: self._failure is not None or self._committed >= sequence)
        self.check()

    def note(self, sequence: int, offset: int) -> None:
        """Remember where a delta stands in the topic: the offset of its first part."""
        self._offsets[sequence] = offset
        self._committed = max(self._committed, sequence)

    def offset_of(self, sequence: int) -> int | None:
        """Where a delta stands in the topic, as far as this process knows."""
        return self._offsets.get(sequence)

    def forget_before(self, sequence: int) -> None:
        """Forget where older deltas stood."""
        for old in [each for each in self._offsets.copy() if each < sequence]:
            del self._offsets[old]

    def check(self) -> None:
        """Raise what went wrong on the way, if anything did."""
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """Send what is left and disconnect."""
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join(timeout=30)
        self._producer.close(timeout=5)

    def _work(self) -> None:
        while (records := self._queue.get()) is not None:
            ended = False
            try:
                if self._failure is None:
                    self._send(records)
                ended = True
            finally:
                with self._moved:
                    if not ended:
                        self._failure = UnavailableError(
                            f"topic {self._topic}: the writer ended by an error of its own"
                        )
                    if self._failure is None:
                        self._committed = max(self._committed, records[-1][0].sequence)
                    self._moved.notify_all()
                self._queue.task_done()
        self._queue.task_done()

    def _send(self, records: list[tuple[DeltaHeader, bytes]]) -> None:
        try:
            self._producer.begin_transaction()
            sent = [
                self._producer.send(self._topic, key=self._key, value=value, headers=header.record_headers())
                for header, value in records
            ]
            self._producer.commit_transaction()
            for each in sent:
                each.get(timeout=30)
        except _FENCED as error:
            self._failure = FencedError(f"topic {self._topic}: another trainer writes line {self._key.decode()}")
            self._failure.__cause__ = error
            return
        except KafkaError as error:
            # Whether it was committed is unknown: the state says so by ending; a continued run reads what is there.
            self._failure = UnavailableError(f"topic {self._topic}: {error!r}")
            self._failure.__cause__ = error
            return
        first = 0
        for (header, _), each in zip(records, sent, strict=True):
            first = each.get().offset if header.part == 1 else first
            if header.part == header.parts:
                if header.kind == "rows":
                    self._offsets[header.sequence] = first
                self._done(header)


def read_published(settings: KafkaSettings, *, line: str, after: int = 0, since_offset: int = 0) -> Iterator[Published]:
    """Read the line's deltas and checksums with a sequence above `after`, as far as they are committed now, in order.

    Raises:
        CorruptError: a part is missing or does not match its checksum.
        UnavailableError: the broker does not answer.
    """
    partition = TopicPartition(settings.name(DELTAS), 0)
    try:
        consumer = KafkaConsumer(
            **settings.client(),
            group_id=None,
            enable_auto_commit=False,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            fetch_max_wait_ms=100,
        )
    except KafkaError as error:
        raise UnavailableError(f"kafka at {settings.bootstrap}: {error}") from error
    try:
        consumer.assign([partition])
        start = max(since_offset, consumer.beginning_offsets([partition])[partition])
        consumer.seek(partition, start)
        end = consumer.end_offsets([partition])[partition]
        yield from _joined(_until(consumer, partition, end), line.encode(), after)
    except KafkaError as error:
        raise UnavailableError(f"kafka at {settings.bootstrap}: {error}") from error
    finally:
        consumer.close()


def _until(consumer: Any, partition: TopicPartition, end: int) -> Iterator[Any]:
    while consumer.position(partition) < end:
        for record in consumer.poll(timeout_ms=500).get(partition, []):
            if record.offset < end:
                yield record


def _joined(records: Iterator[Any], key: bytes, after: int) -> Iterator[Published]:
    parts: list[bytes] = []
    first = size = 0
    for record in records:
        if record.key != key:
            continue
        header = read_header(record.headers)
        if header.sequence <= after and header.kind == "rows":
            continue
        value = record.value or b""
        if crc32c(value) != header.crc32c or header.part != len(parts) + 1:
            raise CorruptError(
                f"delta {header.sequence} part {header.part} of {header.parts}: not what its header says"
            )
        first, size = (first, size) if parts else (record.offset, 0)
        size += len(key) + len(value) + sum(len(name) + len(content) for name, content in record.headers)
        parts.append(value)
        if header.part == header.parts:
            yield Published(header=header, value=b"".join(parts), offset=first, size=size)
            parts = []


def delete_before(settings: KafkaSettings, offset: int) -> None:
    """Delete the records of the deltas topic before an offset. Raises UnavailableError."""
    partition = TopicPartition(settings.name(DELTAS), 0)
    try:
        admin = KafkaAdminClient(**settings.client(), client_id="everloop-trainer-retention")
        try:
            admin.delete_records({partition: offset})
        finally:
            admin.close()
    except KafkaError as error:
        raise UnavailableError(f"kafka at {settings.bootstrap}: {error}") from error
