"""What the loop says of itself reaches the gateway: freshness from deltas, canaries from control."""

from __future__ import annotations

import msgspec

from feedback.clock import now_us
from feedback.deltas import DeltaHeader
from feedback.settings import KafkaSettings
from feedback.versions import Canary, Control, ModelEvent, Replica
from serving.gateway.settings import GatewaySettings
from serving.protocol.fake import FakeModelServer
from tests.gateway.conftest import Start
from tests.gateway.world import PATIENT, until


def test_freshness_is_measured_to_the_first_answer_that_knows_the_outcome(
    start: Start, loop_kafka: KafkaSettings
) -> None:
    from kafka import KafkaProducer

    gateway = start(GatewaySettings(ticks=False, budget=PATIENT))
    producer = KafkaProducer(**loop_kafka.client(), compression_type="lz4")
    event = ModelEvent(model="news", line="news-abc", version=7, event="exported", time=1, epoch=3)
    producer.send(loop_kafka.name("models"), key=event.key, value=msgspec.json.encode(event))
    replica = Replica(model="news", replica="r0", time=1, live=7, loaded={7: 42}, epoch=4)
    producer.send(loop_kafka.name("replicas"), key=replica.key, value=msgspec.json.encode(replica))
    for sequence in (42, 43):
        header = DeltaHeader(
            line="news-abc",
            epoch=4,
            previous=sequence - 1,
            sequence=sequence,
            crc32c=0,
            sent_times=[now_us() - 2_000_000],
        )
        producer.send(loop_kafka.name("deltas"), key=b"news-abc", value=b"opaque", headers=header.record_headers())
    producer.flush()
    producer.close()

    def known() -> bool:
        assert gateway.recommend(["i1"])["model"]["sequence"] == 42
        return bool(gateway.status()["freshness"]["count"])

    until(known, "an answer knows the delta")
    freshness = gateway.status()["freshness"]
    assert freshness["count"] == 1, "the model has not reached the second delta"
    assert freshness["p50_s"] >= 2
    assert gateway.recommend(["i1"])["model"]["epoch"] == 4
    assert 'everloop_freshness_seconds_count{stage="total"} 1.0' in gateway.http.get("/metrics").text


def test_a_canary_gets_its_share_of_the_readers_and_each_reader_stays_on_one_side(
    start: Start, loop_kafka: KafkaSettings, fake_model: FakeModelServer
) -> None:
    from kafka import KafkaProducer

    fake_model.versions.add(8)
    control = Control(model="news", canary=Canary(version=8, share=0.3, started=1))
    producer = KafkaProducer(**loop_kafka.client())
    producer.send(loop_kafka.name("control"), key=b"news", value=msgspec.json.encode(control))
    producer.flush()
    producer.close()
    gateway = start(GatewaySettings(ticks=False, budget=PATIENT))
    until(lambda: gateway.status()["control"]["canary"], "control is read")
    users = [f"u{n}" for n in range(200)]
    assert {gateway.recommend(["i1"], user=user)["model"]["version"] for user in users[:20]} == {7}, (
        "no label canary yet"
    )
    fake_model.labels["canary"] = 8
    answers = {user: gateway.recommend(["i1"], user=user) for user in users}
    assert {answer["fallback"] for answer in answers.values()} == {""}
    versions = {user: answer["model"]["version"] for user, answer in answers.items()}
    share = sum(version == 8 for version in versions.values()) / len(users)
    assert 0.2 < share < 0.4
    assert versions == {user: gateway.recommend(["i1"], user=user)["model"]["version"] for user in users}
