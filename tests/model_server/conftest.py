"""Servers for the tests: real ones, on free ports, with the models of models.py."""

from __future__ import annotations

import asyncio
import json
import shutil
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import grpc
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from serving.model_server.faults import ServingError
from serving.model_server.flags import Flags
from serving.model_server.server import Server
from serving.model_server.status import State
from tests.model_server import models

WAIT_S = 60.0


@dataclass(frozen=True)
class Reply:
    """An HTTP answer."""

    code: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """The error text."""
        return str(self.json["error"])


class Served:
    """A model server in a thread of its own, and clients for it."""

    def __init__(self, flags: Flags) -> None:
        self.flags = replace(flags, port=0, rest_api_port=0, host="127.0.0.1")
        self._ready = threading.Event()
        self._failed: BaseException | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), daemon=True)

    async def _main(self) -> None:
        try:
            self.server = Server(self.flags)
            self._loop = asyncio.get_running_loop()
            self._stop = asyncio.Event()
            await self.server.start()
        except (ServingError, OSError) as error:
            self.server.service.core.stop()
            self._failed = error
            return
        finally:
            self._ready.set()
        await self._stop.wait()
        await self.server.stop()

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(WAIT_S)
        if self._failed is not None:
            raise self._failed
        self.channel = grpc.insecure_channel(
            f"127.0.0.1:{self.server.grpc_port}", options=[("grpc.max_receive_message_length", -1)]
        )
        self.prediction = prediction_service_pb2_grpc.PredictionServiceStub(self.channel)
        self.model = model_service_pb2_grpc.ModelServiceStub(self.channel)
        return self

    def __exit__(self, *_: object) -> None:
        self.channel.close()
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(WAIT_S)

    @property
    def rest(self) -> str:
        """Where REST is."""
        return f"http://127.0.0.1:{self.server.rest_port}"

    def http(self, method: str, path: str, body: Any = None, **headers: str) -> Reply:
        """One HTTP request; a body that is not bytes is sent as JSON."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(self.rest + path, data=data, method=method)
        for name, value in headers.items():
            request.add_header(name.replace("_", "-"), value)
        try:
            with urllib.request.urlopen(request, timeout=WAIT_S) as answer:
                return Reply(answer.status, answer.read(), dict(answer.headers))
        except urllib.error.HTTPError as error:
            with error:
                return Reply(error.code, error.read(), dict(error.headers))

    def predict(self, name: str, *, timeout: float = WAIT_S, **inputs: Any) -> Any:
        """Predict over gRPC; `version`, `label`, `signature` and `output_filter` are taken out of the inputs."""
        request = predict_request(name, **inputs)
        return self.prediction.Predict(request, timeout=timeout)

    def states(self, name: str) -> dict[int, str]:
        """Version → state over gRPC."""
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = name
        try:
            answer = self.model.GetModelStatus(request, timeout=WAIT_S)
        except grpc.RpcError as error:
            assert error.code() is grpc.StatusCode.NOT_FOUND
            return {}
        return {entry.version: State(entry.state).name for entry in answer.model_version_status}

    def until(self, name: str, **wanted: str) -> None:
        """Poll the file system and wait until versions have these states: `until("m", v1="END")`."""
        goal = {int(version[1:]): state for version, state in wanted.items()}
        self.server.service.core.poll()
        wait_for(lambda: goal.items() <= self.states(name).items(), lambda: f"{name}: {self.states(name)}, not {goal}")

    def reload(self, config: Any, *, timeout: float = WAIT_S) -> Any:
        """HandleReloadConfigRequest."""
        request = model_management_pb2.ReloadConfigRequest()
        request.config.CopyFrom(config)
        return self.model.HandleReloadConfigRequest(request, timeout=timeout)


def wait_for(ready: Callable[[], bool], what: Callable[[], str]) -> None:
    """Wait until `ready`, or fail."""
    end = time.monotonic() + WAIT_S
    while not ready():
        assert time.monotonic() < end, what()
        time.sleep(0.01)


def predict_request(name: str, **inputs: Any) -> Any:
    """A PredictRequest."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = name
    if "version" in inputs:
        request.model_spec.version.value = inputs.pop("version")
    if "label" in inputs:
        request.model_spec.version_label = inputs.pop("label")
    request.model_spec.signature_name = inputs.pop("signature", "")
    request.output_filter.extend(inputs.pop("output_filter", []))
    for alias, value in inputs.items():
        request.inputs[alias].CopyFrom(tf.make_tensor_proto(value))
    return request


@dataclass(frozen=True)
class Shelf:
    """The test models on disk, made once."""

    root: Path

    def base(self, name: str) -> Path:
        """A base path that holds one version of the model of that name."""
        return self.root / name

    def publish(self, base: Path, version: int, *, name: str = "") -> Path:
        """Put a version under a base path as publishers should: copy under another name, then rename."""
        base.mkdir(parents=True, exist_ok=True)
        source = self.root / name / "1" if name else self.root / "ver" / str(version)
        if not source.exists():
            models.save(source, models.version(version))
        temporary = base / f".tmp-{version}"
        shutil.copytree(source, temporary)
        return temporary.rename(base / str(version))


BUILDERS: dict[str, Callable[[], models.Signatures]] = {
    "h2": models.half_plus_two,
    "multi": models.many,
    "types": models.types,
    "odd": models.odd,
    "counter": models.counter,
    "slow": models.slow,
    "living": models.living,
    "tall": models.tall,
}


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    """The test models."""
    root = tmp_path_factory.mktemp("models")
    for name, build in BUILDERS.items():
        models.save(root / name / "1", build)
    return Shelf(root)


def model_config(*entries: dict[str, Any]) -> Any:
    """A ModelServerConfig; entries have name, base_path, and maybe specific, latest, all, labels, platform."""
    from tensorflow_serving.config import model_server_config_pb2

    config = model_server_config_pb2.ModelServerConfig()
    config.model_config_list.SetInParent()
    for entry in entries:
        added = config.model_config_list.config.add(
            name=entry["name"], base_path=str(entry["base_path"]), model_platform=entry.get("platform", "tensorflow")
        )
        policy = added.model_version_policy
        if "specific" in entry:
            policy.specific.versions.extend(entry["specific"])
            policy.specific.SetInParent()
        if "latest" in entry:
            policy.latest.num_versions = entry["latest"]
        if entry.get("all"):
            policy.all.SetInParent()
        for label, version in entry.get("labels", {}).items():
            added.version_labels[label] = version
    return config


def write_config(path: Path, *entries: dict[str, Any]) -> str:
    """A model config file."""
    path.write_text(str(model_config(*entries)))
    return str(path)


FAST = Flags(num_load_threads=1, num_unload_threads=1, max_num_load_retries=0, load_retry_interval_micros=50_000)
"""Flags that make a hot swap quick."""


@pytest.fixture(scope="session")
def served(shelf: Shelf, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One server with every test model, for tests that change nothing; m is half-plus-two as version 123 labelled L."""
    base = tmp_path_factory.mktemp("served")
    shelf.publish(base / "m", 123, name="h2")
    shelf.publish(base / "a b", 1, name="h2")
    entries = [{"name": name, "base_path": shelf.base(name)} for name in BUILDERS if name not in ("slow", "living")]
    entries.append({"name": "m", "base_path": base / "m", "labels": {"L": 123}})
    entries.append({"name": "a/b", "base_path": base / "a b"})
    flags = replace(
        FAST,
        model_config_file=write_config(base / "models.config", *entries),
        allow_version_labels_for_unavailable_models=True,
    )
    monitoring = base / "monitoring.config"
    monitoring.write_text('prometheus_config { enable: true path: "/monitoring/prometheus/metrics" }')
    with Served(replace(flags, monitoring_config_file=str(monitoring))) as running:
        yield running


def failure(call: Callable[[], Any]) -> tuple[str, str]:
    """The gRPC code's name and the text with which a call fails."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code().name, caught.value.details()
