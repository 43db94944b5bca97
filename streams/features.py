"""The service that keeps the real-time features in Redis: a consumer of its own, absolute values, written only if newer.

Faust's agents take 10,000 events/s at most; this is a second service therefore. It commits its offsets after Redis has the values: a
record read twice meets an entry with its offset behind it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Any, Final

import redis.asyncio
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from redis.exceptions import RedisError

from feedback import state
from feedback.clock import to_us
from feedback.errors import CorruptError
from feedback.settings import KafkaSettings, RedisSettings
from feedback.topics import PREDICTIONS, SAMPLES
from streams import counts, retire
from streams.counts import Counts
from streams.log import logger
from streams.settings import StateSettings

GROUP = "features"
"""The consumer group, without the namespace."""

_CHUNK = 200
_RETRY_S = 1.0

WRITE: Final = """
local expire, popular, at = tonumber(ARGV[1]), KEYS[1], 2
for i = 2, #KEYS do
  local key, item, fields, clicked = KEYS[i], ARGV[at], tonumber(ARGV[at + 1]), false
  at = at + 2
  for _ = 1, fields do
    local field, data = ARGV[at], ARGV[at + 1]
    at = at + 2
    local old = redis.call('HGET', key, field)
    if not old or struct.unpack('<i8', old) < struct.unpack('<i8', data) then
      redis.call('HSET', key, field, data)
      clicked = clicked or string.sub(field, 1, 1) == 'c'
    end
  end
  redis.call('EXPIRE', key, expire)
  if clicked and item ~= '' then
    local all, newest, total, half = redis.call('HGETALL', key), 0, 0, 1
    for n = 1, #all, 2 do
      if string.sub(all[n], 1, 1) == 'c' then
        local _, time, _, _ = struct.unpack('<i8i8dd', all[n + 1])
        newest = math.max(newest, time)
      end
    end
    for n = 1, #all, 2 do
      if string.sub(all[n], 1, 1) == 'c' then
        local _, time, value, half_life = struct.unpack('<i8i8dd', all[n + 1])
        half = half_life * 1000000
        total = total + value * 2 ^ ((time - newest) / half)
      end
    end
    redis.call('ZADD', popular, math.log(total) / math.log(2) + newest / half, item)
  end
end
"""
"""Write fields of many hashes, each only if its offset is higher; move clicked items in the popular pool.
KEYS: the pool, then the hashes. ARGV: seconds to live, then per hash the item (empty for a reader), the number of fields, and those."""


class Features(ConsumerRebalanceListener):
    """The features of the partitions that this worker has."""

    def __init__(
        self,
        *,
        kafka: KafkaSettings,
        redis_settings: RedisSettings,
        settings: StateSettings,
        future_s: float,
        worker: str,
    ) -> None:
        self.kafka, self.settings = kafka, settings
        self._future = to_us(future_s)
        self.namespace = redis_settings.namespace
        self.written = 0
        self._worker = worker
        self._url = str(redis_settings.url)
        self._counts = Counts(settings, self.namespace)
        self._positions: dict[TopicPartition, int] = {}
        self._lock = asyncio.Lock()
        self._stopping = False
        self._flushed = 0.0
        self._flush_took = 0.0
        self._redis: Any = None
        self._write: Any = None
        self._consumer: AIOKafkaConsumer | None = None

    async def start(self) -> None:
        """Connect, and join the group."""
        self._redis = redis.asyncio.from_url(self._url, socket_timeout=10, health_check_interval=10)
        self._write = self._redis.register_script(WRITE)
        group = self.kafka.name(GROUP)
        self._consumer = AIOKafkaConsumer(
            **self.kafka.aio_client(),
            group_id=group,
            group_instance_id=f"{group}-{self._worker}",
            client_id=f"{group}-{self._worker}",
            session_timeout_ms=10_000,
            heartbeat_interval_ms=1_000,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=100,
            isolation_level="read_committed",
        )
        self._consumer.subscribe([self.kafka.name(PREDICTIONS), self.kafka.name(SAMPLES)], listener=self)
        await self._consumer.start()

    async def stop(self) -> None:
        """Write what is counted and leave."""
        self._stopping = True
        async with self._lock:
            try:
                await self._flush()
            except RedisError as error:
                logger.warning("features not written at the end, they are read again: %s", error)
        if self._consumer is not None:
            await retire.stop(self._consumer)
        if self._redis is not None:
            await self._redis.aclose()

    async def run(self) -> None:
        """Read, count and write until stopped. While Redis is away nothing is committed."""
        assert self._consumer is not None
        while not self._stopping:
            data = await self._consumer.getmany(timeout_ms=100, max_records=8_000)
            while not self._stopping:
                try:
                    async with self._lock:
                        await self._count(data)
                        await self._maybe_flush()
                    break
                except RedisError as error:
                    logger.warning("redis does not take features, waiting: %s", error)
                    await asyncio.sleep(_RETRY_S)

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Write what is counted; whoever gets the partitions reads it back."""
        async with self._lock:
            try:
                await self._flush()
            except RedisError as error:
                logger.warning("features not written before a rebalance, they are read again: %s", error)
            self._counts = Counts(self.settings, self.namespace)
            self._positions.clear()

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Nothing to prepare: entries are read from Redis when they are needed."""

    async def _count(self, data: dict[TopicPartition, list[Any]]) -> None:
        assert self._consumer is not None
        mine = self._consumer.assignment()
        for partition, records in data.items():
            if partition not in mine:
                continue
            read = counts.impressions if partition.topic == self.kafka.name(PREDICTIONS) else counts.clicks
            events = [
                event
                for event in read((record.offset, record.timestamp, record.value) for record in records)
                if event.time <= event.received + self._future
            ]
            await self._load(partition.partition, events)
            self._counts.count(partition.partition, events)
            self._positions[partition] = records[-1].offset + 1

    async def _load(self, partition: int, events: list[counts.Event]) -> None:
        wanted = self._counts.wanted(partition, events)
        for at in range(0, len(wanted), 5 * _CHUNK):
            keys = wanted[at : at + 5 * _CHUNK]
            pipeline = self._redis.pipeline(transaction=False)
            for key, field in keys:
                pipeline.hget(key, field)
            values = await pipeline.execute()
            try:
                self._counts.load(keys, values)
            except CorruptError as error:
                logger.error("a field in redis is not ours, it is begun anew: %s", error)
                self._counts.load(keys, [None] * len(keys))

    async def _maybe_flush(self) -> None:
        # Where writing takes long, it is done less often: at most a fifth of the time.
        now = time.monotonic()
        if now - self._flushed < max(self.settings.flush_s, 5 * self._flush_took):
            return
        await self._flush()
        self._flushed = time.monotonic()
        self._flush_took = self._flushed - now

    async def _flush(self) -> None:
        changes = self._counts.changes()
        try:
            await self._write_all(changes)
        except RedisError:
            self._counts.dirty.update((key, field) for key, fields in changes.items() for field, _ in fields)
            raise
        self._counts.forget(self.settings.cached)
        if self._positions and self._consumer is not None:
            mine = self._consumer.assignment()
            offsets = {partition: offset for partition, offset in self._positions.items() if partition in mine}
            self._positions.clear()
            if offsets:
                await self._consumer.commit(offsets)

    async def _write_all(self, changes: dict[str, list[tuple[str, bytes]]]) -> None:
        items = state.item_key(self.namespace, "")
        popular, fresh = (state.pool_key(self.namespace, pool) for pool in (state.POOL_POPULAR, state.POOL_FRESH))
        seen: dict[str, int] = {}
        keys = list(changes)
        for at in range(0, len(keys), _CHUNK):
            chunk, arguments = keys[at : at + _CHUNK], list[Any]([self.settings.expire_s])
            for key in chunk:
                fields = changes[key]
                item = key.removeprefix(items) if key.startswith(items) else ""
                arguments += [item, len(fields), *(part for pair in fields for part in pair)]
                for field, value in fields:
                    if field[0] == "i":
                        first = state.read_impressions(value)[3]
                        seen[item] = min(first, seen.get(item, first))
            await self._write(keys=[popular, *chunk], args=arguments)
            self.written += len(chunk)
        if seen:
            await self._redis.zadd(fresh, seen, lt=True)
        if keys:
            for pool in (popular, fresh):
                await self._redis.zremrangebyrank(pool, 0, -self.settings.pool - 1)
                await self._redis.expire(pool, self.settings.expire_s)
