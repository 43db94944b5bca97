"""What the follower says of itself: the replicas topic, the models topic, and metrics in Prometheus' format."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from typing import Any

import msgspec
from kafka import KafkaProducer
from kafka.errors import KafkaError
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from feedback import versions
from feedback.clock import SECOND
from feedback.settings import KafkaSettings
from feedback.topics import MODELS, REPLICAS
from feedback.versions import ModelEvent, Replica
from serving.follower.apply import Applied, Progress
from serving.follower.plan import View

log = logging.getLogger("everloop.follower")

_FRESHNESS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 30, 60, 300, 3600)
_SHORT = (0.0002, 0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.5, 1, 2, 5)


class Metrics:
    """The metrics of one follower, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.freshness = Histogram(
            "everloop_freshness_seconds",
            "From an outcome's sent_time to the stage",
            ["stage"],
            buckets=_FRESHNESS,
            registry=self.registry,
        )
        self.stage = Histogram(
            "everloop_stage_seconds",
            "Duration of the stage alone",
            ["stage"],
            buckets=_FRESHNESS,
            registry=self.registry,
        )
        self.sync = self._histogram("sync_seconds", "One call of sync")
        self.deltas = self._counter("deltas", "Deltas applied", ["version"])
        self.delta_bytes = self._counter("delta_bytes", "Bytes of deltas applied to live")
        self.swaps = self._counter("swaps", "Label moves", ["label"])
        self.refused = self._counter("refused", "Versions refused")
        self.retries = self._gauge("retries", "Calls of the model server that failed, of loaded versions")
        self.passed = self._gauge("checksums_passed", "Checksums that held")
        self.failed = self._gauge("checksums_failed", "Checksums that did not hold: an alert")
        self.sequence = self._gauge("sequence", "Sequence reached", ["version"])
        self.watermark = self._gauge("watermark_seconds", "Event time up to which live's labels are complete")
        self.live = self._gauge("live_version", "The version with label live; 0: none")
        self.ready = self._gauge("ready", "1 when something is live and caught up")
        self.problem = self._gauge("problem", "1 when something stands in the way")

    def _counter(self, name: str, text: str, labels: list[str] | None = None) -> Counter:
        return Counter(f"everloop_follower_{name}", text, labels or [], registry=self.registry)

    def _gauge(self, name: str, text: str, labels: list[str] | None = None) -> Gauge:
        return Gauge(f"everloop_follower_{name}", text, labels or [], registry=self.registry)

    def _histogram(self, name: str, text: str) -> Histogram:
        return Histogram(f"everloop_follower_{name}", text, buckets=_SHORT, registry=self.registry)

    def applied(self, applied: Applied, *, live: bool) -> None:
        """Count deltas that a version has been given; freshness only where readers see it."""
        self.deltas.labels(str(applied.version)).inc(len(applied.deltas))
        self.sync.observe(applied.seconds)
        if not live:
            return
        for delta in applied.deltas:
            self.delta_bytes.inc(len(delta.value))
            for sent in delta.header.sent_times:
                self.freshness.labels("synced").observe(max(0, applied.time - sent) / SECOND)
            if delta.header.trained_time:
                self.stage.labels("synced").observe(max(0, applied.time - delta.header.trained_time) / SECOND)

    def show(
        self, progress: Mapping[int, Progress], *, live: int, ready: bool, problem: bool, checksums: tuple[int, int]
    ) -> None:
        """Set the gauges. `checksums`: those that held and those that did not."""
        self.live.set(live)
        self.ready.set(ready)
        self.problem.set(problem)
        for version, at in progress.items():
            self.sequence.labels(str(version)).set(at.at.sequence)
        self.retries.set(sum(at.retries for at in progress.values()))
        self.passed.set(checksums[0])
        self.failed.set(checksums[1])
        if live in progress:
            self.watermark.set(progress[live].watermark / SECOND)

    def forget(self, version: int) -> None:
        """Drop the series of a version that is gone."""
        for metric in (self.deltas, self.sequence):
            try:
                metric.remove(str(version))
            except KeyError:
                continue


class Reporter:
    """Writes to the replicas and models topics; a broker that is away costs reports, never deltas."""

    def __init__(self, kafka: KafkaSettings, *, report_s: float, heartbeat_s: float) -> None:
        self._kafka = kafka
        self._report_s, self._heartbeat_s = report_s, heartbeat_s
        self._said: tuple[float, Replica | None] = (0.0, None)
        self._producer: Any = None
        self._lock = threading.Lock()

    def standing(self, record: Replica) -> None:
        """Say how far this replica has come: soon when that has changed, now and then when it has not."""
        said_at, before = self._said
        now = time.monotonic()
        changed = before is None or msgspec.structs.replace(before, time=record.time) != record
        if now - said_at >= (self._report_s if changed else self._heartbeat_s):
            self._send(REPLICAS, record.key, versions.encode(record))
            self._said = (now, record)

    def event(self, event: ModelEvent) -> None:
        """Say what happened to a version."""
        self._send(MODELS, event.key, versions.encode(event))

    def _send(self, topic: str, key: bytes, value: bytes) -> None:
        with self._lock:
            try:
                if self._producer is None:
                    self._producer = KafkaProducer(
                        **self._kafka.client(), client_id="everloop-follower", max_block_ms=1000, linger_ms=5
                    )
                self._producer.send(self._kafka.name(topic), key=key, value=value)
            except KafkaError as error:
                log.warning("report to %s: %s", topic, error)

    def close(self) -> None:
        """Send what is left and disconnect."""
        with self._lock:
            if self._producer is not None:
                self._producer.close(timeout=2)
                self._producer = None


def described(view: View) -> dict[str, Any]:
    """A view in words and numbers, for /status."""
    return {
        "labels": dict(view.labels),
        "loaded": {
            str(version): {
                "state": loaded.state.name.lower(),
                "epoch": loaded.at.epoch,
                "sequence": loaded.at.sequence,
                "caught_up": loaded.caught_up,
                "stuck": loaded.stuck,
                "tainted": loaded.tainted,
            }
            for version, loaded in view.loaded.items()
        },
        "local": sorted(view.local),
        "fetching": sorted(view.fetching),
        "unusable": {str(version): reason for version, reason in view.unusable.items()},
        "floor": view.floor,
        "paused": bool(view.control and view.control.paused),
    }
