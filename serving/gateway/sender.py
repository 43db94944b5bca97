"""From the spool to Kafka, in order, until Kafka has confirmed.

Records go in rounds: what has gathered is read from the log, made one batch per partition, sent, and acknowledged when
every batch is confirmed. One round at a time keeps the order of a partition. Whatever fails, the producer is thrown away
and the round is read again: idempotence covers a producer's own retries, the join's memory of ids covers ours.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import CorruptRecordException, InvalidMessageError, KafkaError, MessageSizeTooLargeError

from feedback import topics
from feedback.settings import KafkaSettings
from serving.gateway.segments import Record
from serving.gateway.spool import Spool

TOPICS: Final = (topics.PREDICTIONS, topics.OUTCOMES)
"""The topics by their index in the spool."""

PREDICTION, OUTCOME = 0, 1

_ROUND: Final = 524_288
_POISON: Final = (MessageSizeTooLargeError, InvalidMessageError, CorruptRecordException)
_LOG: Final = logging.getLogger("everloop.gateway.sender")


class Sender:
    """Sends the spool's records until it is cancelled."""

    def __init__(self, spool: Spool, kafka: KafkaSettings, *, linger_s: float) -> None:
        self._spool, self._kafka, self._linger_s = spool, kafka, linger_s
        self._names = [kafka.name(topic) for topic in TOPICS]
        self._appended = asyncio.Event()
        self._empty = asyncio.Event()
        self.connected = False
        self.sent = 0
        self.refused = 0
        self._progress = 0.0
        spool.on_append = self._appended.set

    async def run(self) -> None:
        """Send for ever; a broker that does not answer is tried again after a growing pause."""
        pause = 0.1
        self._progress = asyncio.get_running_loop().time()
        while True:
            try:
                await self._session()
            except (KafkaError, OSError) as error:
                _LOG.warning("kafka %s: %r; trying again in %.1f s", self._kafka.bootstrap, error, pause)
            self.connected = False
            await asyncio.sleep(pause)
            pause = min(pause * 2, 1.0)

    async def flushed(self, timeout_s: float) -> bool:
        """Wait until Kafka has everything; False where it has not after `timeout_s`."""
        if not self._spool.waiting:
            return True
        self._empty.clear()
        try:
            await asyncio.wait_for(self._empty.wait(), timeout_s)
        except TimeoutError:
            return False
        return True

    def waiting_s(self, now: float) -> float:
        """For how long Kafka has confirmed nothing of what waits, s. `now`: the event loop's clock."""
        return now - self._progress if self._spool.waiting else 0.0

    async def _session(self) -> None:
        producer = AIOKafkaProducer(
            **self._kafka.aio_client(),
            client_id="everloop-gateway",
            enable_idempotence=True,
            acks="all",
            max_batch_size=1_000_000,
            request_timeout_ms=10_000,
            retry_backoff_ms=100,
        )
        try:
            await producer.start()
            self.connected = True
            while True:
                await self._round(producer)
        finally:
            await _stop(producer)

    async def _round(self, producer: Any) -> None:
        spool = self._spool
        self._appended.clear()
        records, end = spool.read(spool.acknowledged, _ROUND)
        if not records:
            if end > spool.acknowledged:
                spool.acknowledge(end)
            self._empty.set()
            await self._appended.wait()
            self._progress = asyncio.get_running_loop().time()
            await asyncio.sleep(self._linger_s)
            return
        try:
            await self._send(producer, records)
        except _POISON:
            await self._one_by_one(producer, records)
        spool.acknowledge(end)
        self._progress = asyncio.get_running_loop().time()
        self.sent += len(records)

    async def _send(self, producer: Any, records: Sequence[Record]) -> None:
        groups: dict[tuple[int, int], list[Record]] = defaultdict(list)
        for record in records:
            groups[record.topic, record.partition].append(record)
        futures: list[Any] = []
        try:
            for (topic, partition), group in groups.items():
                futures.append(await self._batch(producer, topic, partition, group))
        finally:
            results = await asyncio.gather(*futures, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _batch(self, producer: Any, topic: int, partition: int, group: Sequence[Record]) -> Any:
        batch = producer.create_batch()
        for record in group:
            if batch.append(key=record.key or None, value=record.value, timestamp=None) is None:
                raise MessageSizeTooLargeError(f"a batch of {len(group)} records")
        batch.close()
        return await producer.send_batch(batch, self._names[topic], partition=partition)

    async def _one_by_one(self, producer: Any, records: Sequence[Record]) -> None:
        """Send each alone; one that Kafka refuses for what it is would be refused for ever: it is logged and dropped."""
        for record in records:
            try:
                await self._send(producer, [record])
            except _POISON as error:
                self.refused += 1
                _LOG.error("kafka refuses record %r of %d bytes for good: %r", record.key, len(record.value), error)


async def _stop(producer: Any) -> None:
    """Close a producer that may have lost its broker: its own stop would wait for batches that nobody takes."""
    try:
        await asyncio.wait_for(producer.stop(), 1.0)
    except (TimeoutError, KafkaError, OSError):
        await producer.client.close()
