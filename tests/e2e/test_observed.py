"""A slate that something else chose, from the producer's call to what the model has learned, through the real gateway, join and trainer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import pytest

from feedback.codec import decode_output
from feedback.events import NEGATIVE, OBSERVED, POSITIVE, Prediction, Sample
from feedback.settings import KafkaSettings, RedisSettings, Secret
from feedback.topics import PREDICTIONS, SAMPLES, create_topics
from serving.client import Client
from serving.gateway.settings import GatewaySettings
from serving.protocol.fake import FakeModelServer
from streams.chaos import records
from streams.fleet import Member
from streams.settings import JoinSettings, StateSettings, StreamsSettings
from tests.gateway.world import FEATURES, PATIENT, Process, model, read_all, until
from tests.trainer.loop.running import QUICK, turn_until
from trainer.batch import ELSEWHERE, batch_of
from trainer.learner import Learner
from trainer.settings import TrainerSettings
from trainer.settled import read_settled
from trainer.train import Trainer

JOIN = JoinSettings(window_s=2, lateness_s=0.2, hold_s=0.5, skew_s=2, early_wait_s=20, remember_s=20)
SLATES = 20


@dataclass
class Parts:
    """What runs."""

    kafka: KafkaSettings
    gateway: Process
    trainer: Trainer


@pytest.fixture
def parts(kafka: str, redis_url: str, namespace: str, tmp_path: Path) -> Iterator[Parts]:
    """Gateway and join as processes, the trainer here; the model server answers for a model of old."""
    settings = KafkaSettings(bootstrap=kafka, namespace=namespace, partitions=2)
    create_topics(settings)
    streams = StreamsSettings(join=JOIN, state=StateSettings(flush_s=0.05))
    worker = Member("one", kafka=settings, settings=streams, folder=tmp_path / "join", redis=redis_url)
    worker.start()
    learns = QUICK | {"model": {"positions": 3, "crosses": ["user*item"]}, "gate": {"enabled": False}}
    with FakeModelServer(model, versions=(7,)) as server:
        gateway = Process(
            {
                "kafka": settings,
                "redis": RedisSettings(url=Secret(redis_url), namespace=namespace, timeout_s=1.0),
                "features": FEATURES,
                "settings": GatewaySettings(tick_s=0.2, budget=PATIENT),
                "data": tmp_path,
                "model_server": server.address,
            }
        )
        trainer = Trainer(
            kafka=settings,
            features=FEATURES,
            settings=msgspec.convert(learns, TrainerSettings),
            data=tmp_path,
            make=Learner,
        )
        try:
            worker.ready()
            trainer.start()
            yield Parts(settings, gateway, trainer)
        finally:
            trainer.close()
            trainer.loop.learner.close()
            gateway.end()
            worker.stop()


def taught(kafka: KafkaSettings) -> list[Sample]:
    """All samples so far."""
    read = [decode_output(record.value or b"") for n in range(2) for record in records(kafka, SAMPLES, n)]
    return [each for each in read if isinstance(each, Sample)]


def test_what_editors_showed_teaches_the_model_and_is_taken_for_no_decision_of_ours(parts: Parts) -> None:
    with Client(parts.gateway.url) as client:
        for number in range(SLATES):
            for _ in range(1 + (number == 0)):  # the first one is sent twice
                client.observe(
                    f"u{number}", items=["i1", "i2", "i3"], context={"device": "phone"}, request_id=f"front-{number}"
                )
            if number:  # and is the one that nobody clicks in
                client.outcomes([{"request_id": f"front-{number}", "item_id": "i2", "kind": "click"}])
        ours = client.recommend("anna", candidates=["i1", "i3"])
    trainer = parts.trainer
    turn_until(trainer, lambda: settled(trainer) == 3 * SLATES + 2)

    events = [event for _, _, event in read_all(parts.kafka, PREDICTIONS) if isinstance(event, Prediction)]
    assert len(events) == SLATES + 2, "the first one stands there twice"
    [front] = [event for event in events if event.request_id == "front-1"]
    theirs = [sample for sample in taught(parts.kafka) if sample.request_id != ours.request_id]
    assert {(each.policy, each.fallback, each.version, len(each.propensities)) for each in theirs} == {
        (OBSERVED, OBSERVED, 0, 0)
    }
    [whole] = [sample for sample in theirs if sample.request_id == "front-0"]
    assert (whole.items, whole.emissions) == (["i1", "i2", "i3"], [NEGATIVE] * 3)
    samples = [sample for sample in theirs if sample.request_id == "front-1"]
    for sample in samples:
        assert sample.context == front.context
        assert sample.features["item_ctr"] == [
            front.features["item_ctr"][front.items.index(item)] for item in sample.items
        ]
    emitted = sorted(pair for sample in samples for pair in zip(sample.items, sample.emissions, strict=True))
    assert emitted == [("i1", NEGATIVE), ("i2", POSITIVE), ("i3", NEGATIVE)]

    # It was learned, each impression once, and what it says of positions is nothing.
    trainer.loop.validation.fold()
    rows = read_settled(trainer.places.settled)
    elsewhere = rows[rows["position"] == ELSEWHERE]
    assert (len(elsewhere), int(elsewhere["label"].sum())) == (3 * SLATES, SLATES - 1)
    assert np.isnan(elsewhere["served"]).all()
    assert sorted(rows[rows["position"] != ELSEWHERE]["position"].tolist()) == [0, 1]
    figures = trainer.loop.validation.metrics.figures()["total"]
    assert (figures["rows"], figures["rows_served"]) == (3 * SLATES + 2, 2)
    asked = msgspec.structs.replace(
        samples[0], user_id="new", items=front.items, emissions=[0] * 3, positions=[0, 1, 2], features=front.features
    )
    first, clicked, third = trainer.loop.learner.score(batch_of(trainer.spec, [asked])).tolist()
    assert clicked > max(first, third) + 0.01, "it holds for a reader who was not there"

    # The policy's own answer is the only one that counts as one; what editors show becomes a candidate.
    assert (ours.policy, ours.model.version) == ("greedy", 7)
    assert parts.gateway.status()["requests"] == 1
    until(lambda: {"i2"} <= {item["id"] for item in parts.gateway.recommend()["items"]}, "i2 is in the pool")


def settled(trainer: Trainer) -> int:
    """Impressions whose label is final."""
    trainer.loop.validation.fold()
    return int(trainer.loop.validation.metrics.total["score"].rows)
