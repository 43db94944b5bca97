"""The gateway's metrics, in a registry of its own, so that two gateways can live in one test."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_FAST = (0.001, 0.002, 0.003, 0.004, 0.006, 0.008, 0.012, 0.016, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
_AGES = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0, 300.0)


class Metrics:
    """Counters and histograms; labelled children that the hot path uses are looked up once."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.recommend_s = Histogram(
            "everloop_recommend_seconds", "Time to answer a recommend request", buckets=_FAST, registry=registry
        )
        self.stage_s = Histogram(
            "everloop_recommend_stage_seconds", "Time of one stage", ["stage"], buckets=_FAST, registry=registry
        )
        self.features_s = self.stage_s.labels("features")
        self.model_s = self.stage_s.labels("model")
        self.requests = Counter(
            "everloop_http_requests", "Requests by route and status", ["route", "status"], registry=registry
        )
        self.in_flight = Gauge(
            "everloop_http_requests_in_flight", "Requests that are being answered", registry=registry
        )
        self.answered = Counter("everloop_recommendations", "Slates answered", registry=registry)
        self.fallbacks = Counter(
            "everloop_fallbacks", "Slates answered without the model", ["reason"], registry=registry
        )
        self.degraded = Counter(
            "everloop_degraded", "Slates answered with default features", ["reason"], registry=registry
        )
        self.unlogged = Counter(
            "everloop_unlogged", "Slates answered that the full spool did not take", registry=registry
        )
        self.observed = Counter("everloop_observed", "Slates taken that something else chose", registry=registry)
        self.outcomes = Counter("everloop_outcomes", "Outcomes by verdict", ["verdict"], registry=registry)
        self.outcomes_taken = self.outcomes.labels("accepted")
        self.outcomes_refused = self.outcomes.labels("refused")
        self.freshness_s = Histogram(
            "everloop_freshness_seconds",
            "Age of outcomes: total (sent to served), served (trained to served)",
            ["stage"],
            buckets=_AGES,
            registry=registry,
        )
        self.total_s = self.freshness_s.labels("total")
        self.served_s = self.freshness_s.labels("served")
        self.version = Gauge("everloop_model_version", "Version of the last answer", registry=registry)
        self.sequence = Gauge("everloop_model_sequence", "Sequence of the last answer", registry=registry)
        self.waiting = Gauge("everloop_spool_waiting_bytes", "Bytes that Kafka has not confirmed", registry=registry)
        self.room = Gauge("everloop_spool_max_bytes", "Bytes that may wait for Kafka", registry=registry)
        self.waiting_s = Gauge(
            "everloop_spool_waiting_seconds", "How long the oldest record has waited for Kafka", registry=registry
        )
        self.sent = Gauge(
            "everloop_spool_sent_records", "Records that Kafka has confirmed since the start", registry=registry
        )
        self.breaker = Gauge("everloop_breaker_open", "1 where a part is left alone", ["part"], registry=registry)

    def text(self) -> bytes:
        """Prometheus' text format."""
        return generate_latest(self.registry)
