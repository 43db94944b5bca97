"""Our messages are TensorFlow Serving's, byte for byte, in both directions."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor as descriptors

from serving.protocol import generate, requests, serving_pb2, tensors

PAIRS = [
    ("PredictRequest", "predict_pb2"),
    ("PredictResponse", "predict_pb2"),
    ("GetModelStatusRequest", "get_model_status_pb2"),
    ("GetModelStatusResponse", "get_model_status_pb2"),
    ("ReloadConfigRequest", "model_management_pb2"),
    ("ReloadConfigResponse", "model_management_pb2"),
]


def official(name: str, module: str) -> Any:
    import importlib

    return getattr(importlib.import_module(f"tensorflow_serving.apis.{module}"), name)


def shape(ours: Any, theirs: Any, seen: set[str]) -> list[str]:
    """Fields of ours that theirs has not, or has otherwise."""
    if ours.full_name in seen:
        return []
    seen.add(ours.full_name)
    wrong = []
    for field in ours.fields:
        other = theirs.fields_by_number.get(field.number)
        # An enum and an int32 are the same on the wire: our StatusProto keeps the code as a number.
        same_type = other is not None and {field.type, other.type} in ({field.type}, {5, 14})
        if other is None or other.name != field.name or not same_type or other.is_repeated != field.is_repeated:
            wrong.append(f"{ours.full_name}.{field.name}")
        elif isinstance(field.message_type, descriptors.Descriptor):
            wrong += shape(field.message_type, other.message_type, seen)
    return wrong


@pytest.mark.parametrize(("name", "module"), PAIRS)
def test_every_field_has_the_official_name_number_and_type(name: str, module: str) -> None:
    assert shape(getattr(serving_pb2, name).DESCRIPTOR, official(name, module).DESCRIPTOR, set()) == []


def test_the_data_types_have_the_official_numbers() -> None:
    from tensorflow.core.framework import types_pb2

    for name, number in serving_pb2.DataType.items():
        assert types_pb2.DataType.Value(name) == number


def test_a_predict_request_reads_the_same_in_the_official_classes_and_back() -> None:
    import tensorflow as tf

    inputs = {
        "item": tensors.strings(["a", "é", ""]),
        "tags": tensors.string_lists([["x", "y"], [], ["z"]]),
        "age": tensors.floats([0.5, -1.0, 3e9]),
        "seen": tensors.integers([1, -(2**62), 0]),
    }
    ours = requests.predict(requests.spec("news", label="live"), inputs, ["score"])
    theirs = official("PredictRequest", "predict_pb2").FromString(ours.SerializeToString())
    assert theirs.model_spec.version_label == "live"
    assert tf.make_ndarray(theirs.inputs["item"]).tolist() == [b"a", "é".encode(), b""]
    assert tf.make_ndarray(theirs.inputs["tags"]).tolist() == [[b"x", b"y"], [b"", b""], [b"z", b""]]
    assert tf.make_ndarray(theirs.inputs["age"]).tolist() == [0.5, -1.0, 3e9]
    assert tf.make_ndarray(theirs.inputs["seen"]).tolist() == [1, -(2**62), 0]
    again = serving_pb2.PredictRequest.FromString(theirs.SerializeToString(deterministic=True))
    assert again == ours


@pytest.mark.parametrize("repeat", [True, False])
def test_an_official_answer_is_read_in_either_form_of_a_tensor(repeat: bool) -> None:
    import tensorflow as tf

    values = [0.25, 0.25, 0.25] if repeat else [0.25, 0.5, 0.75]
    theirs = official("PredictResponse", "predict_pb2")()
    theirs.outputs["content"].CopyFrom(tf.make_tensor_proto(values, dtype=tf.float32))
    vals = theirs.outputs["vals"]
    vals.dtype = 1
    vals.tensor_shape.dim.add().size = 3
    vals.float_val.extend(values[:1] if repeat else values)
    theirs.outputs["sequence"].CopyFrom(tf.make_tensor_proto([7, 7, 7], dtype=tf.int64))
    theirs.model_spec.version.value = 12
    ours = serving_pb2.PredictResponse.FromString(theirs.SerializeToString())
    assert tensors.floats_of(ours.outputs["content"]) == values
    assert tensors.floats_of(ours.outputs["vals"]) == values
    assert tensors.integers_of(ours.outputs["sequence"]) == [7, 7, 7]
    assert ours.model_spec.version.value == 12


def test_a_reload_request_reads_the_same_in_the_official_classes() -> None:
    ours = requests.reload("news", "/models/news", versions=[3, 4], labels={"live": 3})
    theirs = official("ReloadConfigRequest", "model_management_pb2").FromString(ours.SerializeToString())
    config = theirs.config.model_config_list.config[0]
    assert (config.name, config.base_path, config.model_platform) == ("news", "/models/news", "tensorflow")
    assert list(config.model_version_policy.specific.versions) == [3, 4]
    assert dict(config.version_labels) == {"live": 3}


def test_the_committed_classes_are_those_of_the_proto_files(tmp_path: Path) -> None:
    for fresh in generate.generate(tmp_path):
        committed = generate.HERE / fresh.name
        assert committed.read_text() == fresh.read_text(), (
            f"{committed.name} is stale: python -m serving.protocol.generate"
        )


def test_the_protocol_leaves_tensorflow_alone() -> None:
    code = "import sys, serving.protocol.requests, serving.protocol.fake; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
