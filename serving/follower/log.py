"""The deltas topic: committed records to whole, checked deltas of one line, in order.

A record that is broken, or a delta whose parts are not all there, is left out and counted: what follows then shows as a gap,
which is the one way in which anything missing stops a model.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from crc32c import crc32c
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from feedback.deltas import DeltaHeader, read_header
from feedback.errors import CorruptError, EventError, UnavailableError
from feedback.settings import KafkaSettings
from feedback.topics import DELTAS
from serving.follower.order import Position

log = logging.getLogger("everloop.follower")


@dataclass(frozen=True)
class Delta:
    """One whole delta, its parts joined."""

    header: DeltaHeader
    value: bytes
    offset: int
    """Of its first record."""


def check(header: DeltaHeader, value: bytes) -> None:
    """Compare a record's value with its header.

    Raises:
        CorruptError: the checksum differs, or the parts are numbered out of range.
    """
    if not 1 <= header.part <= header.parts:
        raise CorruptError(f"delta {header.sequence} of {header.line}: part {header.part} of {header.parts}")
    if (found := crc32c(value)) != header.crc32c:
        raise CorruptError(
            f"delta {header.sequence} of {header.line}, part {header.part}: CRC-32C {found:#010x}, "
            f"its header says {header.crc32c:#010x}"
        )


class Assembler:
    """Joins the parts of a delta: in order and all of them, or nothing."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._first: DeltaHeader | None = None
        self._offset = 0

    def take(self, header: DeltaHeader, value: bytes, offset: int) -> Delta | None:
        """Take the next record of the line; answer the delta that it completes, if it does."""
        if header.part == 1:
            self._first, self._parts, self._offset = header, [], offset
        if self._first is None or not self._continues(header):
            self._first, self._parts = None, []
            return None
        self._parts.append(value)
        if header.part < header.parts:
            return None
        whole = Delta(fuller(self._first, header), b"".join(self._parts), self._offset)
        self._first, self._parts = None, []
        return whole

    def _continues(self, header: DeltaHeader) -> bool:
        first = self._first
        return (
            first is not None
            and header.part == len(self._parts) + 1
            and header.parts == first.parts
            and _name(header) == _name(first)
        )


def _name(header: DeltaHeader) -> tuple[str, int, int, int]:
    return header.kind, header.epoch, header.previous, header.sequence


def fuller(first: DeltaHeader, last: DeltaHeader) -> DeltaHeader:
    """The header of the whole: what stands on the first part, or, when that one is bare, on the last."""
    return first if first.steps or first.sent_times or not last.steps else last


@dataclass
class Counts:
    """What the reader has seen."""

    records: int = 0
    broken: int = 0


class DeltaLog:
    """A reader of one line's deltas, with its own place in the topic. One thread at a time."""

    def __init__(self, kafka: KafkaSettings, *, line: str) -> None:
        self._kafka, self.line = kafka, line
        self._partition = TopicPartition(kafka.name(DELTAS), 0)
        self._assembler = Assembler()
        self._consumer: Any = None
        self._end = -1
        self.counts = Counts()

    def open(self) -> None:
        """Connect.

        Raises:
            UnavailableError: no broker answers.
        """
        self._consumer = translated(
            lambda: KafkaConsumer(
                **self._kafka.client(),
                client_id=f"everloop-follower-{self.line}",
                isolation_level="read_committed",
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                max_partition_fetch_bytes=8 * 2**20,
                receive_message_max_bytes=2**30,
                max_poll_records=256,
                fetch_max_wait_ms=500,
            )
        )
        self._consumer.assign([self._partition])

    def close(self) -> None:
        """Disconnect; idempotent."""
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None

    def seek(self, at: Position) -> None:
        """Go to the first record that a model which stands `at` a position has not got, or a little before it.

        Records of one line are in order of epoch and sequence, so that halving finds the place.

        Raises:
            UnavailableError: the broker does not answer.
        """
        self._assembler = Assembler()
        low = translated(lambda: self._consumer.beginning_offsets([self._partition]))[self._partition]
        high = self.end()
        # A place up to this many records early costs less than another look.
        while high - low > 64:
            middle = (low + high) // 2
            found = self._peek(middle, high)
            if found is None or Position(found.epoch, found.sequence) > at:
                high = middle
            else:
                low = middle
        self._consumer.seek(self._partition, low)

    def end(self) -> int:
        """The offset after the last committed record.

        Raises:
            UnavailableError: the broker does not answer.
        """
        self._end = translated(lambda: self._consumer.end_offsets([self._partition]))[self._partition]
        return self._end

    def at(self) -> int:
        """The offset of the next record to be read."""
        return int(self._consumer.position(self._partition))

    def poll(self, timeout_s: float) -> list[Delta]:
        """Whole deltas and checksums of the line that have come, in order; empty after `timeout_s` without any.

        Raises:
            UnavailableError: the broker does not answer.
        """
        records = translated(lambda: self._consumer.poll(timeout_ms=round(timeout_s * 1000)))
        found = []
        for record in records.get(self._partition, ()):
            self.counts.records += 1
            delta = self._whole(record)
            if delta is not None:
                found.append(delta)
        return found

    def _whole(self, record: Any) -> Delta | None:
        if record.key != self.line.encode():
            return None
        value = record.value or b""
        try:
            header = read_header(record.headers)
            check(header, value)
        except (CorruptError, EventError) as error:
            self.counts.broken += 1
            log.error("offset %s of the deltas topic is left out: %s", record.offset, error)
            return None
        return self._assembler.take(header, value, record.offset)

    def _peek(self, offset: int, high: int) -> DeltaHeader | None:
        """The first header of the line at or after an offset, before `high`."""
        self._consumer.seek(self._partition, offset)
        while True:
            records = translated(lambda: self._consumer.poll(timeout_ms=500, max_records=16))
            for record in records.get(self._partition, ()):
                if record.offset >= high:
                    return None
                if record.key == self.line.encode():
                    try:
                        return read_header(record.headers)
                    except EventError:
                        continue
            if not records and self.at() >= high:
                return None
            if not records:
                # Nothing but transaction markers, or the broker is slow: what is there is read from `low`.
                return None


def translated(call: Callable[[], Any]) -> Any:
    """Call Kafka; its errors become UnavailableError."""
    try:
        return call()
    except KafkaError as error:
        raise UnavailableError(f"kafka: {error}") from error
