"""The producer client against a real broker, and against none."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from feedback.codec import decode_outcome
from feedback.errors import BufferFullError, DecodeError, EverloopError, UnavailableError, UsageError
from feedback.settings import KafkaSettings


@pytest.fixture
def nobody() -> str:
    """An address where nothing listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{taken.getsockname()[1]}"


def test_an_outcome_is_confirmed_and_keyed_by_its_request(kafka: str, namespace: str) -> None:
    from kafka import KafkaConsumer

    from feedback.produce import OutcomeProducer
    from feedback.topics import create_topics

    settings = KafkaSettings(bootstrap=kafka, namespace=namespace, partitions=2)
    create_topics(settings)
    with OutcomeProducer(settings) as producer:
        delivery = producer.send(
            request_id="r1", item_id="i1", kind="dwell", value=12.5, event_time=1_000, event_id="e1"
        )
        sent = delivery.result(30)
        for _ in range(20):
            producer.send(request_id="r1", item_id="i1", kind="click")
    assert producer.confirmed == 21
    assert producer.failed == 0
    consumer = KafkaConsumer(
        settings.name("outcomes"),
        bootstrap_servers=kafka,
        auto_offset_reset="earliest",
        group_id=None,
        consumer_timeout_ms=1500,
    )
    records = list(consumer)
    consumer.close()
    assert len(records) == 21
    assert {record.key for record in records} == {b"r1"}
    assert len({record.partition for record in records}) == 1
    assert decode_outcome(records[0].value) == sent
    with pytest.raises(UsageError, match="closed"):
        producer.send(request_id="r1", item_id="i1", kind="click")


def test_a_bad_event_stops_nobody_who_did_not_ask_for_it(nobody: str) -> None:
    from feedback.produce import OutcomeProducer

    told: list[tuple[dict[str, Any], EverloopError]] = []
    producer = OutcomeProducer(nobody, on_error=lambda fields, error: told.append((fields, error)))
    delivery = producer.send(request_id="r1", item_id="i1", kind="Not a word!")
    error = delivery.exception(1)
    assert isinstance(error, DecodeError)
    assert "kind" in str(error)
    assert producer.failed == 1
    assert told[0][0]["request_id"] == "r1"
    producer.close(1)
    strict = OutcomeProducer(nobody, strict=True)
    with pytest.raises(DecodeError, match="request_id"):
        strict.send(request_id="", item_id="i1", kind="click")
    strict.close(1)


def test_while_the_broker_is_away_outcomes_wait_up_to_a_bound(nobody: str) -> None:
    from feedback.produce import OutcomeProducer

    producer = OutcomeProducer(nobody, max_buffered=3, delivery_timeout_s=60)
    waiting = [producer.send(request_id="r", item_id="i", kind="click") for _ in range(3)]
    full = producer.send(request_id="r", item_id="i", kind="click")
    assert isinstance(full.exception(1), BufferFullError)
    assert not any(delivery.done() for delivery in waiting)
    with pytest.raises(UnavailableError, match="3 outcomes are not confirmed"):
        producer.close(0.2)
    assert all(isinstance(delivery.exception(10), UnavailableError) for delivery in waiting)
    assert producer.failed == 4


def test_an_outcome_that_nobody_takes_in_time_fails(nobody: str) -> None:
    from feedback.produce import OutcomeProducer

    producer = OutcomeProducer(nobody, delivery_timeout_s=0.1)
    with pytest.raises(UnavailableError, match="no broker answers"):
        producer.send(request_id="r", item_id="i", kind="click").result(20)
    producer.close(5)
