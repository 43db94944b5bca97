"""A gateway process, from a request to the topic."""

from __future__ import annotations

import math

import pytest

from feedback.events import Outcome, Prediction, Tick
from feedback.settings import KafkaSettings
from serving.gateway.settings import GatewaySettings
from serving.protocol.fake import FakeModelServer
from tests.gateway.conftest import Start
from tests.gateway.world import PATIENT, read_all, until


def test_a_slate_is_answered_and_stands_in_the_topic_as_it_was_shown(start: Start, loop_kafka: KafkaSettings) -> None:
    gateway = start(GatewaySettings(ticks=False, budget=PATIENT))
    answer = gateway.recommend(["i1", "i9", "i5"], count=2, context={"device": "phone", "other": "x"})
    assert [(item["id"], item["position"], item["propensity"]) for item in answer["items"]] == [
        ("i9", 0, 1.0),
        ("i5", 1, 1.0),
    ]
    assert answer["items"][0]["score"] == pytest.approx(0.9)
    assert answer["model"] == {"name": "news", "version": 7, "sequence": 42, "epoch": 0}
    assert (answer["policy"], answer["fallback"], answer["degraded"], answer["logged"]) == ("greedy", "", [], True)
    until(lambda: gateway.status()["spool"]["sent"] == 1, "the prediction is sent")
    [(_, key, event)] = read_all(loop_kafka, "predictions")
    assert isinstance(event, Prediction)
    assert key == answer["request_id"].encode()
    assert event.request_id == answer["request_id"]
    assert (event.items, event.propensities) == (["i9", "i5"], [0.0, 0.0])
    assert event.context == {"device": "phone", "user_last_item": ""}
    assert event.features == {"topics": [[], []], "age": [-1.0, -1.0], "item_ctr": [0.05, 0.05]}
    assert event.unshown is not None
    assert event.unshown.items == ["i1"]
    assert (event.model, event.version, event.sequence, event.user_id) == ("news", 7, 42, "anna")
    assert gateway.stop() == 0


def test_outcomes_get_a_verdict_each_and_the_good_ones_are_taken(start: Start, loop_kafka: KafkaSettings) -> None:
    gateway = start(GatewaySettings(ticks=False, budget=PATIENT))
    good = {"request_id": "r", "item_id": "i1", "kind": "click", "event_id": "e1"}
    answer = gateway.http.post(
        "/v1/outcomes", json=[good, {"request_id": "r", "kind": "click"}, {**good, "kind": "Click!"}]
    )
    assert answer.status_code == 202
    body = answer.json()
    assert (body["accepted"], body["refused"]) == (1, 2)
    assert [verdict.get("field", "") for verdict in body["verdicts"]] == ["", "item_id", "kind"]
    until(lambda: gateway.status()["spool"]["sent"] == 1, "the outcome is sent")
    [(_, key, event)] = read_all(loop_kafka, "outcomes")
    assert isinstance(event, Outcome)
    assert (key, event.event_id, event.item_id, event.value) == (b"r", "e1", "i1", 1.0)


def test_a_prediction_and_its_outcome_go_to_the_same_partition(start: Start, loop_kafka: KafkaSettings) -> None:
    gateway = start(GatewaySettings(ticks=False, budget=PATIENT))
    ids = [gateway.recommend(["i1"])["request_id"] for _ in range(12)]
    gateway.http.post("/v1/outcomes", json=[{"request_id": r, "item_id": "i1", "kind": "click"} for r in ids])
    until(lambda: gateway.status()["spool"]["sent"] == 24, "all is sent")
    predictions = {key: partition for partition, key, _ in read_all(loop_kafka, "predictions")}
    outcomes = {key: partition for partition, key, _ in read_all(loop_kafka, "outcomes")}
    assert len(predictions) == 12
    assert predictions == outcomes
    assert len(set(predictions.values())) > 1


def test_every_partition_of_both_topics_gets_a_tick(start: Start, loop_kafka: KafkaSettings) -> None:
    gateway = start(GatewaySettings(tick_s=0.1, budget=PATIENT))
    until(lambda: gateway.status()["spool"]["sent"] >= 16, "two rounds of ticks")
    for topic in ("predictions", "outcomes"):
        found = read_all(loop_kafka, topic, ticks=True)
        assert {partition for partition, _, event in found if isinstance(event, Tick)} == {0, 1, 2, 3}


def test_without_a_model_server_the_answer_says_so(
    start: Start, fake_model: FakeModelServer, loop_kafka: KafkaSettings
) -> None:
    fake_model.stop()
    gateway = start(GatewaySettings(ticks=False, budget=PATIENT))
    answer = gateway.recommend(["i1", "i9", "i5"], count=2)
    assert [item["id"] for item in answer["items"]] == ["i1", "i9"]
    assert answer["fallback"] in ("model_unavailable", "model_timeout")
    assert answer["model"]["version"] == 0
    until(lambda: gateway.status()["spool"]["sent"] == 1, "the prediction is sent")
    [(_, _, event)] = read_all(loop_kafka, "predictions")
    assert isinstance(event, Prediction)
    assert (event.fallback, event.policy, event.version) == (answer["fallback"], "popularity", 0)


def test_an_exploring_policy_logs_what_it_answers(start: Start, loop_kafka: KafkaSettings) -> None:
    from serving.gateway.settings import PolicySettings

    gateway = start(
        GatewaySettings(ticks=False, budget=PATIENT, policy=PolicySettings(name="softmax", uniform_share=0.1))
    )
    answer = gateway.recommend([f"i{n}" for n in range(10)], count=5)
    until(lambda: gateway.status()["spool"]["sent"] == 1, "the prediction is sent")
    [(_, _, event)] = read_all(loop_kafka, "predictions")
    assert isinstance(event, Prediction)
    assert event.policy == answer["policy"] == "softmax(0.3)+uniform(0.1)"
    assert [item["propensity"] for item in answer["items"]] == [math.exp(p) for p in event.propensities]
    assert all(0 < item["propensity"] < 1 for item in answer["items"])


def test_a_thousand_slow_clients_starve_nobody(start: Start) -> None:
    import socket

    gateway = start(GatewaySettings(ticks=False, budget=PATIENT))
    port = gateway.ready["http_port"]
    slow = [socket.create_connection(("127.0.0.1", port)) for _ in range(1000)]
    try:
        for n, client in enumerate(slow):
            whole = b"POST /v1/recommend HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"
            client.sendall(whole if n % 2 else whole[:30])
        assert gateway.recommend(["i1", "i2"])["fallback"] == ""
    finally:
        for client in slow:
            client.close()
    assert gateway.recommend(["i1"])["fallback"] == ""
