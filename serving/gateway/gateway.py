"""The parts put together, started and stopped in order."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from feedback.clock import SECOND, now_us
from feedback.codec import encode
from feedback.deltas import DeltaHeader
from feedback.errors import BufferFullError
from feedback.events import Tick
from feedback.features import Feature
from feedback.settings import KafkaSettings, RedisSettings
from serving.gateway.access import Access
from serving.gateway.app import App
from serving.gateway.breaker import Breaker
from serving.gateway.columns import Columns
from serving.gateway.disk import Disk
from serving.gateway.freshness import Freshness
from serving.gateway.messages import Status
from serving.gateway.metrics import Metrics
from serving.gateway.observe import Observer
from serving.gateway.outcomes import Collector
from serving.gateway.policies.choose import choose
from serving.gateway.recommend import Recommender
from serving.gateway.rpc import Rpc
from serving.gateway.scorer import Scorer
from serving.gateway.sender import OUTCOME, PREDICTION, Sender
from serving.gateway.settings import GatewaySettings
from serving.gateway.spool import Spool
from serving.gateway.store import Store
from serving.gateway.watch import Watch

_LOG: Final = logging.getLogger("everloop.gateway")
_STALLED_S: Final = 2.0
"""No tick is written while Kafka has confirmed nothing for so long: it is away, and ticks would only add up."""


class Gateway:
    """One gateway: build it inside the running event loop."""

    def __init__(
        self,
        *,
        kafka: KafkaSettings,
        redis: RedisSettings,
        features: Sequence[Feature],
        settings: GatewaySettings,
        data: Path,
        model_server: str,
    ) -> None:
        settings.check()
        self._settings, self._partitions = settings, kafka.partitions
        budget, spool = settings.budget, settings.spool
        self.metrics = Metrics()
        self._breakers = {
            name: Breaker(failures=budget.failures, cooldown_s=budget.cooldown_s) for name in ("redis", "model")
        }
        self._columns = Columns(features)
        self.spool = Spool(data / "spool", max_bytes=spool.max_bytes, segment_bytes=spool.segment_bytes)
        self._disk = Disk(self.spool, spool.fsync, spool.fsync_s)
        self.sender = Sender(self.spool, kafka, linger_s=spool.linger_s)
        self.store = Store(redis, features, self._breakers["redis"], pool=settings.slate.pool)
        self._scorer = Scorer(
            model_server, settings.model, features, settings.server, self._breakers["model"], limit_s=budget.model_s
        )
        self._freshness = Freshness()
        self._loop = asyncio.get_running_loop()
        self._watch = Watch(kafka, settings.model, self._on_delta)
        self._tasks: list[asyncio.Task[None]] = []
        self._rpc: Rpc | None = None
        self.grpc_port = 0
        self.recommender = self._recommender()
        self.observer = Observer(
            settings,
            columns=self._columns,
            store=self.store,
            spool=self.spool,
            metrics=self.metrics,
            partitions=kafka.partitions,
        )
        self.collector = Collector(
            self.spool, self.metrics, partitions=kafka.partitions, max_future_s=settings.max_future_s
        )
        self.access = Access(settings.keys)
        self.app = App(
            settings.http,
            access=self.access,
            recommender=self.recommender,
            observer=self.observer,
            collector=self.collector,
            disk=self._disk,
            metrics=self.metrics,
            status=self.status,
        )

    async def start(self) -> None:
        """Start what runs in the background, and the gRPC twin where it is configured."""
        if self._settings.grpc_port >= 0:
            await self.start_rpc(self._settings.grpc_port)
        work: list[Coroutine[Any, Any, None]] = [self.sender.run(), self.store.watch_pools(), self._disk.run()]
        if self._settings.ticks:
            work.append(self._tick())
        self._tasks = [asyncio.create_task(_logged(part)) for part in work]
        self._watch.start()

    async def start_rpc(self, port: int) -> None:
        """Start the gRPC twin; its port is `grpc_port` then. Raises ConfigError where the port is taken."""
        self._rpc = Rpc(
            self._settings.http,
            access=self.access,
            recommender=self.recommender,
            observer=self.observer,
            collector=self.collector,
            disk=self._disk,
        )
        self.grpc_port = await self._rpc.start(port)

    async def stop_rpc(self) -> None:
        """Let gRPC calls in flight end, and take no more."""
        if self._rpc:
            await self._rpc.stop()

    async def stop(self) -> None:
        """Give Kafka a moment to take what is left, then stop; what is still left waits on disk."""
        await self.stop_rpc()
        if not await self.sender.flushed(self._settings.spool.flush_s):
            _LOG.warning("spool: %d bytes wait for the next start", self.spool.waiting)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.to_thread(self._watch.stop)
        await self.close()

    async def close(self) -> None:
        """Close connections and files (all there is to do for a gateway that was never started)."""
        await self._scorer.close()
        await self.store.close()
        await asyncio.sleep(0)
        self.spool.close()

    def status(self) -> Status:
        """The gateway and what it sees of the loop; brings the gauges up to date too."""
        last, metrics, spool = self.recommender.last, self.metrics, self.spool
        waiting_s = self.sender.waiting_s(self._loop.time())
        metrics.waiting.set(spool.waiting)
        metrics.waiting_s.set(waiting_s)
        metrics.room.set(self._settings.spool.max_bytes)
        metrics.sent.set(self.sender.sent)
        metrics.version.set(last.version)
        metrics.sequence.set(last.sequence)
        for name, breaker in self._breakers.items():
            metrics.breaker.labels(name).set(breaker.state != "closed")
        return Status(
            model=self._settings.model,
            version=last.version,
            sequence=last.sequence,
            epoch=last.epoch,
            freshness=self._freshness.quantiles(),
            requests=last.requests,
            fallbacks=last.fallbacks,
            spool={
                "waiting_bytes": spool.waiting,
                "max_bytes": self._settings.spool.max_bytes,
                "full": float(spool.full),
                "waiting_s": waiting_s,
                "sent": self.sender.sent,
                "unlogged": last.unlogged,
            },
            breakers={name: breaker.state for name, breaker in self._breakers.items()}
            | {"kafka": "closed" if self.sender.connected else "open"},
            control=msgspec.to_builtins(self._watch.control),
        )

    def _recommender(self) -> Recommender:
        return Recommender(
            self._settings,
            columns=self._columns,
            store=self.store,
            scorer=self._scorer,
            policy=choose(self._settings.policy),
            spool=self.spool,
            watch=self._watch,
            freshness=self._freshness,
            metrics=self.metrics,
            partitions=self._partitions,
        )

    def _on_delta(self, delta: DeltaHeader) -> None:
        """Called by the watch's thread."""
        self._loop.call_soon_threadsafe(self._freshness.published, delta)

    async def _tick(self) -> None:
        while True:
            if self.sender.waiting_s(self._loop.time()) < _STALLED_S:
                now = now_us()
                value = encode(Tick(event_time=now, sent_time=now, source="gateway"))
                for partition in range(self._partitions):
                    self._append_tick(partition, value)
            # On the second, so that several gateways tick together rather than all the time.
            step = self._settings.tick_s
            await asyncio.sleep(step - (now_us() / SECOND) % step)

    def _append_tick(self, partition: int, value: bytes) -> None:
        try:
            for topic in (PREDICTION, OUTCOME):
                self.spool.append(topic, partition, b"", value)
        except (BufferFullError, OSError) as error:
            _LOG.warning("no tick: %s", error)


async def _logged(part: Coroutine[Any, Any, None]) -> None:
    """Run one part of the background; an error that nobody foresaw is logged before it ends the part."""
    try:
        await part
    except Exception:
        _LOG.exception("%s has ended", getattr(part, "__qualname__", part))
        raise
