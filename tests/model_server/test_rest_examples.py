"""REST classify and regress (cases C)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.model_server.conftest import Served


def _post(served: Served, action: str, signature: str, **body: Any) -> Any:
    return served.http("POST", f"/v1/models/m:{action}", {"signature_name": signature, **body})


def test_classify_answers_labels_and_scores(served: Served) -> None:  # C-01
    reply = _post(served, "classify", "classify_x_to_y", examples=[{"x": 2.0}])
    assert (reply.code, reply.json) == (200, {"results": [[["", 3.0]]]})


def test_regress_answers_numbers(served: Served) -> None:  # C-02
    reply = _post(served, "regress", "regress_x_to_y", examples=[{"x": 2.0}, {"x": [4.0]}])
    assert (reply.code, reply.json) == (200, {"results": [3.0, 4.0]})


def test_a_context_is_merged_into_every_example(served: Served) -> None:  # C-03
    reply = _post(served, "regress", "regress_x_to_y", context={"x": 2.0}, examples=[{}, {"x": 4.0}])
    assert reply.json == {"results": [3.0, 4.0]}


def test_the_method_name_is_not_checked(served: Served) -> None:  # C-12
    reply = _post(served, "classify", "labelled", examples=[{"x": 2.0}])
    assert reply.json == {"results": [[["a", 3.0], ["b", -3.0]]]}


@pytest.mark.parametrize(
    ("examples", "text"),
    [
        pytest.param(
            [{"names": [10, 10.0]}], "Unexpected element type in feature: names expecting type: int64", id="C-05"
        ),
        pytest.param([{"names": None}], "Feature: names has element with unexpected JSON type: Null", id="C-06-null"),
        pytest.param([{"names": [[1]]}], "Feature: names has element with unexpected JSON type: Array", id="C-06-list"),
        pytest.param(
            [{"names": {"a": 1}}], "Feature: names has element with unexpected JSON type: Object", id="C-06-object"
        ),
        pytest.param([{"names": 2**63}], "Feature: names has uint64_t element. Only int64_t is supported.", id="C-07"),
        pytest.param({"x": 1}, "Expecting 'examples' value to be an list/array", id="C-08-object"),
        pytest.param([], "'examples' value is an empty array", id="C-08-empty"),
        pytest.param([[1.0]], "Example must be JSON object but got JSON Array", id="C-09"),
    ],
)
@pytest.mark.parametrize("action", ["classify", "regress"])
def test_examples_that_do_not_fit_are_refused(served: Served, action: str, examples: Any, text: str) -> None:
    reply = _post(served, action, f"{action}_x_to_y", examples=examples)
    assert reply.code == 400
    assert text in reply.error


def test_a_context_that_is_no_object_is_refused(served: Served) -> None:  # C-09
    reply = _post(served, "regress", "regress_x_to_y", context=[1], examples=[{"x": 1.0}])
    assert (reply.code, reply.error) == (400, "Example must be JSON object but got JSON Array")


@pytest.mark.parametrize("action", ["classify", "regress"])
def test_examples_must_be_there(served: Served, action: str) -> None:  # C-08
    reply = _post(served, action, f"{action}_x_to_y")
    assert "When method is classify, key 'examples' is expected and was not found" in reply.error


@pytest.mark.parametrize(
    "feature", [1.5, [1.5], True, 3, "text", {"b64": "aGk="}, [{"b64": "aGk="}, "x"]], ids=lambda value: str(value)
)
def test_every_kind_of_feature_is_taken(served: Served, feature: Any) -> None:  # C-04
    reply = _post(served, "regress", "regress_x_to_y", examples=[{"x": 2.0, "other": feature}])
    assert reply.json == {"results": [3.0]}


@pytest.mark.parametrize(
    ("action", "signature", "text"),
    [
        pytest.param("classify", "nope", "No signature was found with the name: nope", id="C-10-classify"),
        pytest.param("regress", "nope", "No signature was found with the name: nope", id="C-10-regress"),
        pytest.param("classify", "", "No classification inputs found in SignatureDef: ", id="C-11-classify"),
        pytest.param("regress", "", "No regression inputs found in SignatureDef: ", id="C-11-regress"),
        pytest.param("regress", "regress_x2_to_y3", "Expects arg[0] to be float but string is provided", id="C-13"),
        pytest.param(
            "regress",
            "wide",
            "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got [1,3]",
            id="C-14",
        ),
    ],
)
def test_a_signature_that_does_not_fit_is_refused(served: Served, action: str, signature: str, text: str) -> None:
    reply = _post(served, action, signature, examples=[{"x": 2.0}])
    assert reply.code == 400
    assert text in reply.error
