"""What the follower's tests stand on: a model server and followers as processes of their own, and patience."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self, TypeVar

from feedback.errors import EverloopError
from serving.follower.follow import Follower
from serving.follower.server import ModelServer
from serving.follower.settings import DeadlineSettings
from serving.protocol import serving_pb2 as wire

T = TypeVar("T")


def eventually(probe: Callable[[], T], *, within_s: float = 60.0, what: str = "it") -> T:
    """Wait until a probe answers something true."""
    deadline = time.monotonic() + within_s
    while True:
        with contextlib.suppress(OSError, EverloopError):
            if answer := probe():
                return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true within {within_s} s")
        time.sleep(0.02)


class Process:
    """A process that prints one JSON line when it is ready."""

    def __init__(self, argv: list[str], log: Path) -> None:
        self.argv, self.log = argv, log
        self.ready: dict[str, Any] = {}
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.running:
            self.kill()
            print(self.log.read_text()[-6000:])

    def start(self) -> None:
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                self.argv, stdout=subprocess.PIPE, stderr=output, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"}
            )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, self.log.read_text()[-3000:]
        self.ready = json.loads(line)

    def kill(self, number: signal.Signals = signal.SIGKILL) -> int:
        assert self._process is not None and self._process.stdout is not None
        self._process.send_signal(number)
        status = self._process.wait(20)
        self._process.stdout.close()
        self._process = None
        return status

    @property
    def running(self) -> bool:
        return self._process is not None

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ready['http_port']}{path}", timeout=5) as answer:
            body = answer.read()
        return json.loads(body) if path != "/metrics" else body.decode()


@contextlib.contextmanager
def model_server(folder: Path, *, port: int = 0) -> Iterator[Process]:
    """The embedded model server, empty."""
    config = folder / "empty.conf"
    config.write_text("model_config_list {}\n")
    process = Process(
        [
            sys.executable, "-m", "serving.model_server", f"--port={port}", "--host=127.0.0.1",
            f"--model_config_file={config}", "--num_load_threads=1", "--num_unload_threads=1",
            "--max_num_load_retries=0", "--file_system_poll_wait_seconds=1",
        ],
        folder / "server.log",
    )  # fmt: skip
    process.start()
    try:
        yield process
    finally:
        if process.running:
            process.kill()


def client(port: int, model: str = "news") -> ModelServer:
    return ModelServer(f"127.0.0.1:{port}", model=model, deadlines=DeadlineSettings())


def is_live(follower: Follower, version: int, sequence: int) -> bool:
    """Whether that version is live, ready, and at that sequence."""
    status = follower.status()
    loaded = status["loaded"].get(str(version), {})
    return bool(status["ready"] and status["labels"].get("live") == version and loaded.get("sequence") == sequence)


def score(server: ModelServer, items: list[bytes], label: str = "live") -> wire.PredictResponse:
    """What a gateway sends."""
    request = wire.PredictRequest()
    request.model_spec.name, request.model_spec.version_label = server.model, label
    tensor = request.inputs["item_id"]
    tensor.dtype = wire.DT_STRING
    tensor.tensor_shape.dim.add(size=len(items))
    tensor.string_val.extend(items)
    tags = request.inputs["tags"]
    tags.dtype = wire.DT_STRING
    tags.tensor_shape.dim.add(size=len(items))
    tags.tensor_shape.dim.add(size=1)
    tags.string_val.extend([b""] * len(items))
    answer: wire.PredictResponse = server._call(server._predict, request, 10.0)
    return answer
