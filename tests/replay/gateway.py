"""A gateway for the replayer's tests: writes predictions to a real Kafka, out of order, and is sometimes away."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import uvicorn
from kafka import KafkaProducer
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from everloop.runtime.ports import LOOPBACK, free_port
from feedback import codec
from feedback.clock import now_us
from feedback.events import Prediction
from feedback.settings import KafkaSettings
from feedback.topics import PREDICTIONS


class Gateway:
    """Answers at once; a prediction arrives in Kafka up to `delay_s` later; a share of the attempts goes wrong."""

    def __init__(self, kafka: KafkaSettings, *, delay_s: float = 0.0, trouble: float = 0.0, seed: int = 1) -> None:
        self._producer = KafkaProducer(**kafka.client())
        self._topic = kafka.name(PREDICTIONS)
        self._delay_s, self._trouble, self._chance = delay_s, trouble, random.Random(seed)
        self.seen: list[str] = []
        self.app = Starlette(routes=[Route("/v1/recommend", self.recommend, methods=["POST"])])

    async def recommend(self, request: Request) -> Response:
        asked = msgspec.json.decode(await request.body())
        if self._chance.random() < self._trouble:
            return JSONResponse({}, status_code=503)
        self.seen.append(asked["request_id"])
        items = [candidate["id"] for candidate in asked["candidates"]]
        names = asked["candidates"][0]["features"]
        event = Prediction(
            request_id=asked["request_id"],
            user_id=asked["user"],
            event_time=asked["event_time"],
            sent_time=now_us(),
            items=items,
            scores=[0.5] * len(items),
            context=asked["context"],
            features={name: [each["features"][name] for each in asked["candidates"]] for name in names},
            version=3,
        )
        # Written and then answered as `not logged` sometimes, so that a slate comes twice.
        threading.Timer(self._chance.random() * self._delay_s, self._write, [event]).start()
        logged = self._chance.random() >= self._trouble
        model = {"name": "news", "version": 3, "sequence": 9, "epoch": 1}
        return JSONResponse({"request_id": asked["request_id"], "model": model, "fallback": "", "logged": logged})

    def _write(self, event: Prediction) -> None:
        self._producer.send(self._topic, key=event.request_id.encode(), value=codec.encode(event))

    def close(self) -> None:
        self._producer.close(timeout=5)


@contextmanager
def serving(gateway: Gateway) -> Iterator[str]:
    """Serve it on a free port; yields the URL."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(gateway.app, host=LOOPBACK, port=port, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://{LOOPBACK}:{port}"
    finally:
        server.should_exit = True
        thread.join()
        gateway.close()
