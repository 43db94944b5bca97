"""Warm-up (cases W)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from serving.model_server.bundle import Bundle
from serving.model_server.faults import ServingError
from serving.model_server.loader import Loader, LoaderSettings
from serving.model_server.metrics import Metrics
from serving.model_server.warmup import warm_up
from tests.model_server.conftest import Shelf, predict_request
from tests.model_server.models import CLASSIFY


@pytest.fixture
def version(tmp_path: Path, shelf: Shelf) -> Path:
    """A half-plus-two version of this test's own."""
    return shelf.publish(tmp_path / "m", 1, name="h2")


def _write(version: Path, records: Iterable[bytes]) -> Path:
    path = version / "assets.extra" / "tf_serving_warmup_requests"
    path.parent.mkdir()
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)
    return path


def _predict(**inputs: Any) -> bytes:
    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.CopyFrom(predict_request("whatever", version=77, **inputs))  # W-08
    return bytes(log.SerializeToString())


def _every_kind() -> list[bytes]:
    logs = [prediction_log_pb2.PredictionLog() for _ in range(3)]
    logs[0].classify_log.request.model_spec.signature_name = "classify_x_to_y"
    logs[1].regress_log.request.model_spec.signature_name = "regress_x_to_y"
    task = logs[2].multi_inference_log.request.tasks.add(method_name=CLASSIFY)
    task.model_spec.name, task.model_spec.signature_name = "m", "classify_x_to_y"
    for log, kind in zip(logs, ("classify_log", "regress_log", "multi_inference_log"), strict=True):
        example = getattr(log, kind).request.input.example_list.examples.add()
        example.features.feature["x"].float_list.value.append(1.0)
    return [_predict(x=[1.0]), *(bytes(log.SerializeToString()) for log in logs)]


def test_every_kind_of_request_is_replayed(version: Path) -> None:  # W-01
    _write(version, _every_kind())
    assert warm_up(Bundle(str(version))) == 4


def test_nothing_to_replay_is_well(version: Path) -> None:  # W-02
    bundle = Bundle(str(version))
    assert warm_up(bundle) == 0
    _write(version, [])
    assert warm_up(bundle) == 0


def _unsupported() -> list[bytes]:
    log = prediction_log_pb2.PredictionLog()
    log.session_run_log.SetInParent()
    return [bytes(log.SerializeToString())]


@pytest.mark.parametrize(
    ("records", "code", "text"),
    [
        pytest.param(
            lambda: [_predict(x=[1.0])] * 1001,
            "INVALID_ARGUMENT",
            "Number of warmup records exceeds the maximum (1000) at ",
            id="W-03",
        ),
        pytest.param(lambda: [b"\xff\xff"], "INVALID_ARGUMENT", "Failed to parse warmup record: ", id="W-05"),
        pytest.param(
            lambda: [_predict(signature="nope", x=[1.0])],
            "FAILED_PRECONDITION",
            'Serving signature key "nope" not found.',
            id="W-06",
        ),
        pytest.param(_unsupported, "UNIMPLEMENTED", "Unsupported log_type for warmup: 5", id="W-07"),
    ],
)
def test_a_bad_record_fails_the_load(version: Path, records: Any, code: str, text: str) -> None:
    _write(version, records())
    metrics = Metrics()
    with pytest.raises(ServingError) as caught:
        Loader(LoaderSettings(), metrics)("m", 1, str(version))
    assert caught.value.code.name == code
    assert caught.value.message.startswith(text)
    assert f'model_warmup_latency_count{{model_path="{version}",status="{code}"}} 1' in metrics.text()


def test_a_file_of_another_kind_fails_the_load(version: Path) -> None:  # W-04
    _write(version, []).write_bytes(b"this is no TFRecord file, and long enough to look like one")
    with pytest.raises(ServingError) as caught:
        Loader(LoaderSettings(), Metrics())("m", 1, str(version))
    assert caught.value.code.name == "DATA_LOSS"
    assert "Please verify your warmup data is in TFRecord format." in caught.value.message


def test_each_record_is_replayed_as_often_as_asked(version: Path) -> None:  # W-09
    class Counting:
        runs = 0

        def run(self, *arguments: Any) -> Any:
            self.runs += 1
            return bundle.run(*arguments)

    _write(version, [_predict(x=[1.0])] * 2)
    bundle, counting = Bundle(str(version)), Counting()
    assert warm_up(bundle, iterations=3, runner=counting) == 2
    assert counting.runs == 6


def test_warm_up_can_be_switched_off(version: Path) -> None:
    _write(version, [b"\xff\xff"])
    servable = Loader(LoaderSettings(warmup=False), Metrics())("m", 1, str(version))
    assert servable.version == 1
