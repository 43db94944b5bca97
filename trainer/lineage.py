"""Lineage: which delta carried the samples of a request, and what a model at some sequence had learned from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from feedback.codec import decode_output
from feedback.deltas import DeltaHeader
from feedback.errors import EventError, UnavailableError
from feedback.events import NEGATIVE, REVISION, Sample
from feedback.settings import KafkaSettings
from feedback.topics import SAMPLES
from feedback.versions import Manifest

_NAMES = {NEGATIVE: "negative", REVISION: "revision"}


@dataclass(frozen=True, kw_only=True)
class Taught:
    """How one sample of a request taught the model."""

    sample_id: str
    partition: int
    offset: int
    joined: int
    """When the join's record was appended, µs."""
    emissions: list[str]
    """`item: negative | positive | revision`, per example."""
    step: int
    """The training step that took it in; 0: none that is still in the topic."""
    sequence: int
    """The delta that carried the step."""
    epoch: int
    trained: int
    """When that delta was cut, µs."""

    def figures(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Learned:
    """What a model at a sequence had learned from."""

    offsets: dict[int, int]
    """Next offset of each partition of samples, as far as the kept deltas say."""
    watermark: int
    """Event time up to which the learned labels were complete, µs."""
    trained: int
    """When its last step was taken, µs."""
    step: int


def learned(headers: Iterable[DeltaHeader], *, base: Manifest, sequence: int) -> Learned | None:
    """Say what a model that began as `base` had learned from at a sequence; None where the deltas that tell are not kept."""
    if sequence <= base.sequence:
        return Learned(offsets=dict(base.offsets), watermark=base.watermark, trained=base.created, step=base.step)
    offsets = dict(base.offsets)
    last: DeltaHeader | None = None
    for header in headers:
        if header.kind == "rows" and header.epoch == base.epoch and base.sequence < header.sequence <= sequence:
            for each in header.steps:
                offsets |= each.offsets
            last = header if header.part == header.parts else last
    if last is None or last.sequence != sequence:
        return None
    step = max((each.step for each in last.steps), default=0)
    return Learned(offsets=offsets, watermark=last.watermark, trained=last.trained_time, step=step)


def carrier(headers: Iterable[DeltaHeader], *, partition: int, offset: int) -> tuple[DeltaHeader, int] | None:
    """The first delta, with its step, that took in the record at an offset; in the newest epoch that did."""
    found: tuple[DeltaHeader, int] | None = None
    for header in headers:
        if header.kind != "rows" or (found and header.epoch == found[0].epoch):
            continue
        for step in header.steps:
            if step.offsets.get(partition, 0) > offset:
                found = header, step.step
                break
    return found


def samples_of(
    kafka: KafkaSettings, request_id: str, *, partition: int, since_ms: int
) -> list[tuple[int, int, Sample]]:
    """Read a request's samples: (offset, appended µs, sample). `since_ms`: Kafka timestamp from which to look.

    Raises:
        UnavailableError: the broker does not answer.
    """
    place = TopicPartition(kafka.name(SAMPLES), partition)
    found: list[tuple[int, int, Sample]] = []
    try:
        consumer = KafkaConsumer(
            **kafka.client(), group_id=None, enable_auto_commit=False, isolation_level="read_committed"
        )
        try:
            consumer.assign([place])
            at = consumer.offsets_for_times({place: since_ms})[place]
            end = consumer.end_offsets([place])[place]
            consumer.seek(place, at.offset if at is not None else end)
            while consumer.position(place) < end:
                for record in consumer.poll(timeout_ms=500).get(place, []):
                    if record.key == request_id.encode():
                        found += _sample(record)
        finally:
            consumer.close()
    except KafkaError as error:
        raise UnavailableError(f"kafka at {kafka.bootstrap}: {error}") from error
    return found


def taught(headers: list[DeltaHeader], *, partition: int, found: list[tuple[int, int, Sample]]) -> list[Taught]:
    """Tell for each of a request's samples how it taught the model."""
    told = []
    for offset, appended, sample in found:
        carried = carrier(headers, partition=partition, offset=offset)
        header, step = carried if carried is not None else (None, 0)
        told.append(
            Taught(
                sample_id=sample.sample_id,
                partition=partition,
                offset=offset,
                joined=appended,
                emissions=[
                    f"{item}: {_NAMES.get(emission, 'positive')}"
                    for item, emission in zip(sample.items, sample.emissions, strict=True)
                ],
                step=step,
                sequence=header.sequence if header else 0,
                epoch=header.epoch if header else 0,
                trained=header.trained_time if header else 0,
            )
        )
    return told


def _sample(record: Any) -> list[tuple[int, int, Sample]]:
    try:
        event = decode_output(record.value or b"")
    except EventError:
        return []
    return [(record.offset, record.timestamp * 1_000, event)] if isinstance(event, Sample) else []
