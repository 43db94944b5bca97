"""Readers for a bench, in a process of their own: ask the gateway on a fixed clock, click soon after, send outcomes to Kafka.

    python -m everloop.benches.readers GATEWAY_URL KAFKA --rate 50 --seconds 600

Requests leave when they are due whether or not earlier ones are answered. Which item is clicked follows from a hidden taste of
each reader, so that there is something to learn. Uses the public clients alone. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from dataclasses import dataclass, field

from feedback.errors import EverloopError
from feedback.pace import beats
from feedback.produce import OutcomeProducer
from serving.client import AsyncClient

TASTES = 8
"""Groups of items, and of readers."""


@dataclass
class Readers:
    """What they do, and what came of it."""

    client: AsyncClient
    outcomes: OutcomeProducer
    seed: int = 1
    users: int = 5_000
    items: int = 2_000
    candidates: int = 20
    delay_s: float = 0.2
    """Mean time from the answer to the click, s."""
    fresh: float = 0.0
    """Share of the requests that a user who never came before makes, with an item among the candidates that was never shown."""
    latencies_ms: list[float] = field(default_factory=list)
    failed: int = 0
    clicks: int = 0

    def __post_init__(self) -> None:
        self._chance = random.Random(self.seed)
        self._newest = self.seed * 1_000_000

    async def steady(self, rate: float, seconds: float) -> None:
        """Ask `rate` times a second for `seconds`; returns when all are answered."""
        running: set[asyncio.Task[None]] = set()
        async for due in beats(rate, seconds):
            task = asyncio.create_task(self._visit(due))
            running.add(task)
            task.add_done_callback(running.discard)
        await asyncio.gather(*running)

    async def _visit(self, due: float) -> None:
        user = self._chance.randrange(self.users)
        shown = [f"i{int(self.items * self._chance.random() ** 2)}" for _ in range(self.candidates)]
        if self.fresh and self._chance.random() < self.fresh:
            self._newest += 1
            user, shown[0] = self.users + self._newest, f"i{self.items + self._newest}"
        try:
            slate = await self.client.recommend(f"u{user}", candidates=list(dict.fromkeys(shown)))
        except EverloopError:
            self.failed += 1
            return
        self.latencies_ms.append((time.monotonic() - due) * 1e3)
        for item in slate.items:
            liked = int(item.id[1:]) % TASTES == user % TASTES
            if self._chance.random() < (0.3 if liked else 0.03):
                await asyncio.sleep(self._chance.expovariate(1 / self.delay_s))
                self.outcomes.send(request_id=slate.request_id, item_id=item.id, kind="click")
                self.clicks += 1
                return


async def run(arguments: argparse.Namespace) -> dict[str, object]:
    """Run the readers."""
    async with AsyncClient(arguments.gateway, deadline_s=30.0) as client:
        with OutcomeProducer(arguments.kafka) as outcomes:
            readers = Readers(
                client,
                outcomes,
                seed=arguments.seed,
                users=arguments.users,
                items=arguments.items,
                fresh=arguments.fresh,
            )
            begin = time.time()
            await readers.steady(arguments.rate, arguments.seconds)
            return {
                "begin": begin,
                "end": time.time(),
                "answered": len(readers.latencies_ms),
                "failed": readers.failed,
                "clicks": readers.clicks,
                "latencies_ms": [round(each, 3) for each in readers.latencies_ms],
            }


def main(argv: list[str]) -> int:
    """Run the readers as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m everloop.benches.readers", description=__doc__)
    parser.add_argument("gateway")
    parser.add_argument("kafka")
    parser.add_argument("--rate", type=float, default=50.0)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--users", type=int, default=Readers.users)
    parser.add_argument("--items", type=int, default=Readers.items)
    parser.add_argument("--fresh", type=float, default=Readers.fresh)
    print(json.dumps(asyncio.run(run(parser.parse_args(argv)))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
