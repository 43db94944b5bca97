"""The watcher's metrics, in a registry of their own."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge


class Metrics:
    """What the watcher did by itself: a person should know."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.leading = Gauge("everloop_steer_leading", "1 on the watcher that acts", registry=registry)
        self.rollbacks = Counter("everloop_steer_rollbacks", "Versions rolled back unasked", registry=registry)
        self.trials = Counter("everloop_steer_trials", "Canaries judged", ["verdict"], registry=registry)
        for verdict in ("promoted", "dropped"):
            self.trials.labels(verdict)
