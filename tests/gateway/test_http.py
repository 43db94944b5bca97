"""What a client is told: answers, problems, keys."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import grpc
import pytest

from feedback.clock import now_us
from feedback.errors import ConfigError
from feedback.events import Outcome, Prediction
from feedback.features import Feature
from serving.gateway.access import digest
from serving.gateway.access import main as make_key
from serving.gateway.settings import (
    GatewaySettings,
    HttpSettings,
    KeySettings,
    PolicySettings,
    SlateSettings,
    SpoolSettings,
)
from serving.protocol import tensors
from serving.protocol.fake import Refusal
from serving.protocol.serving_pb2 import TensorProto
from tests.gateway.house import House, at_home
from tests.gateway.world import model

OUTCOME = {"request_id": "r", "item_id": "i1", "kind": "click"}


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        (b"{", 400, ""),
        (b"\xff\xfe", 400, ""),
        (b"[]", 422, ""),
        (b"{}", 422, "user"),
        (b'{"user": 5}', 422, "user"),
        (b'{"user": "a", "count": 0}', 422, "count"),
        (b'{"user": "a", "count": 201}', 422, "count"),
        (b'{"user": "a", "candidates": []}', 422, "candidates"),
        (b'{"user": "a", "candidates": [{"id": "i1"}, {}]}', 422, "candidates[1].id"),
        (b'{"user": "a", "candidates": [{"id": "i1"}, {"id": "i1"}]}', 422, "candidates[1].id"),
        (b'{"user": "a", "candidates": [{"id": "i1", "features": {"age": "old"}}]}', 422, "candidates[].features.age"),
        (b'{"user": "a", "context": {"device": 5}, "candidates": [{"id": "i1"}]}', 422, "context.device"),
        (b'{"user": "a", "candidates": [' + b'{"id": "i"},' * 1001 + b'{"id": "i"}]}', 422, "candidates"),
        (b'{"user": "a"' + b" " * 1_100_000 + b"}", 413, ""),
        (b'{"user": "a", "context": {"device": ' + b"[" * 100_000, 422, "context[...][0]"),
    ],
)
def test_a_request_that_is_wrong_gets_a_problem_that_names_the_field(body: bytes, status: int, field: str) -> None:
    async def visit(house: House) -> None:
        answer = await house.http.post("/v1/recommend", content=body)
        problem = answer.json()
        assert answer.headers["content-type"] == "application/problem+json"
        assert (answer.status_code, problem["status"], problem.get("field", "")) == (status, status, field)
        assert problem["type"].startswith("urn:everloop:problem:")
        assert "Traceback" not in answer.text
        assert house.logged() == []

    at_home(visit)


def test_paths_and_methods_that_are_not_there_get_problems_too() -> None:
    async def visit(house: House) -> None:
        for method, path, status in (
            ("GET", "/nothing", 404),
            ("GET", "/v1/recommend", 405),
            ("POST", "/metrics", 405),
        ):
            answer = await house.http.request(method, path)
            assert (answer.status_code, answer.json()["status"]) == (status, status)
            assert answer.headers["content-type"] == "application/problem+json"

    at_home(visit)


def test_an_error_that_nobody_foresaw_is_a_500_that_tells_nothing() -> None:
    async def visit(house: House) -> None:
        house.gateway.recommender._policy = None  # type: ignore[assignment]
        answer = await house.recommend(["i1"])
        assert answer.status_code == 500
        assert "NoneType" not in answer.text

    at_home(visit)


def keyed(*scopes: str, rate: float = 0.0, burst: int = 100) -> GatewaySettings:
    key = KeySettings(name="shop", sha256=digest("letmein"), scopes=scopes, rate=rate, burst=burst)  # type: ignore[arg-type]
    return GatewaySettings(keys=(key,))


def test_a_key_opens_what_its_scopes_say() -> None:
    async def visit(house: House) -> None:
        assert (await house.recommend(["i1"])).status_code == 401
        assert (await house.http.get("/metrics")).status_code == 401
        assert (await house.http.get("/v1/health/live")).status_code == 200
        for headers in ({"authorization": "Bearer letmein"}, {"x-api-key": "letmein"}):
            house.http.headers.update(headers)
            assert (await house.recommend(["i1"])).status_code == 200
            refused = await house.http.post("/v1/outcomes", json=OUTCOME)
            assert (refused.status_code, "lacks scope outcomes" in refused.text) == (403, True)
            assert (await house.http.get("/v1/status")).status_code == 403
            for field, value in (("event_time", 5), ("request_id", "mine")):
                answer = await house.recommend(["i1"], **{field: value})
                assert (answer.status_code, answer.json()["field"]) == (403, field)
            house.http.headers.pop(next(iter(headers)))

    at_home(visit, keyed("recommend"))


def test_with_scope_replay_time_and_name_are_the_callers() -> None:
    async def visit(house: House) -> None:
        house.http.headers["x-api-key"] = "letmein"
        answer = await house.recommend(["i1"], event_time=3_600_000_000 * 5, request_id="mine")
        assert answer.json()["request_id"] == "mine"
        [event] = house.logged()
        assert isinstance(event, Prediction)
        assert (event.event_time, event.request_id) == (3_600_000_000 * 5, "mine")
        assert tensors.octets_of(house.server.requests[0].inputs["hour"]) == [b"5"]

    at_home(visit, keyed("recommend", "replay"))


def test_a_key_that_is_too_fast_is_told_when_to_come_back() -> None:
    async def visit(house: House) -> None:
        house.http.headers["x-api-key"] = "letmein"
        statuses = [(await house.recommend(["i1"])).status_code for _ in range(3)]
        assert statuses == [200, 200, 429]
        answer = await house.recommend(["i1"])
        assert int(answer.headers["retry-after"]) >= 1

    at_home(visit, keyed("recommend", rate=0.01, burst=2))


def test_without_keys_the_gateway_listens_to_this_machine_alone() -> None:
    with pytest.raises(ConfigError, match="loopback"):
        GatewaySettings(http=HttpSettings(host="0.0.0.0")).check()
    keyed("recommend").check()
    GatewaySettings(http=HttpSettings(host="::1")).check()


def test_a_new_key_is_shown_once_and_configured_by_its_hash(capsys: pytest.CaptureFixture[str]) -> None:
    assert make_key(["shop", "recommend", "nonsense"]) == 2
    assert make_key(["shop", "recommend", "outcomes"]) == 0
    printed = capsys.readouterr().out
    key = printed.split("key (shown once): ")[1].split()[0]
    assert digest(key) in printed
    assert 'scopes = ["recommend", "outcomes"]' in printed


def test_outcomes_from_the_future_and_half_broken_ones_are_refused_by_name() -> None:
    async def visit(house: House) -> None:
        late = OUTCOME | {"event_time": now_us() + 120_000_000}
        answer = await house.http.post("/v1/outcomes", json=late)
        assert (answer.status_code, answer.json()["field"]) == (422, "event_time")
        answer = await house.http.post("/v1/outcomes", json=[5, OUTCOME, OUTCOME | {"value": "much"}])
        assert answer.status_code == 202
        assert [v["accepted"] for v in answer.json()["verdicts"]] == [False, True, False]
        assert (await house.http.post("/v1/outcomes", json=[])).status_code == 422
        [event] = house.logged()
        assert isinstance(event, Outcome)
        assert event.event_id == answer.json()["verdicts"][1]["event_id"]

    at_home(visit)


def test_with_a_full_spool_slates_are_answered_unlogged_and_outcomes_refused() -> None:
    async def visit(house: House) -> None:
        logged = [(await house.recommend(["i1", "i2"])).json()["logged"] for _ in range(12)]
        assert logged[0]
        assert not logged[-1]
        answer = await house.http.post("/v1/outcomes", json=OUTCOME)
        while answer.status_code == 202:
            answer = await house.http.post("/v1/outcomes", json=OUTCOME)
        assert answer.status_code == 503
        assert "retry-after" in answer.headers
        assert (await house.http.get("/v1/health/ready")).status_code == 503
        assert (await house.http.get("/v1/status")).json()["spool"]["unlogged"] >= 1
        metrics = (await house.http.get("/metrics")).text
        assert "everloop_spool_max_bytes 3000.0" in metrics
        assert "everloop_unlogged_total" in metrics
        assert "everloop_spool_waiting_seconds" in metrics

    at_home(visit, GatewaySettings(spool=SpoolSettings(max_bytes=3000, segment_bytes=1000)))


def test_without_redis_defaults_stand_in_and_the_answer_says_so() -> None:
    async def visit(house: House) -> None:
        answer = (await house.recommend(["i1", "i2"])).json()
        assert answer["degraded"] == ["features_unavailable"]
        assert answer["fallback"] == ""
        [event] = house.logged()
        assert isinstance(event, Prediction)
        assert event.context["user_last_item"] == ""
        assert event.features["item_ctr"] == [0.05, 0.05]
        metrics = (await house.http.get("/metrics")).text
        assert 'everloop_degraded_total{reason="features_unavailable"} 1.0' in metrics

    at_home(visit)


def test_without_candidates_and_without_a_pool_the_slate_is_empty() -> None:
    async def visit(house: House) -> None:
        answer = (await house.recommend()).json()
        assert (answer["items"], answer["fallback"], answer["logged"]) == ([], "no_candidates", False)
        assert house.logged() == []

    at_home(visit)


def nan(signature: str, inputs: Mapping[str, TensorProto]) -> Mapping[str, TensorProto]:
    return {"score": tensors.floats([math.nan]), "sequence": tensors.integers([1])}


def short(signature: str, inputs: Mapping[str, TensorProto]) -> Mapping[str, TensorProto]:
    return {"score": tensors.floats([0.5, 0.5]), "sequence": tensors.integers([1, 1])}


def refusing(signature: str, inputs: Mapping[str, TensorProto]) -> Mapping[str, TensorProto]:
    raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, "input does not match")


@pytest.mark.parametrize("broken", [nan, short, refusing])
def test_a_model_that_talks_nonsense_is_not_believed(broken: Any) -> None:
    async def visit(house: House) -> None:
        answer = (await house.recommend(["i1"])).json()
        assert (answer["fallback"], answer["model"]["version"]) == ("model_error", 0)
        assert answer["items"] == [{"id": "i1", "position": 0, "score": 0.0, "propensity": 1.0}]

    at_home(visit, answering=broken)


def heads(signature: str, inputs: Mapping[str, TensorProto]) -> Mapping[str, TensorProto]:
    n = tensors.size_of(inputs["item"])
    matrix = tensors.floats([0.9, 0.1] * n)
    return dict(model(signature, inputs)) | {"heads": matrix}


def test_thompson_takes_the_heads_that_the_model_sends() -> None:
    async def visit(house: House) -> None:
        answer = (await house.recommend(["i1", "i2"], count=1)).json()
        assert answer["policy"] == "thompson(0.2)"
        # Both heads are the same for both items: the tie goes to i1.
        chance = {"i1": 0.9, "i2": 0.1}[answer["items"][0]["id"]]
        assert answer["items"][0]["propensity"] == pytest.approx(chance)

    at_home(visit, GatewaySettings(policy=PolicySettings(name="thompson", epsilon=0.2)), answering=heads)


def test_requests_that_wait_go_together_and_each_gets_its_own_scores() -> None:
    import asyncio

    async def visit(house: House) -> None:
        slates = [[f"i{n}", f"i{(n + 3) % 10}"] for n in range(10)] * 4
        answers = await asyncio.gather(*(house.recommend(items) for items in slates))
        for items, answer in zip(slates, answers, strict=True):
            found = {item["id"]: item["score"] for item in answer.json()["items"]}
            assert found == {item: pytest.approx(int(item[1:]) / 10) for item in items}
        assert len(house.server.requests) < len(slates)

    at_home(visit)


def test_a_slate_longer_than_its_default_is_cut_and_the_rest_is_logged_unshown() -> None:
    async def visit(house: House) -> None:
        await house.recommend([f"i{n}" for n in range(9)])
        [event] = house.logged()
        assert isinstance(event, Prediction)
        assert (len(event.items), event.unshown and len(event.unshown.items)) == (3, 6)

    at_home(visit, GatewaySettings(slate=SlateSettings(count=3)))


def test_a_feature_that_redis_does_not_keep_is_a_configuration_error() -> None:
    async def visit(house: House) -> None:
        raise AssertionError("it must not start")

    for wrong in (Feature(name="mood", source="user_state"), Feature(name="item_ctr", source="item_state")):
        with pytest.raises(ConfigError, match=wrong.name):
            at_home(visit, features=(wrong,))


def test_the_documentation_is_served_and_the_openapi_knows_every_field() -> None:
    async def visit(house: House) -> None:
        document = (await house.http.get("/openapi.json")).json()
        schemas = document["components"]["schemas"]
        assert set(document["paths"]) >= {"/v1/recommend", "/v1/outcomes", "/v1/status"}
        assert all("description" in f for s in schemas.values() for f in s["properties"].values())
        page = (await house.http.get("/docs")).text
        assert "/v1/recommend" in page
        assert "http://" not in page
        assert "https://" not in page
        assert json.dumps(document)

    at_home(visit)


def test_with_fsync_always_no_answer_comes_before_the_disk_has_it() -> None:
    import asyncio

    async def visit(house: House) -> None:
        spool = house.gateway.spool
        answers = await asyncio.gather(*(house.recommend(["i1"]) for _ in range(20)))
        assert all(answer.json()["logged"] for answer in answers)
        assert spool.synced == spool.end > 0

    at_home(visit, GatewaySettings(spool=SpoolSettings(fsync="always")))
