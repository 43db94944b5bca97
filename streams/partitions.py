"""One partition of the join in this process: its machine and its transactional producer.

The transactional id is a function of the partition's number, never of the process: starting the producer fences whoever had the
partition before and ends their open transaction. Only then is the changelog final, and only then may the committed offsets be asked for.
Samples, dead letters, progress, changes of state and input offsets commit together.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.structs import ConsumerRecord

from feedback.clock import now_us
from feedback.codec import encode
from feedback.events import DeadLetter
from feedback.settings import KafkaSettings
from feedback.topics import CHANGELOG, DEADLETTER, OUTCOMES, PREDICTIONS, SAMPLES
from streams import retire
from streams.changes import Offsets, State, read_changes
from streams.join import Join
from streams.log import logger
from streams.records import Round
from streams.settings import StreamsSettings
from streams.store import DiskSlates

_BATCH_BYTES = 900_000
_AT_ONCE = 500
_START_S = 60


class Partition:
    """One partition number of predictions, outcomes, samples and changelog."""

    def __init__(
        self, number: int, *, kafka: KafkaSettings, settings: StreamsSettings, group: str, folder: Path
    ) -> None:
        self.number = number
        self.kafka, self.settings, self.group = kafka, settings, group
        self._folder = folder / str(number)
        self._slates: DiskSlates | None = None
        self.lock = asyncio.Lock()
        self.ready = False
        self.closed = False
        self.join: Join | None = None
        self.producer: AIOKafkaProducer | None = None
        self.transaction_s = 0.0
        self.restored_s = 0.0
        self._predictions = TopicPartition(kafka.name(PREDICTIONS), number)
        self._outcomes = TopicPartition(kafka.name(OUTCOMES), number)

    @property
    def inputs(self) -> tuple[TopicPartition, TopicPartition]:
        """The partition of predictions and that of outcomes."""
        return self._predictions, self._outcomes

    async def open(self) -> None:
        """Fence the former owner, and make the state of the last commit again.

        Raises:
            CorruptError: the state can't be made again from the inputs.
        """
        started = time.monotonic()
        self.producer = AIOKafkaProducer(
            **self.kafka.aio_client(),
            transactional_id=f"{self.group}-{self.number}",
            transaction_timeout_ms=int(self.settings.engine.transaction_timeout_s * 1000),
            max_batch_size=_BATCH_BYTES,
            max_request_size=2**20,
            acks="all",
        )
        try:
            async with asyncio.timeout(_START_S):
                await self.producer.start()
            self.join = await self._restore()
        except BaseException:
            # Cancelled by a rebalance, or wrong: the store's folder must be free for the next try.
            await self.close()
            raise
        self.restored_s = time.monotonic() - started
        self.ready = True
        logger.info(
            "partition ready",
            extra={"partition": self.number, "slates": len(self.join.slates), "seconds": round(self.restored_s, 3)},
        )

    async def close(self) -> None:
        """Forget the state; a transaction that is open is waited for by the caller, who holds the lock."""
        self.closed, self.ready = True, False
        producer, self.producer, self.join = self.producer, None, None
        slates, self._slates = self._slates, None
        if slates is not None:
            slates.close()
        if producer is not None:
            # Nobody waits for it: the next owner fences it, and a producer that was fenced may take long to see that.
            retire.later(producer)

    def positions(self) -> dict[TopicPartition, int]:
        """Where to go on reading: what the state was committed with."""
        assert self.join is not None
        return {self._predictions: self.join.predictions.offset, self._outcomes: self.join.outcomes.offset}

    async def feed(self, predictions: Sequence[ConsumerRecord], outcomes: Sequence[ConsumerRecord]) -> Round:
        """Take records in. What comes of them must be committed before the next are fed."""
        join, out = self.join, Round()
        assert join is not None
        for records, read in ((predictions, join.read_predictions), (outcomes, join.read_outcomes)):
            for at in range(0, len(records), _AT_ONCE):
                read(records[at : at + _AT_ONCE], out)
                # The group takes a worker for dead whose loop does not turn.
                await asyncio.sleep(0)
        join.advance(out)
        return out

    async def commit(self, out: Round) -> None:
        """Commit what a feeding brought, and let the disk follow."""
        join = self.join
        assert join is not None
        async with asyncio.timeout(2 * self.settings.engine.transaction_timeout_s):
            await self._commit(join, out)
        join.flush()

    async def _commit(self, join: Join, out: Round) -> None:
        producer, began = self.producer, time.monotonic()
        assert producer is not None
        now = now_us()
        await producer.begin_transaction()
        samples = [*out.samples, (None, join.progress(now))]
        letters = [(None, encode(self._letter(refusal, now))) for refusal in out.refusals]
        deliveries = await self._send(SAMPLES, self.number, samples)
        deliveries += await self._send(CHANGELOG, self.number, join.changes())
        if letters:
            deliveries += await self._send(DEADLETTER, 0, letters)
        # Offsets only after the deliveries: the broker verifies a transaction's partitions one at a time.
        await asyncio.gather(*deliveries)
        offsets = {self._predictions: join.predictions.offset, self._outcomes: join.outcomes.offset}
        await producer.send_offsets_to_transaction(offsets, self.group)
        await producer.commit_transaction()
        self.transaction_s = time.monotonic() - began

    async def _send(self, topic: str, number: int, records: Iterable[tuple[bytes | None, bytes | None]]) -> list[Any]:
        producer, name = self.producer, self.kafka.name(topic)
        assert producer is not None
        batch, deliveries = producer.create_batch(), []
        for key, value in records:
            if batch.append(key=key, value=value, timestamp=None) is None:
                deliveries.append(await producer.send_batch(batch, name, partition=number))
                batch = producer.create_batch()
                if batch.append(key=key, value=value, timestamp=None) is None:
                    # Larger than a batch may be: on its own, where the client may say that it is too large for the broker.
                    deliveries.append(await producer.send(name, value, key=key, partition=number))
        if batch.record_count():
            deliveries.append(await producer.send_batch(batch, name, partition=number))
        return deliveries

    def _letter(self, refusal: Any, now: int) -> DeadLetter:
        record = refusal.record
        return DeadLetter(
            topic=PREDICTIONS if refusal.prediction else OUTCOMES,
            partition=self.number,
            offset=record.offset,
            reason=refusal.reason,
            detail=refusal.detail,
            time=now,
            key=record.key,
            value=record.value,
        )

    async def _restore(self) -> Join:
        reader = AIOKafkaConsumer(
            **self.kafka.aio_client(),
            isolation_level="read_committed",
            auto_offset_reset="none",
            enable_auto_commit=False,
            fetch_max_wait_ms=20,
            max_partition_fetch_bytes=4 * 2**20,
        )
        await reader.start()
        try:
            changelog = TopicPartition(self.kafka.name(CHANGELOG), self.number)
            changes: list[tuple[bytes, bytes | None]] = []
            async for records in _read(reader, changelog, 0, None):
                changes.extend((record.key, record.value) for record in records)
            state, waits, repeated = read_changes(changes)
            return await self._again(reader, state, waits, repeated)
        finally:
            retire.later(reader)

    async def _again(self, reader: AIOKafkaConsumer, state: State | None, waits: Offsets, repeated: Offsets) -> Join:
        """Make the state again, from what lies on disk and from the inputs."""
        settings, bounds = self.settings, self.settings.bounds
        slates = self._slates = DiskSlates(self._folder, in_memory=bounds.slates_in_memory, unwritten=bounds.unwritten)
        header = slates.header()
        if state is None or header is None or not state.goes_on_from(header):
            slates.wipe()
            header = None
        rules: dict[str, Any] = {"join": settings.join, "labels": settings.labels, "bounds": bounds, "slates": slates}
        if state is None:
            return Join(self.number, **rules)
        if header is not None:
            slates.adopt(header)
        join = Join.restoring(self.number, state, waits, repeated, **rules, written=header)
        await self._refeed(reader, join, state)
        return join

    async def _refeed(self, reader: AIOKafkaConsumer, join: Join, state: State) -> None:
        nothing, truncated = Round(), False
        for partition, low, end, feed in (
            (self._predictions, join.predictions.offset, state.predictions.offset, join.read_predictions),
            (self._outcomes, join.outcomes.offset, state.outcomes.offset, join.read_outcomes),
        ):
            first = (await reader.beginning_offsets([partition]))[partition]
            if first > low and end > low:
                truncated = True
                logger.error(
                    "inputs that open slates need are no longer in the topic: keep it longer",
                    extra={"topic": partition.topic, "partition": self.number, "needed": low, "begins": first},
                )
            async for records in _read(reader, partition, low, end):
                feed(records, nothing)
                join.flush()
        join.restored(state, truncated=truncated)


async def _read(reader: AIOKafkaConsumer, partition: TopicPartition, low: int, end: int | None) -> Any:
    """Yield lists of the records from `low` to before `end` (None: to the end of what is committed now)."""
    first = (await reader.beginning_offsets([partition]))[partition]
    last = (await reader.end_offsets([partition]))[partition] if end is None else end
    reader.assign([partition])
    reader.seek(partition, max(low, first))
    while await reader.position(partition) < last:
        for records in (await reader.getmany(partition, timeout_ms=200, max_records=_AT_ONCE)).values():
            yield [record for record in records if record.offset < last]
        await asyncio.sleep(0)
