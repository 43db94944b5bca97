"""The load generator of the bench: a process of its own, which knows gRPC and bytes and nothing of models.

`python -m serving.model_server.load PORT FILE SECONDS`: sends the request in FILE, first as one client, then as sixteen, each
with a connection of its own, and prints one JSON object.
"""

from __future__ import annotations

import json
import statistics
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc

PREDICT = "/tensorflow.serving.PredictionService/Predict"
CLIENTS = 16
WARM_UP = 300
"""Requests before anything is measured."""


def client(port: int) -> Callable[[bytes], bytes]:
    """A blocking call over a connection of its own."""
    channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.use_local_subchannel_pool", 1)])
    return channel.unary_unary(PREDICT)  # type: ignore[no-any-return]


def latencies(port: int, request: bytes, *, seconds: float) -> list[float]:
    """Milliseconds of each request of one client that asks without a pause."""
    call = client(port)
    for _ in range(WARM_UP):
        call(request)
    took = []
    end = time.perf_counter() + seconds
    while (began := time.perf_counter()) < end:
        call(request)
        took.append((time.perf_counter() - began) * 1e3)
    return took


def rate(port: int, request: bytes, *, seconds: float, clients: int = CLIENTS) -> float:
    """Answers per second to `clients` clients that ask without a pause."""
    calls = [client(port) for _ in range(clients)]
    for call in calls:
        call(request)
    counts = [0] * clients
    end = time.perf_counter() + seconds

    def ask(number: int) -> None:
        call = calls[number]
        while time.perf_counter() < end:
            call(request)
            counts[number] += 1

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(clients)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - began)


def main(arguments: list[str]) -> int:
    """Measure and print."""
    port, path, seconds = int(arguments[0]), Path(arguments[1]), float(arguments[2])
    request = path.read_bytes()
    took = latencies(port, request, seconds=seconds)
    figures: dict[str, Any] = {
        "p50_ms": statistics.median(took),
        "p99_ms": statistics.quantiles(took, n=100)[98],
        "rps": rate(port, request, seconds=seconds),
    }
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
