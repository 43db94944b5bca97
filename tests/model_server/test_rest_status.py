"""REST status and metadata (cases S and M). What needs versions that come and go is in test_versions.py."""

from __future__ import annotations

from typing import Any

import pytest

from tests.model_server.conftest import Served

AVAILABLE: dict[str, Any] = {
    "model_version_status": [
        {"version": "123", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    ]
}


@pytest.mark.parametrize(
    "path",
    [
        pytest.param("m", id="S-01"),
        pytest.param("m/versions/123", id="S-03"),
        pytest.param("m/labels/L", id="S-06-known"),
        pytest.param("m/labels/unheard", id="S-06-unknown"),
    ],
)
def test_status(served: Served, path: str) -> None:
    reply = served.http("GET", f"/v1/models/{path}")
    assert (reply.code, reply.json) == (200, AVAILABLE)


@pytest.mark.parametrize(
    ("path", "code", "text"),
    [
        pytest.param("m/versions/9", 404, "Could not find version 9 of model m", id="S-04"),
        pytest.param("foo", 404, "Could not find any versions of model foo", id="S-05"),
        pytest.param("foo/metadata", 404, "Servable not found for request: Latest(foo)", id="M-03-model"),
        pytest.param("m/versions/9/metadata", 404, "Servable not found for request: Specific(m, 9)", id="M-03-version"),
        pytest.param("m/labels/x/metadata", 400, "Unrecognized servable version label: x", id="M-03-label"),
    ],
)
def test_what_is_not_there(served: Served, path: str, code: int, text: str) -> None:
    reply = served.http("GET", f"/v1/models/{path}")
    assert (reply.code, reply.error) == (code, text)


@pytest.mark.parametrize(
    "path",
    [
        pytest.param("m/metadata", id="M-01"),
        pytest.param("m/versions/123/metadata", id="M-02-version"),
        pytest.param("m/labels/L/metadata", id="M-02-label"),
    ],
)
def test_metadata(served: Served, path: str) -> None:
    reply = served.http("GET", f"/v1/models/{path}")
    assert reply.code == 200
    assert reply.json["model_spec"] == {"name": "m", "signature_name": "", "version": "123"}
    signature = reply.json["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["method_name"] == "tensorflow/serving/predict"
    assert signature["defaults"] == {}
    assert signature["inputs"]["x"] == {
        "name": "x:0",
        "dtype": "DT_FLOAT",
        "tensor_shape": {
            "dim": [{"size": "-1", "name": ""}, {"size": "1", "name": ""}],
            "unknown_rank": False,
        },
    }
