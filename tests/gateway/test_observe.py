"""Slates that something else chose: what is logged of them, and what is refused."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from feedback.clock import now_us
from feedback.events import MAX_SLATE, OBSERVED, Prediction
from serving.gateway.access import digest
from serving.gateway.settings import GatewaySettings, HttpSettings, KeySettings, SpoolSettings
from tests.gateway.house import House, at_home


async def observe(house: House, items: list[Any], **fields: Any) -> httpx.Response:
    """Tell of a slate of anna's; items by id, or whole."""
    listed = [{"id": item} if isinstance(item, str) else item for item in items]
    return await house.http.post("/v1/slates", json={"user": "anna", "items": listed} | fields)


def logged(house: House) -> Prediction:
    """The one event in the spool."""
    [event] = house.logged()
    assert isinstance(event, Prediction)
    return event


def test_what_was_shown_is_logged_with_the_features_that_serving_would_have_used() -> None:
    async def visit(house: House) -> None:
        before = now_us()
        answer = await observe(
            house, ["i3", {"id": "i9", "features": {"age": 2, "topics": ["a"]}}], context={"device": "phone", "x": 1.0}
        )
        assert answer.status_code == 202, answer.text
        event = logged(house)
        assert answer.json() == {
            "request_id": event.request_id,
            "logged": True,
            "degraded": ["features_unavailable"],
        }
        assert (event.items, event.user_id) == (["i3", "i9"], "anna")
        assert event.context == {"device": "phone", "user_last_item": ""}
        assert event.features == {"topics": [[], ["a"]], "age": [-1.0, 2.0], "item_ctr": [0.05, 0.05]}
        assert before <= event.event_time <= event.sent_time <= now_us()
        # The same slate, asked for: what training sees of it is what it would have been served with.
        await house.recommend(["i3", "i9"], context={"device": "phone"}, event_time=event.event_time)
        _, asked = house.logged()
        assert isinstance(asked, Prediction)
        assert asked.context == event.context
        assert asked.features.keys() == event.features.keys()

    at_home(visit)


def test_nothing_of_it_looks_like_a_decision_of_ours() -> None:
    async def visit(house: House) -> None:
        await observe(house, ["i3", "i9"])
        event = logged(house)
        assert (event.policy, event.fallback, event.propensities, event.unshown) == (OBSERVED, OBSERVED, [], None)
        assert (event.scores, event.version, event.epoch, event.sequence) == ([0.0, 0.0], 0, 0, 0)
        assert event.model == "news"
        assert house.server.requests == [], "no model is asked"
        status = (await house.http.get("/v1/status")).json()
        assert (status["requests"], status["fallbacks"]) == (0, 0)
        metrics = (await house.http.get("/metrics")).text
        assert "everloop_observed_total 1.0" in metrics
        assert "everloop_recommendations_total 0.0" in metrics
        assert "everloop_fallbacks_total{" not in metrics
        assert "everloop_degraded_total{" not in metrics
        assert 'everloop_http_requests_total{route="/v1/slates",status="202"} 1.0' in metrics

    at_home(visit)


def test_name_and_time_are_the_producers_if_it_likes() -> None:
    async def visit(house: House) -> None:
        answer = await observe(house, ["i1"], request_id="front-17", event_time=5)
        assert answer.json()["request_id"] == "front-17"
        event = logged(house)
        assert (event.request_id, event.event_time) == ("front-17", 5)
        [again] = {(await observe(house, ["i1"], request_id="front-17")).status_code}
        assert again == 202, "a retry is taken: the join ignores it"

    at_home(visit)


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        (b"{", 400, ""),
        (b"\xff\xfe", 400, ""),
        (b"[]", 422, ""),
        (b"{}", 422, "user"),
        (b'{"user": "a"}', 422, "items"),
        (b'{"user": "", "items": [{"id": "i1"}]}', 422, "user"),
        (b'{"user": "a", "items": []}', 422, "items"),
        (b'{"user": "a", "items": [{"id": "i1"}, {}]}', 422, "items[1].id"),
        (b'{"user": "a", "items": [{"id": "i1"}, {"id": "i2"}, {"id": "i1"}]}', 422, "items[2].id"),
        (b'{"user": "a", "items": [{"id": "i1", "features": {"age": "old"}}]}', 422, "items[].features.age"),
        (b'{"user": "a", "items": [{"id": "i1"}], "context": {"device": 5}}', 422, "context.device"),
        (b'{"user": "a", "items": [{"id": "i1"}], "event_time": -1}', 422, "event_time"),
        (b'{"user": "a", "items": [{"id": "i1"}], "event_time": 253402300799000000}', 422, "event_time"),
        (b'{"user": "a", "items": [{"id": "i1"}], "request_id": ""}', 422, "request_id"),
        (b'{"user": "a", "items": [' + b'{"id": "i"},' * MAX_SLATE + b'{"id": "i"}]}', 422, "items"),
        (b'{"user": "a"' + b" " * 1_100_000 + b"}", 413, ""),
    ],
)
def test_a_slate_that_is_wrong_gets_a_problem_that_names_the_field(body: bytes, status: int, field: str) -> None:
    async def visit(house: House) -> None:
        answer = await house.http.post("/v1/slates", content=body)
        problem = answer.json()
        assert answer.headers["content-type"] == "application/problem+json"
        assert (answer.status_code, problem["status"], problem.get("field", "")) == (status, status, field)
        assert house.logged() == []

    at_home(visit)


def test_the_longest_slate_is_taken_and_one_that_kafka_would_not_take_is_refused() -> None:
    async def visit(house: House) -> None:
        assert (await observe(house, [f"i{n}" for n in range(MAX_SLATE)])).status_code == 202
        wide = [{"id": f"i{n}", "features": {"topics": ["x" * 900]}} for n in range(MAX_SLATE)]
        answer = await observe(house, wide)
        assert (answer.status_code, answer.json()["field"]) == (422, "event")
        assert "at most 900000 bytes" in answer.json()["detail"]
        assert len(house.logged()) == 1

    at_home(visit, GatewaySettings(http=HttpSettings(max_body=4_000_000)))


def test_a_time_to_come_is_refused_as_an_outcomes_is() -> None:
    async def visit(house: House) -> None:
        answer = await observe(house, ["i1"], event_time=now_us() + 120_000_000)
        assert (answer.status_code, answer.json()["field"]) == (422, "event_time")
        assert "at most 60 s after" in answer.json()["detail"]
        assert (await observe(house, ["i1"], event_time=now_us() + 30_000_000)).status_code == 202

    at_home(visit)


def test_it_needs_the_producers_scope_and_keeps_to_the_keys_rate() -> None:
    def keyed(scope: Any, **limits: Any) -> GatewaySettings:
        return GatewaySettings(keys=(KeySettings(name="k", sha256=digest("letmein"), scopes=(scope,), **limits),))

    async def producer(house: House) -> None:
        assert (await observe(house, ["i1"])).status_code == 401
        house.http.headers["x-api-key"] = "letmein"
        # No scope replay: what was shown elsewhere has a time and, if the site likes, a name of its own.
        assert (await observe(house, ["i1"], request_id="mine", event_time=5)).status_code == 202
        assert (await observe(house, ["i1"])).status_code == 202
        answer = await observe(house, ["i1"])
        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) >= 1

    async def reader(house: House) -> None:
        house.http.headers["x-api-key"] = "letmein"
        answer = await observe(house, ["i1"])
        assert (answer.status_code, "lacks scope outcomes" in answer.text) == (403, True)
        assert house.logged() == []

    at_home(producer, keyed("outcomes", rate=0.01, burst=2))
    at_home(reader, keyed("recommend"))


def test_with_a_full_spool_a_slate_is_refused_for_a_while() -> None:
    async def visit(house: House) -> None:
        statuses = [(await observe(house, ["i1", "i2"])).status_code for _ in range(12)]
        assert statuses[0] == 202
        answer = await observe(house, ["i1", "i2"])
        assert answer.status_code == 503
        assert "retry-after" in answer.headers
        end = house.gateway.spool.end
        assert (await observe(house, ["i1", "i2"])).status_code == 503
        assert house.gateway.spool.end == end
        metrics = (await house.http.get("/metrics")).text
        assert f"everloop_observed_total {statuses.count(202)}.0" in metrics
        assert "everloop_unlogged_total 0.0" in metrics

    at_home(visit, GatewaySettings(spool=SpoolSettings(max_bytes=3000, segment_bytes=1000)))


def test_its_path_takes_posts_alone() -> None:
    async def visit(house: House) -> None:
        answer = await house.http.get("/v1/slates")
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")

    at_home(visit)
