"""The gateway's figures: how much it carries, how fast it answers at a steady rate, how big it is, how soon it serves.

Everything beside it is real and already there: the caller names Kafka, Redis and a model server that serves the features given.
The gateway and the load generator are processes of their own. `seed` fills Redis with state, so that features cost what they cost.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import redis

from feedback import state
from feedback.clock import now_us
from feedback.features import Feature
from feedback.settings import KafkaSettings, RedisSettings
from serving.gateway.settings import GatewaySettings

UNITS: Final = {
    "gateway_rps": "1/s",
    "gateway_p50_ms": "ms",
    "gateway_p99_ms": "ms",
    "gateway_rss_mb": "MB",
    "gateway_start_s": "s",
}
"""The figures and their units."""

_WARM_S: Final = (30.0, 5.0)
"""Before a steady rate is measured: the first time, when the whole loop has just started, and later."""
_STEADY_S: Final = 30.0
_FULL_S: Final = 10.0
_SERVE: Final = "import pickle, sys; from serving.gateway.main import run; sys.exit(run(**pickle.loads(open(sys.argv[1], 'rb').read())))"


class Bench:
    """Measures gateways that are started for it, each a process of its own.

    `features`: what the model sees; `candidate_features`: what each candidate of a request carries. 50 candidates, slates of 20.
    """

    def __init__(
        self,
        *,
        kafka: KafkaSettings,
        redis: RedisSettings,
        features: Sequence[Feature],
        settings: GatewaySettings,
        model_server: str,
        candidate_features: dict[str, Any],
    ) -> None:
        self._options: dict[str, Any] = {
            "kafka": kafka,
            "redis": redis,
            "features": tuple(features),
            "settings": settings,
            "model_server": model_server,
        }
        self._sent = ["--features", json.dumps(candidate_features)]

    def steady(self, runs: int = 3, rate: float = 200.0) -> dict[str, list[float]]:
        """How fast it answers at a steady rate; the value of each run.

        Before `full`: what a full load leaves behind is joined and learned for a minute and more.

        Raises:
            RuntimeError: a request was answered without the model, with an error, or not at all: such a run measures nothing.
        """
        found: dict[str, list[float]] = {"gateway_p50_ms": [], "gateway_p99_ms": []}
        for number in range(runs):
            with self._gateway() as gateway:
                how = ["--rate", str(rate), "--seconds", str(_STEADY_S), "--warm", str(_WARM_S[number > 0])]
                answered = load(gateway.url, [*self._sent, *how])
            found["gateway_p50_ms"].append(answered["p50_ms"])
            found["gateway_p99_ms"].append(answered["p99_ms"])
        return found

    def full(self, runs: int = 3) -> dict[str, list[float]]:
        """How much it carries, how big it is then, how soon it serves; the value of each run. Raises as `steady` does."""
        found: dict[str, list[float]] = {"gateway_rps": [], "gateway_rss_mb": [], "gateway_start_s": []}
        for _ in range(runs):
            with self._gateway() as gateway:
                answered = load(gateway.url, [*self._sent, "--connections", "32", "--seconds", str(_FULL_S)])
                found["gateway_rps"].append(answered["rps"])
                found["gateway_rss_mb"].append(gateway.rss_mb())
                found["gateway_start_s"].append(gateway.start_s)
        return found

    @contextmanager
    def _gateway(self) -> Iterator[Served]:
        with tempfile.TemporaryDirectory() as folder:
            gateway = Served(Path(folder), self._options)
            try:
                yield gateway
            finally:
                gateway.stop()


class Served:
    """A gateway process, from its start to its first line."""

    def __init__(self, folder: Path, options: dict[str, Any]) -> None:
        pickled = folder / "options.pickle"
        pickled.write_bytes(pickle.dumps(options | {"data": folder}))
        begin = time.monotonic()
        self._log = (folder / "gateway.log").open("wb")
        self._process = subprocess.Popen(
            [sys.executable, "-c", _SERVE, str(pickled)], stdout=subprocess.PIPE, stderr=self._log, text=True
        )
        assert self._process.stdout
        line = self._process.stdout.readline()
        self.start_s = time.monotonic() - begin
        if not line:
            raise RuntimeError(f"the gateway did not start: {(folder / 'gateway.log').read_text()}")
        self.url = f"http://127.0.0.1:{json.loads(line)['http_port']}"

    def rss_mb(self) -> float:
        """Resident memory, MB."""
        pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def stop(self) -> None:
        """SIGTERM, and wait."""
        self._process.terminate()
        self._process.wait(30)
        assert self._process.stdout
        self._process.stdout.close()
        self._log.close()


def load(url: str, arguments: Sequence[str]) -> dict[str, float]:
    """Run the load generator; answer what it found. Raises RuntimeError as `Bench.steady` does."""
    found = generate(url, arguments)
    for what in ("fallbacks", "errors", "lost"):
        if found[what] > found["answered"] / 1000:
            raise RuntimeError(
                f"{found[what]:g} {what} among {found['answered']:g} answers: the machine is too busy to measure"
            )
    return found


def generate(url: str, arguments: Sequence[str]) -> dict[str, float]:
    """Run the load generator; answer what it found, whatever that is."""
    command = [sys.executable, "-m", "serving.gateway.load", url, *arguments]
    found: dict[str, float] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return found


def seed(settings: RedisSettings, *, items: int = 2000, users: int = 10_000, partitions: int = 8) -> None:
    """Fill Redis with the state of the generator's items and readers, every partition's field."""
    now = now_us()
    once = state.Count(now, 1.0)
    shown = state.encode_impressions(offset=1, count=state.Count(now, 20.0), half_life_s=3600, first_seen=now - 10**9)
    clicked = state.encode_clicks(offset=1, count=once, half_life_s=3600)
    read = state.encode_reads(offset=1, count=once, half_life_s=3600, last=[(now, "i1"), (now, "i2")])
    fields = {state.impressions_field(p): shown for p in range(partitions)}
    fields |= {state.clicks_field(p): clicked for p in range(partitions)}
    with redis.Redis.from_url(str(settings.url)) as client:
        pipe = client.pipeline(transaction=False)
        for item in range(items):
            pipe.hset(state.item_key(settings.namespace, f"i{item}"), mapping=fields)
        for user in range(users):
            pipe.hset(state.user_key(settings.namespace, f"u{user}"), mapping={state.reads_field(0): read})
        pipe.execute()
