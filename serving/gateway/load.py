"""A load generator for the gateway, in a process of its own: `python -m serving.gateway.load URL --seconds 10 --connections 32`.

Without `--rate` each connection asks again as soon as it is answered (how much can it carry); with it, requests leave on a
fixed clock whether or not earlier ones are answered, and latency counts from when a request was due, so that a stall is not
hidden by the generator waiting politely. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import uvloop

from feedback.pace import beats


class Connection(asyncio.Protocol):
    """One keep-alive connection with one request at a time, on bare bytes: a client library would cost more than the gateway."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._answer: asyncio.Future[int] | None = None
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport) or hasattr(transport, "write")
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head = self._buffer.find(b"\r\n\r\n")
        if head < 0 or self._answer is None:
            return
        lengths = self._buffer[:head].lower().split(b"content-length:")
        size = head + 4 + int(lengths[1].split(b"\r\n", 1)[0]) if len(lengths) > 1 else head + 4
        if len(self._buffer) >= size:
            status = int(self._buffer[9:12])
            fell_back = b'"fallback":""' not in self._buffer
            self._buffer.clear()
            answer, self._answer = self._answer, None
            if not answer.done():
                answer.set_result(-status if fell_back and status == 200 else status)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        if self._answer and not self._answer.done():
            self._answer.set_exception(ConnectionResetError())

    @property
    def open(self) -> bool:
        """Whether it can be used."""
        return self._transport is not None

    async def ask(self, request: bytes) -> int:
        """Send one request; answer its status, negated where the slate is a fallback."""
        if self._transport is None:
            raise ConnectionResetError
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer


class Load:
    """Asks, and keeps what came of it."""

    def __init__(self, url: str, requests: Iterator[bytes], retry_s: float) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._requests, self._retry_s = requests, retry_s
        self._idle: deque[Connection] = deque()
        self.latencies: list[float] = []
        self.answered = self.fallbacks = self.errors = self.lost = 0

    async def one(self, due: float) -> None:
        """One request, tried again for `retry_s` where the connection fails; it is lost if no answer comes."""
        request = next(self._requests)
        while time.monotonic() - due < self._retry_s or not self._retry_s:
            try:
                connection = await self._connection()
                status = await connection.ask(request)
            except OSError:
                if not self._retry_s:
                    break
                await asyncio.sleep(0.1)
                continue
            self._idle.append(connection)
            self._note(status, time.monotonic() - due)
            return
        self.lost += 1

    def _note(self, status: int, latency: float) -> None:
        self.latencies.append(latency)
        self.answered += abs(status) == 200
        self.fallbacks += status == -200
        self.errors += abs(status) >= 500

    async def _connection(self) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.open:
                return connection
        _, protocol = await asyncio.get_running_loop().create_connection(Connection, self._host, self._port)
        return protocol

    async def closed(self, connections: int, seconds: float) -> None:
        """`connections` that each ask again as soon as they are answered."""
        end = time.monotonic() + seconds

        async def lane() -> None:
            while (now := time.monotonic()) < end:
                await self.one(now)

        await asyncio.gather(*(lane() for _ in range(connections)))

    async def steady(self, rate: float, seconds: float) -> None:
        """`rate` requests a second, whatever becomes of them."""
        tasks = set()
        async for due in beats(rate, seconds):
            task = asyncio.create_task(self.one(due))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await asyncio.gather(*tasks)

    def result(self, seconds: float) -> dict[str, float]:
        """What came of it."""
        ordered = sorted(self.latencies) or [0.0]
        at = {
            name: ordered[min(len(ordered) - 1, int(q * len(ordered)))] * 1e3
            for name, q in (("p50", 0.5), ("p99", 0.99))
        }
        return {
            "rps": self.answered / seconds,
            "p50_ms": at["p50"],
            "p99_ms": at["p99"],
            "answered": self.answered,
            "fallbacks": self.fallbacks,
            "errors": self.errors,
            "lost": self.lost,
        }


def bodies(
    *, candidates: int, items: int, users: int, features: dict[str, Any], count: int, seed: int = 1
) -> Iterator[bytes]:
    """Request bodies, made beforehand and repeated: readers at random, candidates leaning to the popular."""
    chance = random.Random(seed)
    made = []
    for _ in range(500):
        chosen: dict[str, None] = {}
        while len(chosen) < candidates:
            chosen[f"i{int(items * chance.random() ** 2)}"] = None
        listed = [{"id": item, "features": features} for item in chosen]
        user = f"u{chance.randrange(users)}"
        made.append(json.dumps({"user": user, "candidates": listed, "count": count}, separators=(",", ":")).encode())
    return itertools.cycle(made)


def http(body: bytes, host: str, key: str = "", path: str = "/v1/recommend") -> bytes:
    """A whole HTTP request."""
    auth = f"Authorization: Bearer {key}\r\n" if key else ""
    head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n{auth}Content-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def run(arguments: argparse.Namespace) -> dict[str, float]:
    """Warm up, then measure."""
    plain = bodies(
        candidates=arguments.candidates,
        items=arguments.items,
        users=arguments.users,
        features=json.loads(arguments.features),
        count=arguments.count,
    )
    if arguments.body:
        plain = itertools.repeat(Path(arguments.body).read_bytes())
    host = urlsplit(arguments.url).netloc
    made = [http(next(plain), host, arguments.key, arguments.path) for _ in range(500)]
    warm = Load(arguments.url, itertools.cycle(made), arguments.retry)
    if arguments.rate:
        # At the same rate: what a burst leaves for the parts behind the gateway would be measured too.
        await warm.steady(arguments.rate, arguments.warm)
    else:
        await warm.closed(4, arguments.warm)
    load = Load(arguments.url, itertools.cycle(made), arguments.retry)
    begin = time.monotonic()
    if arguments.rate:
        await load.steady(arguments.rate, arguments.seconds)
    else:
        await load.closed(arguments.connections, arguments.seconds)
    return load.result(time.monotonic() - begin)


def main(argv: list[str]) -> int:
    """Run the generator as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m serving.gateway.load", description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--warm", type=float, default=1.0, help="seconds before measuring")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--rate", type=float, default=0.0, help="requests/s; 0: as many as the connections carry")
    parser.add_argument("--candidates", type=int, default=50)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--items", type=int, default=2000)
    parser.add_argument("--users", type=int, default=10_000)
    parser.add_argument("--features", default="{}", help="JSON: the features that each candidate carries")
    parser.add_argument("--key", default="")
    parser.add_argument("--path", default="/v1/recommend", help="what is asked, of any HTTP server")
    parser.add_argument("--body", default="", help="a file: the one body of every request, in place of those made up")
    parser.add_argument("--retry", type=float, default=0.0, help="seconds for which a failed connection is tried again")
    print(json.dumps(uvloop.run(run(parser.parse_args(argv)))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
