"""An exported model answers as the learner does, from raw strings on, with stock operations only."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.trainer.core.rows import SPEC, batch, learner
from tests.trainer.core.serve import Served
from trainer import warmup


@pytest.mark.parametrize("kind", ["linear", "fm", "deepfm", "dcn"])
def test_an_exported_model_answers_as_the_learner_does(kind: str, tmp_path: Path) -> None:
    model = learner(kind=kind, dim=4, hidden=(8,), heads=3 if kind == "fm" else 0)
    for seed in range(6):
        model.learn(batch(seed))
    model.take_delta()
    model.snapshot().export(tmp_path)
    served = Served(tmp_path)
    rows = batch(77, 50, users=60)
    answer = served.predict(rows.columns)
    np.testing.assert_array_equal(answer["score"], model.score(rows))
    assert answer["sequence"].dtype == np.int64 and answer["sequence"].tolist() == [1] * 50
    assert ("heads" in answer) == (kind == "fm")
    if kind == "fm":
        np.testing.assert_array_equal(answer["heads"], model.heads(rows))
    served.close()


def test_the_inputs_are_the_features_by_name(tmp_path: Path) -> None:
    model = learner()
    model.snapshot().export(tmp_path)
    served = Served(tmp_path)
    inputs = served.meta.signature_def["serving_default"].inputs
    assert {name: (tf.as_dtype(i.dtype), len(i.tensor_shape.dim)) for name, i in inputs.items()} == {
        "user": (tf.string, 1),
        "item": (tf.string, 1),
        "tags": (tf.string, 2),
        "age": (tf.float32, 1),
    }
    assert set(served.meta.signature_def) == {"serving_default", "sync", "checksum"}
    assert len(inputs) == len(SPEC.features)
    served.close()


def test_a_base_has_room_for_new_rows(tmp_path: Path) -> None:
    model = learner()
    for seed in range(5):
        model.learn(batch(seed, 500, users=5000))
    model.take_delta()
    model.snapshot().export(tmp_path)
    reader = tf.train.load_checkpoint(str(tmp_path / "variables" / "variables"))
    shapes = reader.get_variable_to_shape_map()
    served = Served(tmp_path)
    nodes = {node.name: node for node in served.meta.graph_def.node}
    for table, slots in zip(model.plan.tables, [rows.slots for rows in model.tables], strict=True):
        rows = shapes[f"rows_{table.name}"][0]
        assert rows > 2 * slots.next
        assert shapes[f"keys_{table.name}"] == shapes[f"slots_{table.name}"] == [slots.owned]
        assert nodes[f"keys_{table.name}"].attr["initial_num_buckets"].i >= 2 * (rows - 1)
    served.close()


def test_keys_that_the_next_delta_admits_are_not_in_the_base_yet(tmp_path: Path) -> None:
    model = learner(kind="linear", crosses=())
    model.learn(batch(0))
    model.take_delta()
    model.learn(batch(1, 64, users=4000))
    model.snapshot().export(tmp_path)
    served = Served(tmp_path)
    value = model.take_delta()
    assert served.sync([value])["sequence"].tolist() == [2]
    probe, expected = model.checksum(3)
    assert served.checksum(probe) == expected
    served.close()


def test_warm_up_requests_are_what_tensorflow_serving_reads(tmp_path: Path) -> None:
    log = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2")
    model = learner(kind="linear")
    rows = batch(0, 7)
    model.snapshot().export(tmp_path, rows)
    path = tmp_path / "assets.extra" / "tf_serving_warmup_requests"
    records = [log.PredictionLog.FromString(r.numpy()) for r in tf.data.TFRecordDataset(str(path))]
    assert len(records) == len(warmup.SIZES)
    served = Served(tmp_path)
    for record, size in zip(records, warmup.SIZES, strict=True):
        request = record.predict_log.request
        assert (request.model_spec.name, request.model_spec.signature_name) == ("news", "serving_default")
        columns = {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
        assert served.predict(columns)["score"].shape == (size,)
        assert columns["user"][0] == rows.columns["user"][0].encode()
    served.close()


def test_an_export_in_another_thread_is_the_snapshot_s_whatever_is_learned_meanwhile(tmp_path: Path) -> None:
    model = learner(kind="linear")
    model.learn(batch(0))
    model.take_delta()
    rows = batch(5)
    before = model.score(rows)
    snapshot = model.snapshot()
    for seed in range(1, 4):
        model.learn(batch(seed))
    snapshot.export(tmp_path)
    served = Served(tmp_path)
    np.testing.assert_array_equal(served.predict(rows.columns)["score"], before)
    served.close()


def test_an_export_holds_nothing_of_the_one_before_it_in_the_same_thread(tmp_path: Path) -> None:
    small, large = learner(kind="linear"), learner(kind="linear")
    for seed in range(4):
        large.learn(batch(seed, 500, users=5_000))
    for model in (small, large):
        model.learn(batch(9))
        model.take_delta()
    for number, model in enumerate((large, small, large, small)):
        model.snapshot().export(tmp_path / str(number))
    with ThreadPoolExecutor(1) as alone:
        alone.submit(lambda: small.snapshot().export(tmp_path / "alone")).result()
    first, _, again, last, fresh = (
        (tmp_path / name / "variables" / "variables.data-00000-of-00001").read_bytes()
        for name in ("0", "1", "2", "3", "alone")
    )
    assert first == again
    assert last == fresh != first
