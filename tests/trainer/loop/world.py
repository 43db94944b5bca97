"""Samples as the join would write them: some readers, some items of different appeal, labels that settle after a window."""

from __future__ import annotations

import random
from collections.abc import Iterator

from kafka import KafkaProducer

from feedback.clock import now_us
from feedback.codec import encode
from feedback.events import NEGATIVE, POSITIVE, REVISION, Ledger, Progress, Sample
from feedback.features import Feature
from feedback.settings import KafkaSettings
from feedback.topics import SAMPLES

FEATURES = (
    Feature(name="user", source="user"),
    Feature(name="item", source="item"),
    Feature(name="match", source="candidate"),
)
"""What the model sees; that an item matches its reader is what an item's click rate can't know."""
START = 1_700_000_000_000_000
WINDOW = 60_000_000
GAP = 1_000_000
"""One slate a second."""


def slates(count: int, *, seed: int = 1, positions: int = 5, items: int = 40, first: int = 0) -> Iterator[list[Sample]]:
    """Per slate its samples: the negatives (or all, where nothing comes later), then perhaps a revision."""
    chance = random.Random(seed)
    appeal = [random.Random(seed * 1000 + i).uniform(0.5, 1.0) for i in range(items)]
    for number in range(first, first + count):
        shown = chance.sample(range(items), positions)
        clicked = [chance.random() < appeal[item] * (0.9 if (number + item) % 3 == 0 else 0.1) for item in shown]
        later = chance.random() < 0.5
        time = START + number * GAP
        yield list(_samples(number, shown, clicked, time, f"u{chance.randrange(200)}", later))


def _samples(number: int, shown: list[int], clicked: list[bool], time: int, user: str, later: bool) -> Iterator[Sample]:
    first = [POSITIVE if hit and not later else NEGATIVE for hit in clicked]
    yield sample(number, shown, first, list(range(len(shown))), time=time, user=user)
    turned = [at for at, hit in enumerate(clicked) if hit and later]
    if turned:
        yield sample(number, [shown[at] for at in turned], [REVISION] * len(turned), turned, time=time, user=user)


def sample(
    number: int, shown: list[int], emissions: list[int], positions: list[int], *, time: int = START, user: str = "u"
) -> Sample:
    """One sample of slate `number`."""
    kind = "r" if emissions[0] == REVISION else "f"
    return Sample(
        sample_id=f"s{number}{kind}",
        request_id=f"r{number}",
        user_id=user,
        event_time=time,
        settle_time=time + WINDOW,
        label_policy="click",
        emissions=emissions,
        positions=positions,
        items=[f"i{item}" for item in shown],
        scores=[0.2] * len(shown),
        features={"match": [str((number + item) % 3 == 0) for item in shown]},
        policy="test",
        sent_times=[now_us()] if any(emissions) else [],
    )


def progress(partition: int, watermark: int) -> Progress:
    """How far a partition has come."""
    return Progress(
        partition=partition,
        watermark=watermark,
        predictions_offset=0,
        outcomes_offset=0,
        ledger=Ledger(),
        sent_time=now_us(),
    )


class Join:
    """Writes samples and progress in transactions, as the join does."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._topic, self._partitions = settings.name(SAMPLES), settings.partitions
        self._producer = KafkaProducer(
            **settings.client(), transactional_id=settings.name("test-join"), acks="all", linger_ms=5
        )
        self._producer.init_transactions()

    def write(self, slates: list[list[Sample]], *, watermark: int | None = None) -> None:
        """Write slates to their partitions, and in the same transaction the progress of every partition."""
        self._producer.begin_transaction()
        newest = 0
        for parts in slates:
            for each in parts:
                partition = int(each.request_id[1:]) % self._partitions
                self._producer.send(self._topic, key=each.request_id.encode(), value=encode(each), partition=partition)
                newest = max(newest, each.event_time)
        for partition in range(self._partitions):
            record = progress(partition, newest if watermark is None else watermark)
            self._producer.send(self._topic, value=encode(record), partition=partition)
        self._producer.commit_transaction()

    def close(self) -> None:
        """Disconnect."""
        self._producer.close(timeout=5)
