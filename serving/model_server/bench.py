"""How fast the model server answers: Predict of 50 candidates with 8 string features each, client in its own process.

`run` starts a server process on a model it makes itself (hashed features, embeddings, two dense layers), measures, and ends
it. `python -m serving.model_server.bench` prints what it returns.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import predict_pb2

CANDIDATES, FEATURES = 50, 8
BUCKETS, WIDTH, HIDDEN = 100_000, 16, 32

Figure = tuple[str, str, list[float]]
"""(name, unit, value of each run)."""


def run(runs: int = 3, *, seconds: float = 5.0) -> list[Figure]:
    """Measure `runs` times, `seconds` for each of the two loads.

    Raises:
        RuntimeError: the server or the load generator ended with an error.
    """
    with tempfile.TemporaryDirectory(prefix="everloop-bench-") as folder:
        base = Path(folder)
        make_model(base / "ranker" / "1")
        (base / "request").write_bytes(make_request())
        with server(base / "ranker") as port:
            measured = [_measure(port, base / "request", seconds) for _ in range(runs)]
    return [
        ("model_p50_ms", "ms", [figures["p50_ms"] for figures in measured]),
        ("model_p99_ms", "ms", [figures["p99_ms"] for figures in measured]),
        ("model_rps", "requests/s", [figures["rps"] for figures in measured]),
    ]


def _measure(port: int, request: Path, seconds: float) -> dict[str, float]:
    command = [sys.executable, "-m", "serving.model_server.load", str(port), str(request), str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the load generator ended with {done.returncode}: {done.stderr[-2000:]}")
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


@contextmanager
def server(base: Path, *, what: str = "grpc_port") -> Iterator[int]:
    """A server process of the model at that base path; yields its gRPC port, or `what` else it says when it is ready."""
    command = [sys.executable, "-m", "serving.model_server", "--port=0", "--rest_api_port=0", "--host=127.0.0.1"]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(
            [*command, "--model_name=ranker", f"--model_base_path={base}"],
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environment,
        ) as process,
    ):
        try:
            line = process.stdout.readline() if process.stdout else b""
            if not line:
                errors.seek(0)
                raise RuntimeError(f"the server did not start: {errors.read()[-2000:].decode(errors='replace')}")
            yield int(json.loads(line)[what])
        finally:
            process.kill()


def make_request() -> bytes:
    """The request: one string tensor of shape [candidates, features]."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "ranker"
    request.inputs["x"].CopyFrom(tf.make_tensor_proto(values(), tf.string, [CANDIDATES, FEATURES]))
    return bytes(request.SerializeToString())


def values() -> list[str]:
    """The request's strings, row by row."""
    return [f"feature_{index % FEATURES}={index * 7919 % 10007}" for index in range(CANDIDATES * FEATURES)]


def make_model(path: Path) -> None:
    """A ranker: features hashed to rows, rows through two dense layers, a score per candidate."""
    graph = tf.Graph()
    with graph.as_default(), tf.compat.v1.Session(graph=graph) as session:
        x = tf.compat.v1.placeholder(tf.string, [None, FEATURES], "x")
        rows = tf.compat.v1.get_variable("rows", [BUCKETS, WIDTH], use_resource=True)
        hidden = tf.compat.v1.get_variable("hidden", [FEATURES * WIDTH, HIDDEN], use_resource=True)
        head = tf.compat.v1.get_variable("head", [HIDDEN, 1], use_resource=True)
        found = tf.gather(rows, tf.strings.to_hash_bucket_fast(x, BUCKETS))
        flat = tf.reshape(found, [-1, FEATURES * WIDTH])
        score = tf.sigmoid(tf.matmul(tf.nn.relu(tf.matmul(flat, hidden)), head))[:, 0]
        session.run(tf.compat.v1.global_variables_initializer())
        signature = meta_graph_pb2.SignatureDef(method_name="tensorflow/serving/predict")
        for alias, tensor, into in (("x", x, signature.inputs), ("score", score, signature.outputs)):
            into[alias].name, into[alias].dtype = tensor.name, tensor.dtype.as_datatype_enum
            into[alias].tensor_shape.CopyFrom(tensor.shape.as_proto())
        builder = tf.compat.v1.saved_model.Builder(str(path))
        builder.add_meta_graph_and_variables(session, ["serve"], {"serving_default": signature})
        builder.save()


if __name__ == "__main__":
    print(json.dumps(run()))
