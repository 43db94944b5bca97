"""Asking a port on this machine."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from everloop.runtime.ports import LOOPBACK, answers, fetch, free_port, free_ports, healthy


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/healthz" else 404)
        self.end_headers()
        self.wfile.write(b'{"alive": true}')

    def log_message(self, format: str, *args: object) -> None:
        """Requests are not logged."""


@pytest.fixture
def port() -> Iterator[int]:
    with HTTPServer((LOOPBACK, 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def test_a_port_that_answers_with_200_is_healthy(port: int) -> None:
    assert answers(LOOPBACK, port)
    assert healthy(port)
    assert fetch(port, "/healthz") == b'{"alive": true}'


def test_another_answer_is_not_healthy(port: int) -> None:
    assert not healthy(port, "/elsewhere")


def test_no_answer_is_not_healthy() -> None:
    port = free_port()
    assert not answers(LOOPBACK, port)
    assert not healthy(port)


def test_free_ports_differ() -> None:
    assert len(set(free_ports(50))) == 50
