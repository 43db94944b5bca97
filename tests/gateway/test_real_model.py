"""The gateway in front of the real model server and a SavedModel of the contract's signatures."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from feedback.features import Feature
from serving.gateway.settings import BudgetSettings, GatewaySettings
from serving.protocol import requests
from serving.protocol.stubs import ModelServer
from tests.gateway.conftest import Start
from tests.gateway.world import until

FEATURES = (
    Feature(name="item", source="item"),
    Feature(name="topics", source="candidate", kind="strings"),
    Feature(name="age", source="candidate", kind="number"),
)
_EXPORT = """
import sys
import tensorflow as tf

class Model(tf.Module):
    @tf.function(input_signature=[
        tf.TensorSpec([None], tf.string, name="item"),
        tf.TensorSpec([None, None], tf.string, name="topics"),
        tf.TensorSpec([None], tf.float32, name="age"),
    ])
    def serve(self, item, topics, age):
        liked = tf.reduce_sum(tf.cast(topics != "", tf.float32), axis=1)
        score = 1.0 / (1.0 + age + liked + 0.0 * tf.cast(tf.strings.length(item), tf.float32))
        return {"score": score, "sequence": tf.fill(tf.shape(item), tf.constant(17, tf.int64))}

model = Model()
tf.saved_model.save(model, sys.argv[1], signatures={"serving_default": model.serve})
"""


@pytest.fixture
def model_server(tmp_path: Path) -> Iterator[str]:
    """`everloop model-server` with version 5 of `news`, label live."""
    base = tmp_path / "news"
    subprocess.run([sys.executable, "-c", _EXPORT, str(base / "5")], check=True, capture_output=True)
    command = [sys.executable, "-m", "serving.model_server", "--port=0", "--host=127.0.0.1", "--model_name=news"]
    process = subprocess.Popen(
        [*command, f"--model_base_path={base}"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout
    try:
        address = f"127.0.0.1:{json.loads(process.stdout.readline())['grpc_port']}"
        with grpc.insecure_channel(address) as channel:
            stub = ModelServer(channel)

            def loaded() -> bool:
                states = requests.states(stub.status(requests.status("news"), timeout=20))
                return any(state.state == "AVAILABLE" for state in states)

            until(loaded, "the version is loaded", 60)
            stub.reload(requests.reload("news", str(base), versions=[5], labels={"live": 5}), timeout=30)
        yield address
    finally:
        process.terminate()
        process.wait(30)
        process.stdout.close()


def test_the_real_model_servers_scores_rank_the_slate(start: Start, model_server: str) -> None:
    patient = GatewaySettings(ticks=False, budget=BudgetSettings(request_s=60, model_s=50))
    gateway = start(patient, features=FEATURES, model_server=model_server)
    candidates = [
        {"id": "a", "features": {"age": 3.0}},
        {"id": "b", "features": {"topics": ["x", "y"]}},
        {"id": "c"},
    ]
    answer = gateway.recommend(candidates=candidates)
    assert answer["fallback"] == ""
    assert [(item["id"], item["score"]) for item in answer["items"]] == [
        ("c", 1.0),
        ("b", pytest.approx(1 / 3)),
        ("a", pytest.approx(1 / 4)),
    ]
    assert answer["model"] == {"name": "news", "version": 5, "sequence": 17, "epoch": 0}
