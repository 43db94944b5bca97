"""gRPC: Predict, Classify, Regress, MultiInference, metadata, status (cases G)."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    input_pb2,
    predict_pb2,
    regression_pb2,
)

from tests.model_server.conftest import Served, failure, predict_request
from tests.model_server.models import CLASSIFY, PREDICT, REGRESS


def _fill(request: Any, *, signature: str, examples: int = 1, name: str = "m") -> Any:
    request.model_spec.name = name
    request.model_spec.signature_name = signature
    _examples(request.input, examples)
    return request


def _examples(into: input_pb2.Input, count: int) -> None:
    for _ in range(count):
        example = into.example_list.examples.add()
        example.features.feature["x"].float_list.value.append(2.0)


def test_predict_answers_in_typed_fields(served: Served) -> None:  # G-01
    answer = served.predict("m", x=[2.0])
    assert list(answer.outputs) == ["y"]
    assert list(answer.outputs["y"].float_val) == [3.0]
    assert answer.outputs["y"].tensor_content == b""
    spec = answer.model_spec
    assert (spec.name, spec.signature_name, spec.version.value) == ("m", "serving_default", 123)


def test_a_label_is_honoured_and_not_echoed(served: Served) -> None:  # G-01
    assert served.predict("m", label="L", x=[2.0]).model_spec.WhichOneof("version_choice") == "version"


@pytest.mark.parametrize(
    ("fields", "back"),
    [
        pytest.param({"float_val": [2.0, 4.0]}, [3.0, 4.0], id="G-02-typed"),
        pytest.param({"float_val": [2.0]}, [3.0, 3.0], id="G-02-broadcast"),
        pytest.param({"float_val": []}, [2.0, 2.0], id="G-02-none-is-zero"),
        pytest.param({"tensor_content": b"\x00\x00\x00\x40\x00\x00\x80\x40"}, [3.0, 4.0], id="G-02-content"),
    ],
)
def test_inputs_in_every_form_are_read(served: Served, fields: dict[str, Any], back: list[float]) -> None:
    request = predict_request("m")
    tensor = request.inputs["x"]
    tensor.dtype = tf.float32.as_datatype_enum
    tensor.tensor_shape.dim.add(size=2)
    for name, value in fields.items():
        if isinstance(value, bytes):
            setattr(tensor, name, value)
        else:
            getattr(tensor, name).extend(value)
    assert list(served.prediction.Predict(request).outputs["y"].float_val) == back


@pytest.mark.parametrize("shape", [[3], [], [3, 1]], ids=["G-13-vector", "G-13-scalar", "G-13-matrix"])
def test_the_shape_is_the_graphs_business(served: Served, shape: list[int]) -> None:
    answer = served.predict("m", x=tf.ones(shape).numpy())
    assert [dim.size for dim in answer.outputs["y"].tensor_shape.dim] == shape


@pytest.mark.parametrize(
    ("request_of", "code", "text"),
    [
        pytest.param(predict_pb2.PredictRequest, "INVALID_ARGUMENT", "Missing ModelSpec", id="G-03"),
        pytest.param(lambda: predict_request(""), "INVALID_ARGUMENT", "ModelSpec has no name specified.", id="G-04"),
        pytest.param(
            lambda: predict_request("foo", x=[1.0]),
            "NOT_FOUND",
            "Servable not found for request: Latest(foo)",
            id="G-05-model",
        ),
        pytest.param(
            lambda: predict_request("foo", version=9, x=[1.0]),
            "NOT_FOUND",
            "Servable not found for request: Specific(foo, 9)",
            id="G-05-version",
        ),
        pytest.param(
            lambda: predict_request("m", label="X", x=[1.0]),
            "INVALID_ARGUMENT",
            "Unrecognized servable version label: X",
            id="G-06",
        ),
        pytest.param(
            lambda: predict_request("m", signature="nope", x=[1.0]),
            "FAILED_PRECONDITION",
            'Serving signature key "nope" not found.',
            id="G-07",
        ),
        pytest.param(
            lambda: predict_request("m", unknown_key1=[1.0], unknown_key2=[1.0]),
            "INVALID_ARGUMENT",
            "input size does not match signature: 2!=1 len({unknown_key1,unknown_key2}) != len({x}). "
            "Sent extra: {unknown_key1,unknown_key2}. Missing but required: {x}.",
            id="G-08",
        ),
        pytest.param(
            lambda: predict_request("m", z=[1.0]),
            "INVALID_ARGUMENT",
            "Signature input alias: x(feed name: x:0) not found in request and no default value provided. Inputs "
            "expected to be in the request {z}, or default input alias set: ",
            id="G-09",
        ),
        pytest.param(
            lambda: predict_request("m", x=[1.0], output_filter=["nope"]),
            "INVALID_ARGUMENT",
            "output tensor alias not found in signature: nope Outputs expected to be in the set {y}.",
            id="G-15",
        ),
        pytest.param(
            lambda: predict_request("m", x=[1.0], output_filter=["y", "y"]),
            "INVALID_ARGUMENT",
            "duplicate output tensor alias: y",
            id="G-16",
        ),
    ],
)
def test_a_request_that_does_not_fit_is_refused(served: Served, request_of: Any, code: str, text: str) -> None:
    assert failure(lambda: served.prediction.Predict(request_of())) == (code, text)


def test_another_type_is_refused(served: Served) -> None:  # G-12
    code, text = failure(lambda: served.predict("m", x=tf.ones([1], tf.float64).numpy()))
    assert code == "INVALID_ARGUMENT"
    assert "Expects arg[0] to be float but double is provided" in text


def test_defaults_fill_what_was_not_sent(served: Served) -> None:  # G-10
    answer = served.predict("multi", signature="defaulted", s=["x"])
    assert list(answer.outputs["double"].float_val) == [14.0]


@pytest.mark.parametrize("content", [b"\0\0\0\0", b"\0" * 12], ids=["G-11-short", "G-11-long"])
def test_a_tensor_that_is_none_is_refused(served: Served, content: bytes) -> None:
    request = predict_request("m")
    request.inputs["x"].dtype = tf.float32.as_datatype_enum
    request.inputs["x"].tensor_shape.dim.add(size=2)
    request.inputs["x"].tensor_content = content
    assert failure(lambda: served.prediction.Predict(request)) == ("INVALID_ARGUMENT", "tensor parsing error: x")


def test_a_filter_chooses_outputs(served: Served) -> None:  # G-14
    answer = served.predict("multi", a=[1.0], s=["x"], output_filter=["text"])
    assert list(answer.outputs) == ["text"]
    assert list(answer.outputs["text"].string_val) == [b"x!"]


def test_classify_and_regress(served: Served) -> None:  # G-17
    classified = served.prediction.Classify(
        _fill(classification_pb2.ClassificationRequest(), signature="classify_x_to_y")
    )
    assert classified.result.classifications[0].classes[0].score == 3.0
    regressed = served.prediction.Regress(_fill(regression_pb2.RegressionRequest(), signature="regress_x_to_y"))
    assert regressed.result.regressions[0].value == 3.0
    for answer, signature in ((classified, "classify_x_to_y"), (regressed, "regress_x_to_y")):
        spec = answer.model_spec
        assert (spec.name, spec.signature_name, spec.version.value) == ("m", signature, 123)


def test_an_empty_input_is_refused(served: Served) -> None:  # G-18
    request = _fill(classification_pb2.ClassificationRequest(), signature="classify_x_to_y", examples=0)
    assert failure(lambda: served.prediction.Classify(request)) == ("INVALID_ARGUMENT", "Input is empty.")


def _multi(*tasks: tuple[str, str, str]) -> Any:
    request = inference_pb2.MultiInferenceRequest()
    _examples(request.input, 1)
    for name, signature, method in tasks:
        task = request.tasks.add(method_name=method)
        task.model_spec.name = name
        task.model_spec.signature_name = signature
    return request


def test_multi_inference_answers_in_task_order(served: Served) -> None:  # G-19
    request = _multi(("m", "regress_x_to_y", REGRESS), ("m", "classify_x_to_y", CLASSIFY))
    regressed, classified = served.prediction.MultiInference(request).results
    assert regressed.regression_result.regressions[0].value == 3.0
    assert classified.classification_result.classifications[0].classes[0].score == 3.0
    assert regressed.model_spec.signature_name == "regress_x_to_y"
    assert classified.model_spec.version.value == 123


@pytest.mark.parametrize(
    ("tasks", "code", "text"),
    [
        pytest.param(
            [("m", "regress_x_to_y", REGRESS), ("h2", "classify_x_to_y", CLASSIFY)],
            "INVALID_ARGUMENT",
            "All ModelSpecs in a MultiInferenceRequest must access the same model name.",
            id="G-20-names",
        ),
        pytest.param(
            [("m", "regress_x_to_y", REGRESS)] * 2,
            "INVALID_ARGUMENT",
            "Duplicate evaluation of signature: regress_x_to_y",
            id="G-20-twice",
        ),
        pytest.param(
            [("m", "regress_x_to_y", REGRESS), ("", "classify_x_to_y", CLASSIFY)],
            "INVALID_ARGUMENT",
            "Found ModelSpec with an empty model name.",
            id="G-20-empty",
        ),
        pytest.param(
            [("m", "serving_default", PREDICT)],
            "UNIMPLEMENTED",
            "Unsupported signature method_name: tensorflow/serving/predict",
            id="G-20-method",
        ),
        pytest.param(
            [("m", "nope", REGRESS)],
            "INVALID_ARGUMENT",
            "Requested signature not found in model graph: nope",
            id="G-20-signature",
        ),
        pytest.param([], "INVALID_ARGUMENT", "ModelSpec has no name specified.", id="G-21"),
    ],
)
def test_tasks_that_do_not_fit_are_refused(
    served: Served, tasks: list[tuple[str, str, str]], code: str, text: str
) -> None:
    assert failure(lambda: served.prediction.MultiInference(_multi(*tasks))) == (code, text)


def _metadata(name: str | None, *fields: str) -> Any:
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=fields)
    if name is not None:
        request.model_spec.name = name
    return request


def test_metadata_is_a_packed_signature_map(served: Served) -> None:  # G-22
    answer = served.prediction.GetModelMetadata(_metadata("m", "signature_def"))
    spec = answer.model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("m", 123, "")
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert answer.metadata["signature_def"].Unpack(signatures)
    assert "serving_default" in signatures.signature_def


@pytest.mark.parametrize(
    ("request_of", "text"),
    [
        pytest.param(
            _metadata("m"), "GetModelMetadataRequest must specify at least one metadata_field", id="G-23-none"
        ),
        pytest.param(_metadata("m", "X"), "Metadata field X is not supported", id="G-23-unknown"),
        pytest.param(_metadata(None, "signature_def"), "Missing ModelSpec", id="G-23-spec"),
    ],
)
def test_metadata_that_is_not_there(served: Served, request_of: Any, text: str) -> None:
    assert failure(lambda: served.prediction.GetModelMetadata(request_of)) == ("INVALID_ARGUMENT", text)


def _status(name: str | None = None, *, version: int | None = None, label: str = "") -> Any:
    request = get_model_status_pb2.GetModelStatusRequest()
    if name is not None:
        request.model_spec.name = name
    if version is not None:
        request.model_spec.version.value = version
    if label:
        request.model_spec.version_label = label
    return request


@pytest.mark.parametrize(
    "request_of",
    [
        pytest.param(_status("m"), id="G-24"),
        pytest.param(_status("m", version=123), id="G-24-version"),
        pytest.param(_status("m", label="unheard"), id="G-25"),
    ],
)
def test_status(served: Served, request_of: Any) -> None:
    (entry,) = served.model.GetModelStatus(request_of).model_version_status
    assert (entry.version, entry.state, entry.status.error_code) == (123, 30, 0)


@pytest.mark.parametrize(
    ("request_of", "code", "text"),
    [
        pytest.param(_status(), "INVALID_ARGUMENT", "Missing ModelSpec", id="G-24-spec"),
        pytest.param(_status(""), "NOT_FOUND", "Could not find any versions of model ", id="G-24-empty"),
        pytest.param(_status("foo"), "NOT_FOUND", "Could not find any versions of model foo", id="G-24-unknown"),
        pytest.param(
            _status("m", version=9), "NOT_FOUND", "Could not find version 9 of model m", id="G-24-version-unknown"
        ),
    ],
)
def test_status_that_is_not_there(served: Served, request_of: Any, code: str, text: str) -> None:
    assert failure(lambda: served.model.GetModelStatus(request_of)) == (code, text)


def test_the_health_service_is_not_there_by_default(served: Served) -> None:  # G-27
    check = served.channel.unary_unary("/grpc.health.v1.Health/Check")
    code, _ = failure(lambda: check(b""))
    assert code == "UNIMPLEMENTED"


def test_messages_may_be_large(served: Served) -> None:
    answer = served.predict("m", x=tf.ones([2_000_000]).numpy())  # 8 MB: Python's default limit is 4
    assert len(answer.outputs["y"].float_val) == 2_000_000


def test_a_long_error_is_cut(served: Served) -> None:
    _, text = failure(lambda: served.predict("m", signature="s" * 3000, x=[1.0]))
    assert len(text) == 1024
    assert text.endswith("...TRUNCATED")


def test_bytes_that_are_no_request_are_refused(served: Served) -> None:
    call = served.channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
    code, text = failure(lambda: call(b"\xff\xff"))
    assert (code, text) == ("INTERNAL", "Exception deserializing request!")


def test_a_model_with_reference_variables_is_served(served: Served) -> None:
    first = served.predict("counter", signature="incr_counter").outputs["output"].float_val[0]
    answer = served.predict("counter", signature="incr_counter_by", delta=2.0)
    assert answer.outputs["output"].float_val[0] == first + 2
    assert isinstance(served.channel, grpc.Channel)
