"""An order is written, and waited for until the replicas have carried it out."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Literal

from msgspec.structs import replace

from everloop.steer import topics
from feedback.clock import now_us, to_us
from feedback.errors import UnavailableError
from feedback.settings import KafkaSettings
from feedback.topics import CONTROL, MODELS
from feedback.versions import Control, ModelEvent, Replica, encode
from serving.follower.plan import Known
from serving.follower.records import fold

Change = Callable[[Control, dict[int, Known]], Control]
"""An order of `orders`, its other arguments filled in."""

Missing = Callable[[Sequence[Replica]], list[str]]
"""What is still missing, in words, given what the replicas say; nothing: the order is carried out."""


def write(kafka: KafkaSettings, model: str, change: Change, *, by: str, reason: str) -> Control:
    """Read the record in force, change it, write it; answer what is in force now.

    Raises:
        UsageError: the order makes no sense; nothing was written.
        UnavailableError: the broker does not answer.
    """
    before = topics.control(kafka, model)
    known = fold(topics.events(kafka, model))
    after = change(before, known)
    # The time must rise, whoever's clock is behind: readers take the newest.
    record = replace(after, time=max(now_us(), before.time + 1), by=by, reason=reason)
    send(kafka, CONTROL, model.encode(), encode(record))
    return record


def tell(kafka: KafkaSettings, event: ModelEvent) -> None:
    """Write an event in a version's life. Raises UnavailableError."""
    send(kafka, MODELS, event.key, encode(event))


def send(kafka: KafkaSettings, topic: str, key: bytes, value: bytes) -> None:
    """Write one record and wait until it is there. Raises UnavailableError."""
    from kafka import KafkaProducer
    from kafka.errors import KafkaError

    try:
        producer = KafkaProducer(**kafka.client(), acks="all", max_block_ms=10_000)
        try:
            producer.send(kafka.name(topic), key=key, value=value).get(timeout=30)
        finally:
            producer.close(timeout=5)
    except KafkaError as error:
        raise UnavailableError(f"kafka at {kafka.bootstrap}: {error}") from error


def wait(
    kafka: KafkaSettings,
    model: str,
    missing: Missing,
    *,
    timeout_s: float,
    silent_s: float,
    say: Callable[[str], None] = lambda _: None,
) -> list[str]:
    """Wait until every replica that still reports has carried the order out; answer what is missing when the time is over.

    Raises:
        UnavailableError: the broker does not answer.
    """
    deadline, said = time.monotonic() + timeout_s, ""
    while True:
        left = missing(alive(topics.replicas(kafka, model), now=now_us(), silent_s=silent_s))
        if not left or time.monotonic() >= deadline:
            return left
        if (text := "; ".join(left)) != said:
            say(f"waiting: {text}")
            said = text
        time.sleep(0.3)


def alive(replicas: Sequence[Replica], *, now: int, silent_s: float) -> list[Replica]:
    """The replicas that have reported not long ago."""
    return [replica for replica in replicas if now - replica.time <= to_us(silent_s)]


def until_live(version: int) -> Missing:
    """All replicas have that version live."""
    return lambda replicas: (
        _none(replicas)
        or [f"replica {r.replica} has version {r.live} live{_because(r)}" for r in replicas if r.live != version]
    )


def until_epoch(epoch: int) -> Missing:
    """All replicas serve a base of that epoch or a later one."""
    return lambda replicas: (
        _none(replicas)
        or [
            f"replica {r.replica} serves version {r.live} of epoch {r.epoch}{_because(r)}"
            for r in replicas
            if r.epoch < epoch
        ]
    )


def until_canary(version: int) -> Missing:
    """All replicas have loaded that version."""
    return lambda replicas: (
        _none(replicas)
        or [
            f"replica {r.replica} has not loaded version {version}{_because(r)}"
            for r in replicas
            if version not in r.loaded
        ]
    )


def _none(replicas: Sequence[Replica]) -> list[str]:
    return [] if replicas else ["no replica reports: is a follower up?"]


def _because(replica: Replica) -> str:
    return f" ({replica.problem})" if replica.problem else ""


def tell_of(
    kafka: KafkaSettings, model: str, version: int, event: Literal["rolled_back", "promoted", "dropped"], *, by: str,
    reason: str, epoch: int = 0,
) -> None:  # fmt: skip
    """Write what an order means in a version's life; line, place and sequence are those of the version. Raises UnavailableError."""
    known = fold(topics.events(kafka, model)).get(version)
    tell(
        kafka,
        ModelEvent(
            model=model,
            line=known.line if known else "",
            version=version,
            event=event,
            time=now_us(),
            epoch=known.epoch if known else epoch,
            sequence=known.sequence if known else 0,
            by=by,
            reason=reason,
        ),
    )
