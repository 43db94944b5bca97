"""What the trainer shows: Prometheus metrics and its status over HTTP, and its log as JSON lines."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_BUCKETS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 10.0, 30.0)


def log(event: str, *, level: str = "info", **fields: object) -> None:
    """Write one JSON line to stderr."""
    line = {"time": datetime.now(UTC).isoformat(), "level": level, "part": "trainer", "event": event} | fields
    print(json.dumps(line, default=str), file=sys.stderr, flush=True)


class Instruments:
    """The trainer's metrics, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.freshness = Histogram(
            "everloop_freshness_seconds",
            "From an outcome's sent_time to the end of a stage",
            ["stage"],
            registry=registry,
            buckets=_BUCKETS,
        )
        self.stage = Histogram(
            "everloop_stage_seconds", "Time of one stage alone", ["stage"], registry=registry, buckets=_BUCKETS
        )
        self.samples = Counter("everloop_trainer_samples_total", "Samples taken in", registry=registry)
        self.examples = Counter("everloop_trainer_examples_total", "Examples learned", registry=registry)
        self.steps = Counter("everloop_trainer_steps_total", "Training steps", registry=registry)
        self.refused = Counter(
            "everloop_trainer_refused_samples_total", "Samples that could not be learned", registry=registry
        )
        self.refused_so_far = 0
        self.deltas = Counter("everloop_trainer_deltas_total", "Deltas committed", registry=registry)
        self.bytes = Counter("everloop_trainer_delta_bytes_total", "Bytes of deltas", registry=registry)
        self.refusals = Counter("everloop_trainer_refusals_total", "Refusals of the gate", ["check"], registry=registry)
        self.step_s = Histogram(
            "everloop_trainer_step_seconds", "Duration of a step", registry=registry, buckets=_BUCKETS
        )
        self.pause_s = Histogram(
            "everloop_trainer_pause_seconds",
            "Time for which training stood still for a checkpoint or version",
            registry=registry,
            buckets=_BUCKETS,
        )
        self.sequence = Gauge("everloop_trainer_sequence", "Deltas of the line", registry=registry)
        self.epoch = Gauge("everloop_trainer_epoch", "The line's epoch", registry=registry)
        self.version = Gauge("everloop_trainer_version", "Newest version exported", registry=registry)
        self.paused = Gauge("everloop_trainer_paused", "1 while nothing leaves", registry=registry)
        self.lag = Gauge("everloop_trainer_lag_records", "Records of samples not taken in yet", registry=registry)
        self.progressive = Gauge(
            "everloop_trainer_progressive",
            "Progressive figures of settled labels",
            ["figure", "over"],
            registry=registry,
        )


class StatusServer:
    """`/metrics` for Prometheus, `/status` as JSON, `/health` for a probe."""

    def __init__(
        self, registry: CollectorRegistry, status: Callable[[], dict[str, Any]], *, port: int, host: str
    ) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = self.path.split("?")[0]
                if path == "/metrics":
                    self._answer(200, CONTENT_TYPE_LATEST, generate_latest(registry))
                elif path in ("/status", "/health"):
                    body = status() if path == "/status" else {"status": "ok"}
                    self._answer(200, "application/json", json.dumps(body, default=str).encode())
                else:
                    self._answer(404, "application/json", b'{"allowed": ["/metrics", "/status", "/health"]}')

            def _answer(self, code: int, kind: str, body: bytes) -> None:
                self.send_response(code)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Requests are not logged."""

        self._server = ThreadingHTTPServer((host, port), Handler)
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.2,), name="http", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=5)
