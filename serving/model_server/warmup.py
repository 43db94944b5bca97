"""Warm-up: recorded requests that are replayed on a version before it answers anybody.

A warm-up request that fails fails the load: better the old version goes on than a new one that cannot answer its own
recorded requests.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from serving.model_server.bundle import Bundle, Runner, translated
from serving.model_server.classify import classify
from serving.model_server.faults import Code, ServingError, invalid
from serving.model_server.metrics import Metrics
from serving.model_server.multi import infer
from serving.model_server.predict import predict
from serving.model_server.regress import regress

MAX_RECORDS = 1000
_FILE = ("assets.extra", "tf_serving_warmup_requests")

_REPLAYS: dict[str, tuple[str, Callable[..., Any]]] = {
    "predict_log": ("request", predict),
    "classify_log": ("request", classify),
    "regress_log": ("request", regress),
    "multi_inference_log": ("request", infer),
}


def warm_up(
    bundle: Bundle, *, iterations: int = 1, runner: Runner | None = None, metrics: Metrics | None = None
) -> int:
    """Replay the recorded requests of the bundle's directory, each `iterations` times; return how many there were.

    The model name and version in a record are not looked at.

    Raises:
        ServingError: the file is damaged, too long, or a request in it fails.
    """
    path = tf.io.gfile.join(bundle.path, *_FILE)
    if not tf.io.gfile.exists(path):
        return 0
    began, status, count = time.perf_counter(), Code.OK, 0
    try:
        for record in _records(path):
            for _ in range(max(iterations, 1)):
                replay(bundle, record, runner=runner)
            count += 1
            if count > MAX_RECORDS:
                raise invalid(f"Number of warmup records exceeds the maximum ({MAX_RECORDS}) at {path}")
    except ServingError as error:
        status = error.code
        raise
    finally:
        if metrics is not None:
            metrics.warmup_latency.observe((time.perf_counter() - began) * 1e6, bundle.path, status.name)
            metrics.warmup_records.add(bundle.path, by=count)
    return count


def replay(bundle: Bundle, record: bytes, *, runner: Runner | None = None) -> None:
    """Run one recorded request.

    Raises:
        ServingError: the record is no PredictionLog, of a kind that cannot be replayed, or the request fails.
    """
    try:
        log = prediction_log_pb2.PredictionLog.FromString(record)
    except Exception as error:
        raise invalid(f"Failed to parse warmup record: {record[:80]!r} from {bundle.path}") from error
    kind = log.WhichOneof("log_type")
    if kind not in _REPLAYS:
        number = log.DESCRIPTOR.fields_by_name[kind].number if kind else 0
        raise ServingError(Code.UNIMPLEMENTED, f"Unsupported log_type for warmup: {number}")
    part, answer = _REPLAYS[kind]
    answer(bundle, getattr(getattr(log, kind), part), version=0, runner=runner)


def _records(path: str) -> Iterator[bytes]:
    try:
        yield from tf.compat.v1.io.tf_record_iterator(path)
    except tf.errors.DataLossError as error:
        text = f"{error.message}. Please verify your warmup data is in TFRecord format."
        raise ServingError(Code.DATA_LOSS, text) from error
    except tf.errors.OpError as error:
        raise translated(error) from error
