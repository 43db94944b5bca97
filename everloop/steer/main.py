"""The watcher's process."""

from __future__ import annotations

import json
import logging
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from everloop.steer.settings import SteerSettings
from everloop.steer.watch import Watcher
from feedback.settings import KafkaSettings


def run(
    *, kafka: KafkaSettings, settings: SteerSettings, model: str, http_port: int = 0, http_host: str = "127.0.0.1"
) -> int:
    """Watch until SIGTERM or SIGINT; return the exit status."""
    logging.basicConfig(
        stream=sys.stderr, level=logging.WARNING,
        format='{"time":"%(asctime)s","level":"%(levelname)s","part":"steer","message":"%(message)s"}',
    )  # fmt: skip
    watcher = Watcher(kafka, settings, model=model)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: watcher.stop())
    http = serve(watcher, http_host, http_port)
    print(json.dumps({"event": "ready", "part": "steer", "http_port": http.server_port}), flush=True)
    try:
        watcher.run()
    finally:
        http.shutdown()
        http.server_close()
    return 0


def serve(watcher: Watcher, host: str, port: int) -> ThreadingHTTPServer:
    """Answer /metrics, /status, /healthz and /ready in a thread of its own."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.path in ("/status", "/healthz", "/ready")
            if self.path == "/metrics":
                self._answer(200, generate_latest(watcher.metrics.registry), CONTENT_TYPE_LATEST)
                return
            found = watcher.status if known else {"error": "/metrics, /status, /healthz or /ready"}
            self._answer(200 if known else 404, json.dumps(found).encode(), "application/json")

        def _answer(self, status: int, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Requests are not logged."""

    server = ThreadingHTTPServer((host, port), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="http", daemon=True).start()
    return server
