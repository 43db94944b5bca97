"""The service that carries records to the machines: one consumer for all partitions, one transaction per partition and round.

Partitions are fed one after the other, so that the broker writes the transaction of one while the next is fed.

A partition that is taken away is kept until the rebalance is over: most come back to the same worker, and their state is then the one
that was committed last. One that does not come back is closed; its new owner has fenced its producer by then.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import KafkaConnectionError, KafkaError, ProducerFenced

from feedback.events import Ledger
from feedback.settings import KafkaSettings
from feedback.topics import CHANGELOG, DEADLETTER, OUTCOMES, PREDICTIONS, SAMPLES
from streams import retire
from streams.log import logger
from streams.partitions import Partition
from streams.records import Round
from streams.settings import StreamsSettings

GROUP = "join"
"""The consumer group, without the namespace, and the prefix of the transactional ids."""

_HEARTBEAT_MS = 1_000
_BACKLOG = 4_000
"""Records in one round from which on the worker is catching up: it then feeds the next while the last are still being committed."""


class Engine(ConsumerRebalanceListener):
    """All partitions of the join that this worker has."""

    def __init__(
        self,
        *,
        kafka: KafkaSettings,
        settings: StreamsSettings,
        worker: str,
        folder: Path,
        fail: Callable[[BaseException], None],
    ) -> None:
        self.kafka, self.settings = kafka, settings
        self.group = kafka.name(GROUP)
        self.parts: dict[int, Partition] = {}
        self.ready = asyncio.Event()
        self.tell: Callable[[Partition, Round], None] = lambda _partition, _round: None
        self._worker, self._folder = worker, folder
        self._fail = fail
        self._generation = 0
        self._assigned: set[int] = set()
        self._opening: dict[int, asyncio.Task[None]] = {}
        self._stopping = False
        self._seen: dict[TopicPartition, int] = {}
        self._consumer: AIOKafkaConsumer | None = None

    @property
    def consumer(self) -> AIOKafkaConsumer:
        """The consumer of both input topics."""
        assert self._consumer is not None
        return self._consumer

    def ledger(self) -> dict[int, Ledger]:
        """The ledger of each partition that this worker has."""
        return {number: part.join.ledger for number, part in sorted(self.parts.items()) if part.join is not None}

    def lags(self) -> dict[tuple[int, str], int]:
        """Records that are not joined yet, by partition and topic (without the namespace); of those that have been read from."""
        ready = [part for _, part in sorted(self.parts.items()) if part.ready and part.join is not None]
        assigned = self._consumer.assignment() if self._consumer is not None else ()
        return {
            (part.number, name): max(0, self._lag(partition))
            for part in ready
            for name, partition in zip((PREDICTIONS, OUTCOMES), part.inputs, strict=True)
            if partition in assigned
        }

    async def start(self) -> None:
        """Wait for the broker and the topics, and join the group."""
        await self._until_topics_exist()
        settings = self.settings.engine
        self._consumer = AIOKafkaConsumer(
            **self.kafka.aio_client(),
            group_id=self.group,
            group_instance_id=f"{self.group}-{self._worker}",
            client_id=f"{self.group}-{self._worker}",
            partition_assignment_strategy=[RangePartitionAssignor],
            session_timeout_ms=int(settings.session_s * 1000),
            rebalance_timeout_ms=int(settings.session_s * 1000),
            heartbeat_interval_ms=_HEARTBEAT_MS,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=20,
            max_partition_fetch_bytes=4 * 2**20,
            isolation_level="read_committed",
        )
        self._consumer.subscribe([self.kafka.name(PREDICTIONS), self.kafka.name(OUTCOMES)], listener=self)
        await self._consumer.start()

    async def stop(self) -> None:
        """Leave: the transactions under way are committed first."""
        self._stopping = True
        for task in self._opening.values():
            task.cancel()
        for part in self.parts.values():
            async with part.lock:
                await part.close()
        self.parts.clear()
        if self._consumer is not None:
            await retire.stop(self._consumer)

    async def run(self) -> None:
        """Read and work until stopped."""
        settings = self.settings.engine
        while not self._stopping:
            generation = self._generation
            data = await self.consumer.getmany(timeout_ms=100, max_records=settings.max_records)
            if generation != self._generation:
                self._again(data)
            elif data and not self._stopping:
                commits = await self._round(data, generation)
                if sum(map(len, data.values())) < _BACKLOG:
                    await asyncio.gather(*commits)
                    await asyncio.sleep(settings.pause_s)

    async def _round(self, data: dict[TopicPartition, list[Any]], generation: int) -> list[asyncio.Task[None]]:
        """Feed each partition what was read of it, one after the other; answers the commits, which go on meanwhile."""
        by_number: dict[int, dict[TopicPartition, list[Any]]] = defaultdict(dict)
        for partition, read in data.items():
            by_number[partition.partition][partition] = read
            self._seen[partition] = read[-1].timestamp
        commits = []
        for number, records in by_number.items():
            part = self.parts.get(number)
            if part is None:
                continue
            await part.lock.acquire()
            out = await self._feed(part, records, generation)
            if out is None:
                part.lock.release()
            else:
                commits.append(self._spawn(number, self._commit(part, out)))
        return commits

    async def _feed(self, part: Partition, records: dict[TopicPartition, list[Any]], generation: int) -> Round | None:
        if not part.ready or generation != self._generation:
            self._again(records)
            return None
        predictions, outcomes = part.inputs
        return await part.feed(records.get(predictions, ()), records.get(outcomes, ()))

    async def _commit(self, part: Partition, out: Round) -> None:
        """Commit what a feeding brought; the partition's lock is held since, and let go here."""
        try:
            await part.commit(out)
            self.tell(part, out)
            self._balance(part)
        except ProducerFenced:
            logger.warning("fenced: another worker has this partition", extra={"partition": part.number})
            await part.close()
            self._pause(part)
            self._later(self.settings.engine.session_s, part.number)
        finally:
            part.lock.release()

    def _again(self, data: Iterable[TopicPartition]) -> None:
        """Let records that came during a rebalance be read again: they may have been fetched after their partition was sought."""
        for partition in data:
            part = self.parts.get(partition.partition)
            if part is not None and part.ready and partition in self.consumer.assignment():
                self.consumer.seek(partition, part.positions()[partition])

    # Rebalances. aiokafka swallows what these raise: the work is done in tasks whose failure ends the process.

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Finish the transactions under way; what comes back is still here."""
        self._generation += 1
        self._assigned = set()
        for number in {partition.partition for partition in revoked}:
            task = self._opening.pop(number, None)
            if task is not None:
                task.cancel()
            part = self.parts.get(number)
            if part is not None:
                async with part.lock:
                    pass

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Open what is new, go on with what was here, close the rest."""
        self._generation += 1
        self._assigned = {partition.partition for partition in assigned}
        logger.info("partitions assigned", extra={"partitions": sorted(self._assigned)})
        for number in [number for number in self.parts if number not in self._assigned]:
            self._spawn(number, self._close(self.parts.pop(number)))
        for number in sorted(self._assigned):
            part = self.parts.get(number)
            if part is None or not part.ready:
                part = self.parts[number] = self._partition(number)
            self._pause(part)
            self._opening[number] = self._spawn(number, self._open(part, self._generation))
        if not self._assigned:
            self.ready.set()

    async def _open(self, part: Partition, generation: int) -> None:
        async with part.lock:
            if part.ready and not await self._current(part):
                await part.close()
                part = self.parts[part.number] = self._partition(part.number)
            if not part.ready:
                await part.open()
            if generation != self._generation:
                return
            for partition, offset in part.positions().items():
                self.consumer.seek(partition, offset)
            self.consumer.resume(*part.inputs)
        self._opening.pop(part.number, None)
        if all(each.ready for each in self.parts.values()):
            self.ready.set()

    async def _current(self, part: Partition) -> bool:
        """Whether nobody has committed for this partition since we did."""
        positions = part.positions()
        committed = {partition: await self.consumer.committed(partition) or 0 for partition in positions}
        return committed == positions

    def _partition(self, number: int) -> Partition:
        return Partition(number, kafka=self.kafka, settings=self.settings, group=self.group, folder=self._folder)

    async def _close(self, part: Partition) -> None:
        async with part.lock:
            await part.close()

    def _later(self, delay_s: float, number: int) -> None:
        """Open a partition again that was fenced, if the group still says that it is ours."""
        generation = self._generation

        async def again() -> None:
            await asyncio.sleep(delay_s)
            if generation == self._generation and number in self._assigned and not self._stopping:
                part = self.parts[number] = self._partition(number)
                await self._open(part, generation)

        self._spawn(number, again())

    def _spawn(self, number: int, work: Awaitable[None]) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.ensure_future(work)

        def ended(done: asyncio.Task[None]) -> None:
            if not done.cancelled() and (error := done.exception()) is not None and not self._stopping:
                logger.error("partition failed", extra={"partition": number}, exc_info=error)
                self._fail(error)

        task.add_done_callback(ended)
        return task

    # Reading both topics in step

    def _pause(self, part: Partition) -> None:
        mine = [partition for partition in part.inputs if partition in self.consumer.assignment()]
        self.consumer.pause(*mine)

    def _balance(self, part: Partition) -> None:
        """While it catches up, hold the topic that is far ahead of the other, so that less waits for its match."""
        first, second = part.inputs
        at, to = self._seen.get(first), self._seen.get(second)
        if at is None or to is None or not part.ready:
            return
        limit = self.settings.engine.ahead_s * 1000
        paused = self.consumer.paused()
        for ahead, behind, by in ((first, second, at - to), (second, first, to - at)):
            hold = by > limit and self._lag(behind) > 0
            if hold and ahead not in paused:
                self.consumer.pause(ahead)
            elif not hold and ahead in paused:
                self.consumer.resume(ahead)

    def _lag(self, partition: TopicPartition) -> int:
        part = self.parts[partition.partition]
        assert part.join is not None
        source = part.join.predictions if partition == part.inputs[0] else part.join.outcomes
        return (self.consumer.highwater(partition) or 0) - source.offset

    async def _until_topics_exist(self) -> None:
        """A consumer that starts before its topics exist says nothing and reads nothing, for ever."""
        wanted = {self.kafka.name(name) for name in (PREDICTIONS, OUTCOMES, SAMPLES, CHANGELOG, DEADLETTER)}
        said = 0.0
        while not self._stopping:
            probe = AIOKafkaConsumer(**self.kafka.aio_client())
            try:
                await probe.start()
                missing = sorted(wanted - await probe.topics())
                if not missing:
                    return
                problem = f"these topics do not exist: {', '.join(missing)}"
            except (KafkaConnectionError, KafkaError) as error:
                problem = f"kafka does not answer at {self.kafka.bootstrap}: {error}"
            finally:
                retire.later(probe)
            if time.monotonic() - said > 10:
                logger.warning("waiting: %s", problem)
                said = time.monotonic()
            await asyncio.sleep(0.5)
