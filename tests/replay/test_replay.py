"""A replay against a real Kafka: what arrives, in what order, and what the ticks say."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from kafka import KafkaConsumer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic

from everloop.logs.slates import Happened, Slate
from everloop.replay.run import ReplaySettings, replay
from feedback import codec
from feedback.clock import SECOND, now_us
from feedback.errors import UsageError
from feedback.events import Input, Outcome, Prediction, Tick
from feedback.settings import KafkaSettings
from feedback.topics import OUTCOMES, PREDICTIONS
from tests.replay.gateway import Gateway, serving

BEGIN = 1_500_000_000 * SECOND
LATENESS_S = 10.0
WINDOW_S = 60.0


@pytest.fixture
def settings(kafka: str, namespace: str) -> Iterator[KafkaSettings]:
    settings = KafkaSettings(bootstrap=kafka, namespace=namespace, partitions=2)
    admin = KafkaAdminClient(**settings.client())
    topics = [NewTopic(settings.name(name), num_partitions=2, replication_factor=1) for name in (PREDICTIONS, OUTCOMES)]
    admin.create_topics(topics)
    yield settings
    admin.delete_topics([topic.name for topic in topics])
    admin.close()


def log(slates: int) -> list[Slate]:
    """A slate each second; each second one is clicked up to 12 s later."""
    found = []
    for number in range(slates):
        time = BEGIN + number * SECOND
        clicked = [Happened(f"i{number}", "click", 1.0, time + number % 13 * SECOND)] if number % 2 else []
        items = [f"i{number + n}" for n in range(3)]
        found.append(Slate(f"r{number}", f"u{number % 7}", time, items, {"os": "2"}, {"age": ["1", "2", "3"]}, clicked))
    return found


def read(settings: KafkaSettings, name: str) -> list[list[Input]]:
    """All events of a topic, by partition, in order."""
    consumer = KafkaConsumer(**settings.client(), enable_auto_commit=False)
    partitions = [TopicPartition(settings.name(name), number) for number in range(settings.partitions)]
    consumer.assign(partitions)
    ends = consumer.end_offsets(partitions)
    consumer.seek_to_beginning()
    found: dict[TopicPartition, list[Input]] = {each: [] for each in partitions}
    while any(consumer.position(each) < ends[each] for each in partitions):
        for partition, records in consumer.poll(timeout_ms=200).items():
            found[partition] += [codec.decode_input(record.value) for record in records]
    consumer.close()
    return list(found.values())


def play(slates: list[Slate], settings: KafkaSettings, url: str, **more: float) -> dict[str, int]:
    asked = ReplaySettings(gateway=url, window_s=WINDOW_S, lateness_s=LATENESS_S, tick_s=0.05, **more)  # type: ignore[arg-type]
    return replay(slates, kafka=settings, settings=asked).summary()


@pytest.mark.parametrize("trouble", [0.0, 0.15])
def test_a_replay_keeps_event_time_in_order_whatever_the_gateway_does(settings: KafkaSettings, trouble: float) -> None:
    slates = log(150)
    gateway = Gateway(settings, delay_s=0.02, trouble=trouble)
    with serving(gateway) as url:
        found = play(slates, settings, url)
    assert found["requests"] == found["slates"] == 150
    assert found["failed_requests"] == 0
    assert (found["attempts"] > 150) == bool(trouble)
    predictions, outcomes = read(settings, PREDICTIONS), read(settings, OUTCOMES)
    assert {each.request_id for part in predictions for each in part if type(each) is Prediction} == {
        slate.request_id for slate in slates
    }
    told = [each for part in outcomes for each in part if type(each) is Outcome]
    assert sorted((each.request_id, each.event_time) for each in told) == sorted(
        (slate.request_id, each.event_time) for slate in slates for each in slate.outcomes
    )
    # The join's own rule: no slate's first arrival may lie behind the watermark that both topics together have reached.
    for before, beside in zip(predictions, outcomes, strict=True):
        seen: set[str] = set()
        reached = 0
        for event in before:
            if type(event) is Prediction and event.request_id not in seen:
                seen.add(event.request_id)
                assert event.event_time >= reached - LATENESS_S * SECOND
            reached = max(reached, event.event_time)
        reached = 0
        for event in beside:
            if type(event) is Outcome:
                assert event.event_time >= reached - LATENESS_S * SECOND
            reached = max(reached, event.event_time)


def test_the_last_tick_lies_beyond_every_window_in_every_partition(settings: KafkaSettings) -> None:
    slates = log(20)
    with serving(Gateway(settings)) as url:
        play(slates, settings, url)
    end = max(each.event_time for slate in slates for each in slate.outcomes)
    for part in read(settings, PREDICTIONS) + read(settings, OUTCOMES):
        last = part[-1]
        assert type(last) is Tick
        assert last.event_time > end + (WINDOW_S + LATENESS_S) * SECOND
        assert last.sent_time <= now_us()


def test_a_replay_at_a_speed_takes_the_logs_time(settings: KafkaSettings) -> None:
    slates = log(41)
    with serving(Gateway(settings)) as url:
        began = now_us()
        play(slates, settings, url, speed=40.0)
        assert now_us() - began >= 40 / 40 * SECOND


def test_requests_that_are_never_answered_are_counted_and_their_clicks_left_out(settings: KafkaSettings) -> None:
    gateway = Gateway(settings, trouble=1.0)
    with serving(gateway) as url:
        found = play(log(10), settings, url, patience_s=0.3)
    assert (found["failed_requests"], found["requests"], found["outcomes"]) == (10, 0, 0)


def test_a_request_that_no_retry_will_mend_ends_the_replay(settings: KafkaSettings) -> None:
    with serving(Gateway(settings)) as url, pytest.raises(UsageError, match=r"refuses a request of the log \(404\)"):
        play(log(3), settings, url + "/nowhere")
