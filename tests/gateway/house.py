"""A gateway inside the test's own event loop, with nothing behind it but the fake model: for what needs no other part."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx

from feedback.codec import decode_input
from feedback.events import Outcome, Prediction
from feedback.settings import KafkaSettings, RedisSettings, Secret
from serving.gateway.gateway import Gateway
from serving.gateway.settings import BudgetSettings, GatewaySettings
from serving.protocol.fake import FakeModelServer, Model
from tests.gateway.world import FEATURES, model

NOBODY = "127.0.0.1:1"


class House:
    """A gateway, a client of its HTTP interface, and the fake model behind it."""

    def __init__(self, gateway: Gateway, http: httpx.AsyncClient, server: FakeModelServer) -> None:
        self.gateway, self.http, self.server = gateway, http, server

    async def recommend(self, items: list[str] | None = None, **fields: Any) -> httpx.Response:
        """Ask for a slate."""
        listed = {} if items is None else {"candidates": [{"id": item} for item in items]}
        return await self.http.post("/v1/recommend", json={"user": "anna"} | listed | fields)

    def logged(self) -> list[Prediction | Outcome]:
        """What is in the spool."""
        records, _ = self.gateway.spool.read(self.gateway.spool.acknowledged, 10_000_000)
        events = [decode_input(record.value) for record in records]
        return [event for event in events if isinstance(event, Prediction | Outcome)]


def at_home(
    visit: Callable[[House], Awaitable[None]],
    settings: GatewaySettings | None = None,
    *,
    features: Any = FEATURES,
    answering: Model = model,
    versions: tuple[int, ...] = (7,),
) -> None:
    """Build a gateway, let `visit` use it, take it down. Kafka and Redis are not there."""

    async def run(folder: Path, server: FakeModelServer) -> None:
        gateway = Gateway(
            kafka=KafkaSettings(bootstrap=NOBODY, partitions=4),
            redis=RedisSettings(url=Secret(f"redis://{NOBODY}/0")),
            features=features,
            # Patience: a slow machine must not turn an answer into a fallback.
            settings=replace(settings or GatewaySettings(), budget=BudgetSettings(request_s=30, model_s=20)),
            data=folder,
            model_server=server.address,
        )
        transport = httpx.ASGITransport(app=gateway.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as http:
            await visit(House(gateway, http, server))
        await gateway.stop_rpc()
        await gateway.close()

    with tempfile.TemporaryDirectory() as folder, FakeModelServer(answering, versions=versions) as server:
        asyncio.run(run(Path(folder), server))
