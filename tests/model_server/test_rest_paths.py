"""REST: routing, methods, transport (cases R)."""

from __future__ import annotations

import asyncio
import gzip
import http.client
import socket
from typing import Any

import pytest

from serving.model_server import rest
from tests.model_server.conftest import Served

PREDICT: dict[str, Any] = {"instances": [2.0]}


@pytest.mark.parametrize(
    ("method", "path", "text"),
    [
        pytest.param("GET", "/v1/models", "Missing model name in request.", id="R-01"),
        pytest.param("GET", "/v1/models/", "Malformed request: GET /v1/models/", id="R-02"),
        pytest.param("GET", "/v1/foo", "Malformed request: GET /v1/foo", id="R-03-get"),
        pytest.param("POST", "/v1/foo", "Malformed request: POST /v1/foo", id="R-03-post"),
        pytest.param("GET", "/v1/models/a/b", "Malformed request: GET /v1/models/a/b", id="R-04"),
        pytest.param("POST", "/v1/models", "Malformed request: POST /v1/models", id="R-05"),
        pytest.param("POST", "/v1/models/foo", "Malformed request: POST /v1/models/foo", id="R-05-name"),
        pytest.param("GET", "/v1/models/foo:predict", "Malformed request: GET /v1/models/foo:predict", id="R-06"),
        pytest.param(
            "POST",
            "/v1/models/foo/version/50:predict",
            "Malformed request: POST /v1/models/foo/version/50:predict",
            id="R-07",
        ),
        pytest.param(
            "POST",
            "/v1/models/foo/label/x:predict",
            "Malformed request: POST /v1/models/foo/label/x:predict",
            id="R-07-label",
        ),
        pytest.param(
            "POST",
            "/v1/models/foo/versions/HELLO:predict",
            "Malformed request: POST /v1/models/foo/versions/HELLO:predict",
            id="R-08",
        ),
        pytest.param(
            "POST",
            "/v1/models/foo/versions/-1:predict",
            "Malformed request: POST /v1/models/foo/versions/-1:predict",
            id="R-08-negative",
        ),
        pytest.param(
            "POST",
            "/v1/models/foo/versions/18446744073709551615:regress",
            "Failed to convert version: 18446744073709551615 to numeric.",
            id="R-09",
        ),
        pytest.param(
            "POST",
            "/v1/models/foo/versions/50/labels/x:predict",
            "Malformed request: POST /v1/models/foo/versions/50/labels/x:predict",
            id="R-10",
        ),
        pytest.param("POST", "/v1/models/foo/metadata", "Malformed request: POST /v1/models/foo/metadata", id="R-11"),
        pytest.param("PUT", "/v1/models/m", "Malformed request: PUT /v1/models/m", id="R-12-put"),
        pytest.param("DELETE", "/v1/models/m", "Malformed request: DELETE /v1/models/m", id="R-12-delete"),
        pytest.param("PATCH", "/v1/models/m", "Malformed request: PATCH /v1/models/m", id="R-12-patch"),
        pytest.param("POST", "/v1/models/m:PREDICT", "Malformed request: POST /v1/models/m:PREDICT", id="R-17"),
        pytest.param("POST", "/v1/models/m:predict?x=1", "Malformed request: POST /v1/models/m:predict?x=1", id="R-18"),
        pytest.param(
            "POST", "/v1/models/m:multiinference", "Malformed request: POST /v1/models/m:multiinference", id="C-16"
        ),
    ],
)
def test_a_path_that_is_none_of_the_api_is_refused(served: Served, method: str, path: str, text: str) -> None:
    reply = served.http(method, path, PREDICT if method == "POST" else None)
    assert (reply.code, reply.error) == (400, text)
    assert reply.headers["content-type"] == "application/json"


def test_head_is_refused_without_a_body(served: Served) -> None:
    assert served.http("HEAD", "/v1/models/m").code == 400


@pytest.mark.parametrize("method", [pytest.param("TRACE", id="R-14-trace"), pytest.param("CONNECT", id="R-14-connect")])
def test_other_methods_are_not_implemented(served: Served, method: str) -> None:
    reply = served.http(method, "/v1/models/m")
    assert reply.code == 501
    assert reply.headers["content-type"] == "text/html"


@pytest.mark.parametrize("path", [pytest.param(path, id=f"R-15{path}") for path in ("/", "/v1", "/healthz")])
def test_other_paths_are_answered_with_a_page_and_not_with_json(served: Served, path: str) -> None:
    reply = served.http("GET", path)
    assert reply.code == 404
    assert reply.headers["content-type"] == "text/html"
    assert b"<H1>Not Found</H1>" in reply.body


def test_paths_do_not_mind_case(served: Served) -> None:
    assert served.http("GET", "/V1/MODELS/m").code == 200


def test_a_query_is_part_of_the_name(served: Served) -> None:
    reply = served.http("GET", "/v1/models/m?x=1")
    assert (reply.code, reply.error) == (404, "Could not find any versions of model m?x=1")


def test_a_name_may_be_percent_encoded(served: Served) -> None:
    assert served.http("GET", "/v1/models/a%2Fb").code == 200
    assert served.http("POST", "/v1/models/a%2Fb:predict", PREDICT).json == {"predictions": [3.0]}


def test_options_with_an_origin_is_answered_empty(served: Served) -> None:
    reply = served.http("OPTIONS", "/v1/models/m", Origin="http://x")
    assert (reply.code, reply.body) == (200, b"")
    assert "access-control-allow-origin" not in reply.headers


async def _answer(method: str, headers: dict[bytes, bytes]) -> rest.Answer:
    application = rest.Rest(None, rest.RestSettings(cors=True, threads=1))  # type: ignore[arg-type]
    return await application.answer(method, "/v1/models/m", headers, b"")


def test_options_with_cors_support_says_what_is_allowed() -> None:
    code, headers, body = asyncio.run(_answer("OPTIONS", {b"origin": b"http://x"}))
    assert (code, body) == (200, b"")
    assert dict(headers) == {
        b"Access-Control-Allow-Origin": b"*",
        b"Access-Control-Allow-Methods": b"POST, GET",
        b"Access-Control-Allow-Headers": b"Content-Type",
    }


def test_options_without_an_origin_is_refused_empty(served: Served) -> None:
    reply = served.http("OPTIONS", "/v1/models/m")
    assert (reply.code, reply.body) == (400, b"")


def test_the_content_type_of_a_request_is_not_looked_at(served: Served) -> None:
    reply = served.http("POST", "/v1/models/m:predict", PREDICT, Content_Type="application/x-www-form-urlencoded")
    assert reply.json == {"predictions": [3.0]}


def test_a_gzip_body_is_inflated(served: Served) -> None:
    body = gzip.compress(b'{"instances": [2.0]}')
    assert served.http("POST", "/v1/models/m:predict", body, Content_Encoding="gzip").json == {"predictions": [3.0]}


def test_a_damaged_gzip_body_is_no_body(served: Served) -> None:
    reply = served.http("POST", "/v1/models/m:predict", b"no gzip", Content_Encoding="gzip")
    assert (reply.code, reply.error) == (400, "JSON Parse error: The document is empty")


def test_a_gzip_body_that_grows_without_measure_is_no_body() -> None:
    assert rest.gunzip(gzip.compress(b" " * (rest.MAX_INFLATED_BYTES + 1), 1)) == b""
    assert rest.gunzip(gzip.compress(b" " * 1000)) == b" " * 1000


def test_a_body_may_be_large(served: Served) -> None:
    count = 400_000
    reply = served.http("POST", "/v1/models/m:predict", {"inputs": [2.0] * count, "ignored": "x" * 10_000_000})
    assert reply.code == 200
    assert len(reply.json["outputs"]) == count


def test_a_connection_is_kept_and_closed_as_asked(served: Served) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", served.server.rest_port or 0)
    for last in (False, True):
        connection.request("GET", "/v1/models/m", headers={"Connection": "close"} if last else {})
        answer = connection.getresponse()
        assert answer.status == 200
        assert int(answer.headers["content-length"]) == len(answer.read())
        assert answer.will_close is last
    connection.close()


def test_an_answer_to_http_1_0_ends_the_connection(served: Served) -> None:  # R-27, without HTTP/1.0's keep-alive
    with socket.create_connection(("127.0.0.1", served.server.rest_port or 0), timeout=10) as connection:
        connection.sendall(b"GET /v1/models/m HTTP/1.0\r\n\r\n")
        with connection.makefile("rb") as file:
            head, _, body = file.read().partition(b"\r\n\r\n")
    assert b"200 OK" in head
    assert body.startswith(b"{")


def test_an_idle_connection_is_kept_without_limit(served: Served) -> None:
    assert served.server.rest is not None
    assert served.server.rest.server.config.timeout_keep_alive == 10**9  # seconds: 31 years


def test_rest_listens_on_all_interfaces_unless_told() -> None:
    with rest.listen("", 0) as everywhere, rest.listen("127.0.0.1", 0) as local:
        assert everywhere.getsockname()[0] in ("::", "0.0.0.0")
        assert local.getsockname()[0] == "127.0.0.1"
        with socket.create_connection(("127.0.0.1", everywhere.getsockname()[1])):
            pass
