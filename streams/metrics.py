"""What a worker says of itself over HTTP: Prometheus' metrics and the ledger as JSON, computed when somebody asks."""

from __future__ import annotations

import os
from collections.abc import Iterator

import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from feedback.clock import SECOND, now_us
from feedback.events import Ledger
from streams.engine import Engine
from streams.partitions import Partition
from streams.records import Round

_GAUGES = ("open", "residual", "sample_residual")


class Metrics:
    """The counters that a round moves."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.events = Counter("everloop_join_events", "Predictions and outcomes read", registry=self.registry)
        self.samples = Counter("everloop_join_samples", "Sample records written", registry=self.registry)
        self.refused = Counter("everloop_join_dead_letters", "Dead letters", ["reason"], registry=self.registry)
        self.rounds = Histogram(
            "everloop_join_transaction_seconds",
            "Transactions, by their length",
            buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5),
            registry=self.registry,
        )
        self.restored = Gauge(
            "everloop_join_restore_seconds", "How long opening took", ["partition"], registry=self.registry
        )

    def round(self, part: Partition, out: Round) -> None:
        """Count one committed round."""
        self.events.inc(out.fed)
        self.samples.inc(len(out.samples))
        for refusal in out.refusals:
            self.refused.labels(refusal.reason).inc()
        self.rounds.observe(part.transaction_s)
        self.restored.labels(part.number).set(part.restored_s)


class _Ledgers(Collector):
    """The ledgers and watermarks, read from the machines when Prometheus asks."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def collect(self) -> Iterator[Metric]:
        """Yield one family per column of the ledger, and the watermarks."""
        ledgers = self._engine.ledger()
        for name in Ledger.__struct_fields__:
            kind = GaugeMetricFamily if name in _GAUGES else CounterMetricFamily
            family = kind(f"everloop_join_{name}", f"Ledger: {name}", labels=["partition"])
            for number, ledger in ledgers.items():
                family.add_metric([str(number)], getattr(ledger, name))
            yield family
        residuals = GaugeMetricFamily("everloop_join_residual", "Must be 0", labels=["partition", "of"])
        for number, ledger in ledgers.items():
            residuals.add_metric([str(number), "impressions"], ledger.residual)
            residuals.add_metric([str(number), "samples"], ledger.sample_residual)
        yield residuals
        slates = GaugeMetricFamily("everloop_join_slates", "Slates held", labels=["partition"])
        watermarks = GaugeMetricFamily("everloop_join_watermark_seconds", "Event time passed", labels=["partition"])
        for number, part in self._engine.parts.items():
            if part.join is not None:
                slates.add_metric([str(number)], len(part.join.slates))
                watermarks.add_metric([str(number)], part.join.watermark / SECOND)
        yield slates
        yield watermarks
        lag = GaugeMetricFamily("everloop_join_lag_records", "Records not joined yet", labels=["partition", "topic"])
        for (number, topic), records in self._engine.lags().items():
            lag.add_metric([str(number), topic], records)
        yield lag


def ledger_json(engine: Engine) -> bytes:
    """The ledger of each partition and in total, with both residuals."""
    total = Ledger()
    parts = {}
    for number, ledger in engine.ledger().items():
        total.add(ledger)
        parts[str(number)] = _with_residuals(ledger)
    watermarks = {str(n): part.join.watermark for n, part in sorted(engine.parts.items()) if part.join is not None}
    return msgspec.json.encode(
        {
            "total": _with_residuals(total),
            "partitions": parts,
            "watermarks": watermarks,
            "time": now_us(),
            "pid": os.getpid(),
        }
    )


def _with_residuals(ledger: Ledger) -> dict[str, int]:
    columns: dict[str, int] = msgspec.to_builtins(ledger)
    return columns | {"residual": ledger.residual, "sample_residual": ledger.sample_residual}


async def serve(engine: Engine, port: int, host: str = "127.0.0.1") -> tuple[int, web.AppRunner]:
    """Serve /metrics, /ledger and /health; answers the port and what to clean up."""
    metrics = Metrics()
    metrics.registry.register(_Ledgers(engine))
    engine.tell = metrics.round

    async def metrics_page(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(metrics.registry), content_type="text/plain")

    async def ledger_page(_: web.Request) -> web.Response:
        return web.Response(body=ledger_json(engine), content_type="application/json")

    async def health_page(_: web.Request) -> web.Response:
        ready = engine.ready.is_set()
        return web.json_response({"ready": ready, "partitions": sorted(engine.parts)}, status=200 if ready else 503)

    site = web.Application()
    site.add_routes(
        [web.get("/metrics", metrics_page), web.get("/ledger", ledger_page), web.get("/health", health_page)]
    )
    runner = web.AppRunner(site, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, host, port).start()
    return int(runner.addresses[0][1]), runner
