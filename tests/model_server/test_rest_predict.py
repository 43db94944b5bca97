"""REST predict: what is read, what is refused and in what words, how answers look (cases P)."""

from __future__ import annotations

import math
from typing import Any

import pytest

from tests.model_server.conftest import Served

NOT_FLOAT = "is not of expected type: float"


def _post(served: Served, model: str, body: Any) -> Any:
    return served.http("POST", f"/v1/models/{model}:predict", body)


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        pytest.param({"instances": [2.0, 3.0, 4.0]}, {"predictions": [3.0, 3.5, 4.0]}, id="P-01"),
        pytest.param({"inputs": [2.0, 3.0, 4.0]}, {"outputs": [3.0, 3.5, 4.0]}, id="P-02"),
        pytest.param({"instances": [[1.0, 2.0], [3.0, 4.0]]}, {"predictions": [[2.5, 3.0], [3.5, 4.0]]}, id="P-03"),
        pytest.param(
            {"signature_name": "serving_default", "instances": [2.0]}, {"predictions": [3.0]}, id="P-04-signature"
        ),
        pytest.param({"instances": [{"x": 2.0}, {"x": 3.0}]}, {"predictions": [3.0, 3.5]}, id="P-05"),
        pytest.param({"inputs": {"x": [2.0]}}, {"outputs": [3.0]}, id="P-06"),
        pytest.param({"inputs": 2.0}, {"outputs": 3.0}, id="P-07"),
        pytest.param({"instances": [2.0], "who": {"knows": [None]}}, {"predictions": [3.0]}, id="P-15"),
        pytest.param(b'{"instances":[2.0]} junk', {"predictions": [3.0]}, id="P-19"),
        pytest.param(b'\xef\xbb\xbf{"instances":[2.0]}', {"predictions": [3.0]}, id="P-20"),
        pytest.param({"inputs": {"x": [2.0], "zz": 1}}, {"outputs": [3.0]}, id="P-33"),
        pytest.param({"instances": [1435774380]}, {"predictions": [717887168.0]}, id="P-36"),
        pytest.param({"instances": [2]}, {"predictions": [3.0]}, id="P-36-small"),
        pytest.param(b'{"instances":[2.0], "instances":[9.0]}', {"predictions": [3.0]}, id="first-key-counts"),
        pytest.param(
            b'{"a": ' + b"[" * 500_000 + b"]" * 500_000 + b', "instances":[2.0]}', {"predictions": [3.0]}, id="P-54"
        ),
    ],
)
def test_half_plus_two_answers(served: Served, body: Any, answer: Any) -> None:
    reply = _post(served, "m", body)
    assert (reply.code, reply.json) == (200, answer)


@pytest.mark.parametrize(
    "where", [pytest.param("/versions/123", id="P-04-version"), pytest.param("/labels/L", id="P-04-label")]
)
def test_a_version_or_a_label_may_be_named(served: Served, where: str) -> None:
    assert served.http("POST", f"/v1/models/m{where}:predict", {"instances": [2.0]}).json == {"predictions": [3.0]}


@pytest.mark.parametrize(
    ("body", "text"),
    [
        pytest.param(b"", "JSON Parse error: The document is empty", id="P-16"),
        pytest.param(b"  \n ", "JSON Parse error: The document is empty", id="P-16-blank"),
        pytest.param(b"instances = [1, 2]", "JSON Parse error: Invalid value. at offset: 0", id="P-17"),
        pytest.param([1, 2], "JSON Value: [1,2] Is not object", id="P-18-list"),
        pytest.param("x", 'JSON Value: "x" Is not object', id="P-18-string"),
        pytest.param(
            {"signature_name": "nope", "instances": [1.0]},
            'Serving signature name: "nope" not found in signature def',
            id="P-22",
        ),
        pytest.param({"other": 1}, "Missing 'inputs' or 'instances' key", id="P-24"),
        pytest.param({"inputs": {"y": [1.0]}}, "Missing named input: x in 'inputs' object.", id="P-32"),
        pytest.param({"instances": [[1, 2], [3, 4], [5, 6, 7]]}, "Expecting tensor size: 2 but got: 3", id="P-40"),
        pytest.param({"instances": [[1, 2], [3, 4], [[5, 6]]]}, "Expecting shape [2] but got: [1,2]", id="P-41"),
        pytest.param({"instances": [1, [1]]}, "Expecting shape [] but got: [1]", id="P-41-scalar"),
        pytest.param(
            {"inputs": [[1, 2], [3]]}, "Encountered list at unexpected size: 1 at level: 1 expected size: 2", id="P-42"
        ),
        pytest.param(
            {"inputs": [[1], 2]},
            "JSON Value: 2 found at incorrect level: 2 in the JSON DOM. Expected at level: 2",
            id="P-43",
        ),
        pytest.param({"inputs": [1, [2]]}, "Encountered list at unexpected level: 1 expected < 1", id="P-43-list"),
        pytest.param(
            {"instances": [{"x": 1.0}, [2.0]]}, "Expecting object but got list at item 1 of input list", id="P-44"
        ),
        pytest.param(
            {"instances": [1.0, {"x": 2.0}]},
            "Expecting value/list but got object at item 1 of input list",
            id="P-44-plain",
        ),
        pytest.param(
            b'{"instances":[1e400]}',
            "JSON Parse error: Number too big to be stored in double. at offset: 14",
            id="P-53",
        ),
        pytest.param(
            b'{"instances":[1.0',
            "JSON Parse error: Missing a comma or ] after an array element. at offset: 17",
            id="P-17-open",
        ),
    ],
)
def test_a_request_that_does_not_fit_is_refused_in_these_words(served: Served, body: Any, text: str) -> None:
    if body == "x":
        body = b'"x"'
    reply = _post(served, "m", body)
    assert reply.code == 400
    assert text in reply.error


@pytest.mark.parametrize(
    ("body", "text"),
    [
        pytest.param(
            {"signature_name": 5, "instances": [1.0]}, "'signature_name' key must be a string value.", id="P-21"
        ),
        pytest.param(
            b'{"signature_name": ' + b"[" * 500_000 + b"]" * 500_000 + b"}",
            "must be a string value.",
            id="P-54-signature",
        ),
        pytest.param(
            {"instances": [1.0], "inputs": [1.0]},
            "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist ",
            id="P-25",
        ),
        pytest.param({"instances": {"x": 1}}, "Expecting 'instances' to be an list/array", id="P-26"),
        pytest.param({"instances": 1}, "Expecting 'instances' to be an list/array", id="P-26-number"),
        pytest.param({"instances": []}, "No values in 'instances' array", id="P-27"),
        pytest.param(
            {"instances": ["x", "y"]},
            f"Failed to process element: 0 of 'instances' list. Error: INVALID_ARGUMENT: JSON Value: \"x\" Type: String {NOT_FLOAT}",
            id="P-34",
        ),
        pytest.param({"instances": [True]}, f"JSON Value: true Type: True {NOT_FLOAT}", id="P-35-true"),
        pytest.param({"instances": [None]}, f"JSON Value: null Type: Null {NOT_FLOAT}", id="P-35-null"),
        pytest.param({"instances": [{"b64": "aGk="}]}, f"Type: Object {NOT_FLOAT}", id="P-48"),
        pytest.param({"instances": ["NaN"]}, f'JSON Value: "NaN" Type: String {NOT_FLOAT}', id="P-50-text"),
        pytest.param(
            {"instances": [1.0], "signature_name": ["x" * 5000]}, "...TRUNCATED not formatted correctly", id="P-55"
        ),
    ],
)
def test_the_error_names_the_value(served: Served, body: Any, text: str) -> None:
    reply = _post(served, "m", body)
    assert reply.code == 400
    assert text in reply.error
    assert len(reply.error) < 600


@pytest.mark.parametrize(
    ("path", "code", "text"),
    [
        pytest.param("foo", 404, "Servable not found for request: Latest(foo)", id="P-56"),
        pytest.param("m/versions/50", 404, "Servable not found for request: Specific(m, 50)", id="P-57"),
        pytest.param("m/labels/nope", 400, "Unrecognized servable version label: nope", id="P-58"),
    ],
)
def test_a_model_that_is_not_there(served: Served, path: str, code: int, text: str) -> None:
    reply = _post(served, path, {"instances": [1.0]})
    assert (reply.code, reply.error) == (code, text)


def test_json_is_read_before_the_model_is_looked_up(served: Served) -> None:  # P-59, C-15
    for action in ("predict", "classify", "regress"):
        reply = served.http("POST", f"/v1/models/foo:{action}", b"{")
        assert reply.code == 400
        assert "JSON Parse error" in reply.error


def test_a_signature_without_inputs_cannot_be_called(served: Served) -> None:  # P-23
    reply = _post(served, "counter", {"signature_name": "get_counter", "inputs": {}})
    assert (reply.code, reply.error) == (400, "Failed to get input map for signature: get_counter")


class TestSeveralTensors:
    """MULTI."""

    def test_rows_are_objects(self, served: Served) -> None:  # P-10
        reply = _post(served, "multi", {"instances": [{"a": 1.0, "s": "x"}, {"s": "y", "a": 2.0}]})
        assert reply.json == {"predictions": [{"double": 2.0, "text": "x!"}, {"double": 4.0, "text": "y!"}]}

    def test_columns_are_one_object(self, served: Served) -> None:  # P-11
        reply = _post(served, "multi", {"inputs": {"a": [1.0, 2.0], "s": ["x", "y"]}})
        assert reply.json == {"outputs": {"double": [2.0, 4.0], "text": ["x!", "y!"]}}

    @pytest.mark.parametrize(
        ("body", "text"),
        [
            pytest.param(
                {"instances": [1.0]},
                "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
                "tensorinfo_map",
                id="P-28",
            ),
            pytest.param(
                {"inputs": [1.0]},
                "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
                "tensorinfo_map",
                id="P-29",
            ),
            pytest.param({"inputs": {"s": ["x"]}}, "Missing named input: a in 'inputs' object.", id="P-32-multi"),
        ],
    )
    def test_inputs_must_be_named(self, served: Served, body: Any, text: str) -> None:
        reply = _post(served, "multi", body)
        assert (reply.code, reply.error) == (400, text)

    def test_a_row_without_an_input_is_refused(self, served: Served) -> None:  # P-30
        reply = _post(served, "multi", {"instances": [{"a": 1.0}]})
        assert reply.code == 400
        assert reply.error.startswith("Failed to process element: 0 of 'instances' list. JSON object: {")
        assert reply.error.endswith("keys must be equal to: a,s")

    def test_a_row_with_a_strange_key_is_refused(self, served: Served) -> None:  # P-31
        reply = _post(served, "multi", {"instances": [{"a": 1.0, "s": "x", "zz": 1}]})
        assert reply.code == 400
        assert reply.error == (
            "Failed to process element: 0 key: zz of 'instances' list. Error: INVALID_ARGUMENT: JSON object: does not "
            "have named input: zz"
        )

    def test_batch_sizes_must_agree_in_rows_but_not_in_columns(self, served: Served) -> None:  # P-12, P-13
        rows = _post(served, "multi", {"signature_name": "uneven", "instances": [1.0, 2.0]})
        assert rows.code == 400
        assert "has inconsistent batch size: " in rows.error
        columns = _post(served, "multi", {"signature_name": "uneven", "inputs": [1.0, 2.0]})
        assert columns.json == {"outputs": {"all": [1.0, 2.0], "one": [1.0]}}


class TestOddOutputs:
    """SCALAR, EMPTY, NANS, and operations that fail."""

    def test_a_scalar_has_no_rows(self, served: Served) -> None:  # P-08
        rows = _post(served, "odd", {"signature_name": "scalar", "instances": [1.0]})
        assert (rows.code, rows.error) == (400, "Tensor name: y has no shape information ")
        assert _post(served, "odd", {"signature_name": "scalar", "inputs": [1.0, 2.0]}).json == {"outputs": 3.0}

    def test_an_empty_batch_is_an_empty_list(self, served: Served) -> None:  # P-14
        assert _post(served, "odd", {"signature_name": "empty", "instances": [1.0]}).json == {"predictions": []}

    def test_numbers_that_json_has_not_are_bare_words(self, served: Served) -> None:  # P-51
        reply = _post(served, "odd", {"instances": [0.0, 1.0, -1.0]})
        assert b"[NaN, Infinity, -Infinity]" in reply.body.replace(b"\n        ", b" ")

    def test_an_operation_that_fails_is_the_answer(self, served: Served) -> None:  # P-60
        reply = _post(served, "odd", {"signature_name": "fails", "instances": [1.0]})
        assert reply.code == 400
        assert "Shape of tensor" in reply.error

    @pytest.mark.parametrize("word", ["NaN", "-NaN", "Inf", "-Inf", "Infinity", "-Infinity"])
    def test_numbers_that_json_has_not_are_read(self, served: Served, word: str) -> None:  # P-50
        reply = _post(served, "m", b'{"instances":[' + word.encode() + b"]}")
        assert reply.code == 200
        value = reply.json["predictions"][0]
        assert math.isnan(value) if "NaN" in word else value == math.copysign(math.inf, -1 if "-" in word else 1)


class TestTypes:
    """One dtype at a time."""

    @pytest.mark.parametrize(
        ("kind", "sent", "back"),
        [
            pytest.param(
                "float32", b"[0.2, 9000000, 3e-5, 7, 1e39]", [0.2, 9e6, 3e-5, 7.0, math.inf], id="P-37-P-52-float"
            ),
            pytest.param("float64", b"[0.1, 12345678.9, 1e-300]", [0.1, 12345678.9, 1e-300], id="P-52-double"),
            pytest.param("int32", b"[-2147483648, 2147483647]", [-(2**31), 2**31 - 1], id="int32"),
            pytest.param("int8", b"[300]", [44], id="P-38-wraps"),
            pytest.param("uint8", b"[255]", [255], id="uint8"),
            pytest.param("int16", b"[-5]", [-5], id="int16"),
            pytest.param("int64", b"[9223372036854775807]", [2**63 - 1], id="int64"),
            pytest.param("uint32", b"[4294967295]", [2**32 - 1], id="uint32"),
            pytest.param("uint64", b"[18446744073709551615]", [2**64 - 1], id="uint64"),
            pytest.param("bool", b"[true, false]", [True, False], id="bool"),
            pytest.param("string", '["\\u00e9", "ü", "a\\"b"]'.encode(), ["é", "ü", 'a"b'], id="string"),
            pytest.param("string", b'[{"b64":"aGVsbG8="}, "x"]', ["hello", "x"], id="P-45"),
            pytest.param("string", b'[{"b64":"aGVsbG8"}]', ["hello"], id="P-47-unpadded"),
            pytest.param("bytes", b'[{"b64":"AP8="}]', [{"b64": "AP8="}], id="P-49"),
        ],
    )
    def test_values_come_back(self, served: Served, kind: str, sent: bytes, back: list[Any]) -> None:
        body = b'{"signature_name": "' + kind.encode() + b'", "instances": ' + sent + b"}"
        reply = _post(served, "types", body)
        assert (reply.code, reply.json) == (200, {"predictions": back})

    @pytest.mark.parametrize(
        ("kind", "sent", "text"),
        [
            pytest.param(
                "int32", b"[1.0]", "JSON Value: 1.0 Type: Number is not of expected type: int32", id="P-35-int"
            ),
            pytest.param("int64", b"[1.5]", "Type: Number is not of expected type: int64", id="P-35-int64"),
            pytest.param("bool", b"[1]", "Type: Number is not of expected type: bool", id="P-35-bool"),
            pytest.param("string", b"[1]", "Type: Number is not of expected type: string", id="P-35-string"),
            pytest.param("int32", b"[2147483648]", "Type: Number is not of expected type: int32", id="P-38"),
            pytest.param("string", b'[{"b64": 5}]', "keys must be equal to: x", id="P-46-row"),
            pytest.param("string", b'[{"b64": "a-_b"}]', "Unable to base64 decode", id="P-47"),
            pytest.param(
                "string", b'[[{"b64": "aA==", "x": 1}]]', "not formatted correctly for base64 data", id="P-46"
            ),
            pytest.param("string", b'[[{"b64": 5}]]', "not formatted correctly for base64 data", id="P-46-number"),
        ],
    )
    def test_values_of_another_type_are_refused(self, served: Served, kind: str, sent: bytes, text: str) -> None:
        body = b'{"signature_name": "' + kind.encode() + b'", "instances": ' + sent + b"}"
        reply = _post(served, "types", body)
        assert reply.code == 400
        if kind == "string" and text.startswith("keys"):
            assert "does not have named input: b64" in reply.error
        else:
            assert text in reply.error

    @pytest.mark.parametrize(
        ("kind", "name"), [("float16", "half"), ("bfloat16", "bfloat16"), ("complex64", "complex64")]
    )
    def test_types_that_json_has_not_are_not_implemented(self, served: Served, kind: str, name: str) -> None:  # P-39
        reply = _post(served, "types", {"signature_name": kind, "inputs": [1.0]})
        assert (reply.code, reply.error) == (501, f"Conversion of JSON Value: 1.0 to type: {name}")

    def test_bytes_that_are_no_utf8_pass_through(self, served: Served) -> None:  # P-49
        reply = _post(served, "types", b'{"signature_name": "string", "instances": ["\xff\xfe"]}')
        assert b'"\xff\xfe"' in reply.body

    def test_whole_numbers_keep_a_point(self, served: Served) -> None:  # P-52
        reply = _post(served, "types", {"signature_name": "float32", "instances": [7.0, 0.2, 16777217, 9e6]})
        assert reply.body.split(b"[")[1].split(b"]")[0].replace(b"\n       ", b"") == b"7.0, 0.2, 16777216.0, 9e+06"


def test_the_answer_names_no_version(served: Served) -> None:  # P-61
    assert set(_post(served, "m", {"instances": [2.0]}).json) == {"predictions"}
