"""The Python client against a real gateway process, and against none."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from feedback.clock import SECOND, now_us
from feedback.errors import EventError, UnavailableError, UsageError
from serving.client import AsyncClient, Client
from serving.gateway.access import digest
from serving.gateway.messages import Candidate
from serving.gateway.settings import GatewaySettings, KeySettings
from tests.gateway.conftest import Start
from tests.gateway.world import rss_mb


def test_both_clients_get_slates_and_send_outcomes(start: Start) -> None:
    key = KeySettings(name="shop", sha256=digest("letmein"), scopes=("recommend", "outcomes"))
    gateway = start(GatewaySettings(ticks=False, keys=(key,)))
    with Client(gateway.url, key="letmein") as client:
        slate = client.recommend("anna", candidates=["i1", Candidate(id="i9", features={"age": 2.0})], count=1)
        assert [item.id for item in slate.items] == ["i9"]
        verdicts = client.outcomes(
            [{"request_id": slate.request_id, "item_id": "i9", "kind": "click"}, {"kind": "click"}]
        )
        assert (verdicts.accepted, verdicts.refused) == (1, 1)
        with pytest.raises(EventError, match="count"):
            client.recommend("anna", candidates=["i1"], count=100_000)
        with pytest.raises(UsageError, match="lacks scope replay"):
            client.recommend("anna", candidates=["i1"], request_id="mine")

        taken = client.observe("anna", items=["i2", Candidate(id="i4", features={"age": 1.0})], request_id="front-1")
        assert (taken.request_id, taken.logged, taken.degraded) == ("front-1", True, [])
        assert client.outcomes([{"request_id": "front-1", "item_id": "i4", "kind": "click"}]).accepted == 1
        assert len({client.observe("anna", items=["i2"]).request_id for _ in range(3)}) == 3
        with pytest.raises(EventError, match="stands twice"):
            client.observe("anna", items=["i2", "i2"])
        with pytest.raises(EventError, match="machine's clock"):
            client.observe("anna", items=["i2"], event_time=now_us() + 120 * SECOND)

    async def awaited() -> None:
        async with AsyncClient(gateway.url, key="letmein") as client:
            slates = await asyncio.gather(*(client.recommend("anna", candidates=["i1", "i2"]) for _ in range(20)))
            assert len({slate.request_id for slate in slates}) == 20
            sent = [{"request_id": slate.request_id, "item_id": "i2", "kind": "click"} for slate in slates]
            assert (await client.outcomes(sent)).accepted == 20
            seen = await client.observe("anna", items=["i2"], context={"device": "phone"}, event_time=5)
            assert seen.logged

    asyncio.run(awaited())
    with Client(gateway.url, key="wrong", deadline_s=5) as client, pytest.raises(UsageError, match="401"):
        client.recommend("anna", candidates=["i1"])


def test_a_client_gives_up_at_its_deadline_and_says_why() -> None:
    with (
        Client("http://127.0.0.1:1", deadline_s=0.3) as client,
        pytest.raises(UnavailableError, match="no answer within"),
    ):
        client.recommend("anna", candidates=["i1"])


def send(client: Client) -> bool:
    return client.outcomes([{"request_id": "r", "item_id": "i", "kind": "click"}]).accepted == 1


def tell(client: Client) -> bool:
    return client.observe("anna", items=["i"]).logged


@pytest.mark.parametrize("call", [send, tell])
def test_a_call_is_made_again_with_the_same_ids_until_it_is_taken(call: Callable[[Client], bool]) -> None:
    bodies: list[bytes] = []

    class Busy(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["content-length"])))
            outcomes = b'{"accepted": 1, "refused": 0, "verdicts": []}'
            answer = outcomes if self.path == "/v1/outcomes" else b'{"request_id": "r", "logged": true, "degraded": []}'
            self.send_response(503 if len(bodies) < 3 else 202)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    with HTTPServer(("127.0.0.1", 0), Busy) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        with Client(f"http://127.0.0.1:{server.server_port}") as client:
            assert call(client)
        server.shutdown()
        thread.join()
    assert len(bodies) == 3
    assert len(set(bodies)) == 1


def test_the_gateway_is_small(start: Start) -> None:
    gateway = start()
    for _ in range(50):
        gateway.recommend([f"i{n}" for n in range(50)])
    assert rss_mb(gateway.pid) <= 120


@pytest.mark.parametrize(
    "module", ["serving.gateway.main", "serving.client", "serving.protocol.stubs", "feedback.produce"]
)
def test_tensorflow_is_nowhere_near(module: str) -> None:
    code = (
        f"import sys, {module}; sys.exit(any(m in sys.modules for m in ('tensorflow', 'tensorflow_serving', 'faust')))"
    )
    ran = subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=False, capture_output=True)
    assert ran.returncode == 0, ran.stderr.decode()
