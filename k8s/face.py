"""What one of many shows: whether it is ready, whether it is alive, and its metrics, from its first moment to its last.

Whoever stands by runs no command, so the command's own port is shut. Prometheus shall not take that for a part that is down: it asks
here, is told that this one stands by, and once it leads gets the command's metrics as well.
"""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, Protocol
from urllib.parse import urljoin

from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

_PROBE_S = 1.0
_SCRAPE_S = 5.0
_STILL_S = 60.0


class Candidate(Protocol):
    """One of many, as far as it is shown."""

    verdict: Any
    """Whose the Lease is; None: unknown."""
    turned: float
    """When it last looked, on the monotonic clock."""

    @property
    def leading(self) -> bool:
        """Whether the command runs."""
        ...


class Page(NamedTuple):
    """One answer."""

    status: int
    kind: str
    body: bytes


def serve(lead: Candidate, *, lease: str, health: str, port: int, host: str = "0.0.0.0") -> ThreadingHTTPServer:
    """Answer /ready (it stands by, or leads and the command answers at `health`), /live and /metrics."""
    metrics = _Metrics(lead, lease, urljoin(health, "/metrics"))
    pages: dict[str, Callable[[], Page]] = {
        "/ready": lambda: _word(
            lead, answers(health) is not None if lead.leading else lead.verdict == "theirs", alive(lead)
        ),
        "/live": lambda: _word(lead, alive(lead), alive(lead)),
        "/metrics": metrics.page,
    }

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            make = pages.get(self.path.split("?")[0])
            found = make() if make else Page(404, "application/json", json.dumps({"allowed": [*pages]}).encode())
            self.send_response(found.status)
            self.send_header("Content-Type", found.kind)
            self.send_header("Content-Length", str(len(found.body)))
            self.end_headers()
            self.wfile.write(found.body)

        def log_message(self, format: str, *args: Any) -> None:
            """Probes are not logged."""

    server = ThreadingHTTPServer((host, port), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="http", daemon=True).start()
    return server


def alive(lead: Candidate) -> bool:
    """Whether it has looked at the Lease lately, be it in vain."""
    return time.monotonic() - lead.turned < _STILL_S


def answers(url: str, *, within_s: float = _PROBE_S) -> bytes | None:
    """What a page says; None: it does not answer, or with an error."""
    try:
        with urllib.request.urlopen(url, timeout=within_s) as answer:
            body: bytes = answer.read()
            return body if answer.status == 200 else None
    except (urllib.error.URLError, OSError):
        return None


class _Metrics:
    """Its own metrics, and those of the command that it runs."""

    def __init__(self, lead: Candidate, lease: str, url: str) -> None:
        self._lead, self._url = lead, url
        self._registry = CollectorRegistry()
        standby = Gauge(
            "everloop_lead_standby", "1 while another holds the lease, or nobody", ["lease"], registry=self._registry
        )
        standby.labels(lease).set_function(lambda: float(not lead.leading))

    def page(self) -> Page:
        """Both, as one page; one that leads and whose command says nothing is down."""
        leading = self._lead.leading
        theirs = answers(self._url, within_s=_SCRAPE_S) if leading else b""
        if theirs is None:
            return Page(503, "text/plain", f"it leads, and {self._url} does not answer\n".encode())
        return Page(200, CONTENT_TYPE_PLAIN_0_0_4, generate_latest(self._registry) + theirs)


def _word(lead: Candidate, good: bool, living: bool) -> Page:
    said = {"leading": lead.leading, "lease": lead.verdict, "alive": living}
    return Page(200 if good else 503, "application/json", json.dumps(said).encode())
