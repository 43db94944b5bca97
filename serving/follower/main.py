"""The follower's process: signals, logs, the HTTP side, and the loop."""

from __future__ import annotations

import json
import logging
import signal
import sys
import threading
from datetime import UTC, datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from feedback.settings import KafkaSettings
from serving.follower.follow import Follower
from serving.follower.settings import FollowerSettings

log = logging.getLogger("everloop.follower")


def run(
    *,
    kafka: KafkaSettings,
    settings: FollowerSettings,
    data: Path,
    replica: str,
    model_server: str,
    http_port: int = 0,
    http_host: str = "127.0.0.1",
) -> int:
    """Keep the model server at `model_server` (HOST:PORT of its gRPC) fresh until SIGTERM or SIGINT; return the exit status."""
    _log_json()
    follower = Follower(kafka=kafka, settings=settings, data=data, replica=replica, model_server=model_server)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: follower.stop())
    http = serve(follower, host=http_host, port=http_port)
    follower.start()
    print(json.dumps({"event": "ready", "part": "follower", "http_port": http.server_port}), flush=True)
    try:
        follower.run()
    finally:
        follower.close()
        http.shutdown()
        http.server_close()
    return 0


def serve(follower: Follower, *, host: str, port: int) -> ThreadingHTTPServer:
    """Answer /metrics, /status, /healthz and /ready in a thread of its own."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/metrics":
                self._answer(HTTPStatus.OK, generate_latest(follower.metrics.registry), CONTENT_TYPE_LATEST)
            elif path == "/status":
                self._json(HTTPStatus.OK, follower.status())
            elif path == "/healthz":
                self._json(HTTPStatus.OK, {"alive": True})
            elif path == "/ready":
                status = HTTPStatus.OK if follower.ready else HTTPStatus.SERVICE_UNAVAILABLE
                self._json(status, {"ready": follower.ready, "problem": follower.status()["problem"]})
            else:
                self._json(HTTPStatus.NOT_FOUND, {"error": "/metrics, /status, /healthz or /ready"})

        def _json(self, status: HTTPStatus, body: dict[str, Any]) -> None:
            self._answer(status, json.dumps(body).encode(), "application/json")

        def _answer(self, status: HTTPStatus, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Requests are not logged: a scrape each few seconds says nothing."""

    server = ThreadingHTTPServer((host, port), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="http", daemon=True).start()
    return server


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds"),
            "level": record.levelname.lower(),
            "part": "follower",
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


def _log_json() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    log.setLevel(logging.INFO)
