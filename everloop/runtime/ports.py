"""Ports on the loopback interface."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException

LOOPBACK = "127.0.0.1"


def free_ports(count: int) -> list[int]:
    """Return `count` different ports that nobody listens on now; another process may still take one first."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((LOOPBACK, 0))
        return [each.getsockname()[1] for each in sockets]


def free_port() -> int:
    """Return one port that nobody listens on now."""
    return free_ports(1)[0]


def answers(host: str, port: int, *, timeout_s: float = 0.5) -> bool:
    """Say whether something accepts TCP connections at `host`:`port`."""
    try:
        with socket.create_connection((host, port), timeout=timeout_s):
            return True
    except OSError:
        return False


def healthy(port: int, path: str = "/healthz", *, timeout_s: float = 1.0) -> bool:
    """Say whether HTTP on a port of this machine answers a path with 200."""
    return fetch(port, path, timeout_s=timeout_s) is not None


def fetch(port: int, path: str, *, timeout_s: float = 1.0) -> bytes | None:
    """Return what HTTP on a port of this machine answers to a path; None when that is not 200, or nothing."""
    connection = HTTPConnection(LOOPBACK, port, timeout=timeout_s)
    try:
        connection.request("GET", path, headers={"Connection": "close"})
        with connection.getresponse() as response:
            body = response.read()
            return body if response.status == HTTPStatus.OK else None
    except (OSError, HTTPException):
        return None
    finally:
        connection.close()
