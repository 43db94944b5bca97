"""Clients for the bench, each in a process of its own: fill the topics, send live, read what becomes readable.

python -m streams.load fill|live|read JSON-OPTIONS
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from random import Random
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from feedback.clock import SECOND, now_us
from feedback.codec import encode
from feedback.events import Outcome, Tick
from feedback.settings import KafkaSettings
from feedback.topics import OUTCOMES, PREDICTIONS, SAMPLES
from streams.workload import START, slate

_BATCH = 900_000
_REQUEST, _TIME = b"r000000000", b"1700000000000000"


class Shapes:
    """A thousand different slates of 20, to be stamped with an id and a time: making one anew costs more than joining it."""

    def __init__(self, seed: int = 1, count: int = 1_000) -> None:
        random = Random(seed)
        made = [slate(random, 0, START) for _ in range(count)]
        self.items = [prediction.items for prediction in made]
        self._shapes = [self._cut(encode(prediction)) for prediction in made]

    def prediction(self, number: int, at: int) -> tuple[bytes, bytes]:
        """Key and value of slate `number` at event time `at`."""
        key = b"r%09d" % number
        a, b, c, d = self._shapes[number % len(self._shapes)]
        return key, b"%b%b%b%d%b%d%b" % (a, key, b, at, c, at, d)

    def click(self, number: int, at: int, sent: int) -> tuple[bytes, bytes]:
        """Key and value of a click on one of its items."""
        key = f"r{number:09d}"
        items = self.items[number % len(self.items)]
        click = Outcome(
            event_id=f"e{number}",
            request_id=key,
            item_id=items[number % 20],
            kind="click",
            event_time=at,
            sent_time=sent,
        )
        return key.encode(), encode(click)

    @staticmethod
    def _cut(raw: bytes) -> tuple[bytes, bytes, bytes, bytes]:
        head, rest = raw.split(_REQUEST, 1)
        before, middle, tail = rest.split(_TIME, 2)
        return head, before, middle, tail


class Sender:
    """Sends whole batches to partitions."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self.kafka = kafka
        self._producer = AIOKafkaProducer(
            **kafka.aio_client(), acks="all", max_batch_size=_BATCH, max_request_size=2**20
        )

    async def __aenter__(self) -> Sender:
        await self._producer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._producer.stop()

    async def send(self, topic: str, partition: int, records: list[tuple[bytes | None, bytes]]) -> None:
        """Send records and wait until the broker has them."""
        name, waiting = self.kafka.name(topic), []
        batch = self._producer.create_batch()
        for key, value in records:
            if batch.append(key=key, value=value, timestamp=None) is None:
                waiting.append(await self._producer.send_batch(batch, name, partition=partition))
                batch = self._producer.create_batch()
                batch.append(key=key, value=value, timestamp=None)
        if batch.record_count():
            waiting.append(await self._producer.send_batch(batch, name, partition=partition))
        await asyncio.gather(*waiting)

    async def tick(self, at: int) -> None:
        """Send a tick to every partition of both topics."""
        value = encode(Tick(event_time=at, sent_time=now_us()))
        everywhere = [(topic, n) for topic in (PREDICTIONS, OUTCOMES) for n in range(self.kafka.partitions)]
        await asyncio.gather(*(self.send(topic, n, [(None, value)]) for topic, n in everywhere))


async def fill(kafka: KafkaSettings, *, slates: int, first: int, per_s: float, start: int, end_s: float) -> None:
    """Fill the topics with slates, `per_s` of them per second of event time, a tenth of them clicked two seconds later; then a tick."""
    shapes, count = Shapes(), kafka.partitions
    async with Sender(kafka) as sender:
        for low in range(first, first + slates, 20_000):
            predictions: list[list[tuple[bytes | None, bytes]]] = [[] for _ in range(count)]
            clicks: list[list[tuple[bytes | None, bytes]]] = [[] for _ in range(count)]
            for number in range(low, min(low + 20_000, first + slates)):
                at = start + int(number / per_s * SECOND)
                predictions[number % count].append(shapes.prediction(number, at))
                if number // count % 10 == 0:
                    clicks[number % count].append(shapes.click(number, at + 2 * SECOND, at))
            await asyncio.gather(*(sender.send(PREDICTIONS, n, each) for n, each in enumerate(predictions)))
            await asyncio.gather(*(sender.send(OUTCOMES, n, each) for n, each in enumerate(clicks)))
        if end_s >= 0:
            await sender.tick(start + int(((first + slates) / per_s + end_s) * SECOND))


async def live(kafka: KafkaSettings, *, rate: float, seconds: float) -> None:
    """Send `rate` slates a second, evenly; a tenth of them is clicked about a second later."""
    shapes, count, step = Shapes(), kafka.partitions, 0.02
    pending: list[tuple[float, int]] = []
    async with Sender(kafka) as sender:
        began, number, ticked = time.monotonic(), 0, 0.0
        while (elapsed := time.monotonic() - began) < seconds:
            now = now_us()
            records: dict[tuple[str, int], list[tuple[bytes | None, bytes]]] = {}
            while number < elapsed * rate:
                records.setdefault((PREDICTIONS, number % count), []).append(shapes.prediction(number, now))
                if number // count % 10 == 0:
                    pending.append((elapsed + 1.0, number))
                number += 1
            due = [clicked for at, clicked in pending if at <= elapsed]
            del pending[: len(due)]
            for clicked in due:
                records.setdefault((OUTCOMES, clicked % count), []).append(shapes.click(clicked, now, now))
            await asyncio.gather(*(sender.send(topic, n, each) for (topic, n), each in records.items()))
            if elapsed - ticked > 1:
                await sender.tick(now)
                ticked = elapsed
            await asyncio.sleep(max(0.0, step - (time.monotonic() - began - elapsed)))
    print(json.dumps({"sent": number, "rate": number / seconds}), flush=True)


async def read(kafka: KafkaSettings, *, seconds: float, warm_s: float) -> None:
    """Read samples as they become readable; print the quantiles of the time since the outcome was appended to its topic."""
    seen: dict[bytes, float] = {}
    partitions = [TopicPartition(kafka.name(SAMPLES), n) for n in range(kafka.partitions)]
    consumer = AIOKafkaConsumer(
        **kafka.aio_client(), isolation_level="read_committed", enable_auto_commit=False, fetch_max_wait_ms=20
    )
    await consumer.start()
    consumer.assign(partitions)
    await consumer.seek_to_end(*partitions)
    print(json.dumps({"reading": True}), flush=True)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        data = await consumer.getmany(timeout_ms=100)
        now = time.time()
        for records in data.values():
            for record in records:
                if b'"emissions":[2]' in record.value:
                    seen.setdefault(record.key, now)
    await consumer.stop()
    appended = await _appended(kafka)
    first = min(appended.values(), default=0.0) + warm_s
    delays = sorted(1000 * (at - appended[key]) for key, at in seen.items() if appended[key] >= first)
    print(json.dumps({"delays": _quantiles(delays)}), flush=True)


async def _appended(kafka: KafkaSettings) -> dict[bytes, float]:
    found = {}
    partitions = [TopicPartition(kafka.name(OUTCOMES), n) for n in range(kafka.partitions)]
    consumer = AIOKafkaConsumer(**kafka.aio_client(), enable_auto_commit=False)
    await consumer.start()
    consumer.assign(partitions)
    await consumer.seek_to_beginning(*partitions)
    for partition, end in (await consumer.end_offsets(partitions)).items():
        while await consumer.position(partition) < end:
            for record in (await consumer.getmany(partition, timeout_ms=200)).get(partition, ()):
                if record.key is not None:
                    found[record.key] = record.timestamp / 1000
    await consumer.stop()
    return found


def _quantiles(delays: list[float]) -> dict[str, float]:
    if not delays:
        return {"count": 0}
    picked = {name: delays[min(len(delays) - 1, int(len(delays) * q))] for name, q in _SHARES}
    return {"count": len(delays), **picked}


_SHARES = (("p50", 0.5), ("p90", 0.9), ("p99", 0.99))


def _options(argv: list[str]) -> Iterator[Any]:
    options = json.loads(argv[1])
    yield KafkaSettings(
        bootstrap=options.pop("bootstrap"), namespace=options.pop("namespace"), partitions=options.pop("partitions")
    )
    yield options


def main(argv: list[str]) -> None:
    """Run one client."""
    import uvloop

    kafka, options = _options(argv)
    clients: dict[str, Callable[..., Coroutine[Any, Any, None]]] = {"fill": fill, "live": live, "read": read}
    uvloop.run(clients[argv[0]](kafka, **options))


if __name__ == "__main__":
    main(sys.argv[1:])
