"""What the gateway's tests share: a feature specification, a model, a gateway process, a reader of topics."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx

from feedback.codec import decode_input
from feedback.events import Input, Tick
from feedback.features import Feature
from feedback.settings import KafkaSettings
from serving.gateway.settings import BudgetSettings
from serving.protocol import tensors
from serving.protocol.serving_pb2 import TensorProto

PATIENT = BudgetSettings(request_s=30, model_s=20)
"""A slow machine must not turn an answer into a fallback."""

FEATURES = (
    Feature(name="user", source="user"),
    Feature(name="item", source="item"),
    Feature(name="device", source="context", default="desktop"),
    Feature(name="topics", source="candidate", kind="strings"),
    Feature(name="age", source="candidate", kind="number", default=-1.0),
    Feature(name="user_last_item", source="user_state"),
    Feature(name="item_ctr", source="item_state", kind="number", default=0.05),
    Feature(name="hour", source="hour"),
)


def model(signature: str, inputs: Mapping[str, TensorProto]) -> Mapping[str, TensorProto]:
    """Score an item by the last digit in its name: `i3` gets 0.3; one without a digit gets 0."""
    items = tensors.octets_of(inputs["item"])
    scores = [int(item[-1:]) / 10 if item[-1:].isdigit() else 0.0 for item in items]
    return {"score": tensors.floats(scores), "sequence": tensors.integers([42] * len(items))}


class Process:
    """A gateway as a process of its own."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._options = tempfile.NamedTemporaryFile(suffix=".pickle")  # noqa: SIM115 - closed in end()
        self._options.write(pickle.dumps(options))
        self._options.flush()
        code = "import pickle, sys; from serving.gateway.main import run; sys.exit(run(**pickle.load(open(sys.argv[1], 'rb'))))"
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed in end()
        self.begun = time.monotonic()
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code, self._options.name],
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        assert self._process.stdout
        line = self._process.stdout.readline()
        self.ready_s = time.monotonic() - self.begun
        self.http = httpx.Client(timeout=20)
        if not line:
            log = self.log()
            self.end()
            raise AssertionError(f"the gateway did not start: {log}")
        self.ready: dict[str, Any] = json.loads(line)
        self.url = f"http://127.0.0.1:{self.ready['http_port']}"
        self.pid = self._process.pid
        self.http.base_url = httpx.URL(self.url)

    def recommend(self, items: list[str] | None = None, **fields: Any) -> dict[str, Any]:
        """Ask for a slate and expect one."""
        body: dict[str, Any] = {"user": "anna"} | fields
        if items is not None:
            body["candidates"] = [{"id": item} for item in items]
        answer = self.http.post("/v1/recommend", json=body)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def status(self) -> dict[str, Any]:
        """/v1/status."""
        found: dict[str, Any] = self.http.get("/v1/status").json()
        return found

    def log(self) -> str:
        """What it has logged."""
        self._log.seek(0)
        return self._log.read()

    def kill(self) -> None:
        """SIGKILL."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(30)

    def end(self) -> None:
        """Leave nothing behind."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        assert self._process.stdout
        self._process.stdout.close()
        self._options.close()
        self._log.close()
        self.http.close()


def until(condition: Callable[[], Any], what: str, limit_s: float = 30.0) -> Any:
    """Wait until a condition holds; answer its value."""
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"not after {limit_s} s: {what}")


def read_all(kafka: KafkaSettings, topic: str, *, ticks: bool = False) -> list[tuple[int, bytes | None, Input]]:
    """Everything in a topic: partition, key and event, in each partition's order."""
    from kafka import KafkaConsumer, TopicPartition  # imported late, as in conftest

    consumer = KafkaConsumer(**kafka.client(), group_id=None, auto_offset_reset="earliest")
    try:
        partitions = [TopicPartition(kafka.name(topic), p) for p in range(kafka.partitions)]
        consumer.assign(partitions)
        ends = consumer.end_offsets(partitions)
        consumer.seek_to_beginning()
        found: list[tuple[int, bytes | None, Input]] = []
        while any(consumer.position(p) < ends[p] for p in partitions):
            for records in consumer.poll(timeout_ms=200).values():
                found += [(r.partition, r.key, decode_input(r.value)) for r in records]
        return [row for row in found if ticks or not isinstance(row[2], Tick)]
    finally:
        consumer.close()


def rss_mb(pid: int) -> float:
    """Resident memory of a process, MB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
