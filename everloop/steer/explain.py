"""From a request to what its model had learned by then, and to how the request taught the model afterwards.

Everything is read from the topics and the version's manifest; nothing is kept for it. Scans take time in proportion to what the
topics hold of the request's partition.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from everloop.steer import topics
from feedback.codec import decode_input, decode_output
from feedback.deltas import DeltaHeader, Step, read_header
from feedback.errors import EventError, UnavailableError, UsageError
from feedback.events import OBSERVED, Outcome, Prediction, Sample
from feedback.settings import KafkaSettings
from feedback.topics import DELTAS, OUTCOMES, PREDICTIONS, SAMPLES
from feedback.versions import MANIFEST, Manifest, ModelEvent


class Place(Struct, frozen=True, kw_only=True):
    """Where a record stands."""

    partition: int
    offset: int


class Served(Struct, frozen=True, kw_only=True):
    """What the reader was shown."""

    place: Place
    request_id: str
    user_id: str
    event_time: int
    items: list[str]
    policy: str
    """`observed`: something else chose the slate."""
    model: str
    version: int
    """0: the model's scores were not used."""
    epoch: int
    sequence: int
    fallback: str


class Learned(Struct, frozen=True, kw_only=True):
    """What the model had learned at least when it answered."""

    line: str
    version: int
    base_sequence: int
    """What the version contained as exported …"""
    sequence: int
    """… and with the deltas that it had been given."""
    deltas: int
    """Deltas between the two that are still in the log."""
    complete: bool
    """Whether all of them are still there."""
    offsets: dict[int, int]
    """Next offset of each partition of samples."""
    watermark: int
    """Event time up to which the learned labels were complete, µs."""
    code_version: str = ""
    checkpoint: str = ""


class Happened(Struct, frozen=True, kw_only=True):
    """What the reader did."""

    place: Place
    event_id: str
    item_id: str
    kind: str
    value: float
    event_time: int


class Taught(Struct, frozen=True, kw_only=True):
    """A delta that carries what the model learned from a sample."""

    line: str
    epoch: int
    sequence: int
    step: int
    trained_time: int
    certain: bool
    """False: what came before it is no longer in the log, so that an earlier delta may have carried it."""


class Labelled(Struct, frozen=True, kw_only=True):
    """A sample that the join made of the request."""

    place: Place
    sample_id: str
    items: list[str]
    emissions: list[int]
    """0 negative, 1 positive, 2 revision."""
    label_policy: str
    taught: list[Taught]
    """Empty: not learned yet."""


class Explanation(Struct, frozen=True, kw_only=True):
    """The lineage of one request."""

    served: Served
    learned: Learned | None
    """None: the model's scores were not used (or the slate was observed), or its version is no longer known."""
    outcomes: list[Happened]
    samples: list[Labelled]
    note: str = ""


@dataclass(frozen=True)
class Carried:
    """One delta of the log, as much of it as lineage needs."""

    header: DeltaHeader
    offset: int


def explain(
    kafka: KafkaSettings,
    request_id: str,
    *,
    folders: Iterable[Path] = (),
    storage: Mapping[str, Any] | None = None,
) -> Explanation:
    """Follow a request through the loop. `folders`: where versions may lie on this machine (`FOLDER/<version>`).

    Raises:
        UsageError: there is no such request in the log.
        UnavailableError: the broker does not answer.
    """
    partition = partition_of(request_id, kafka.partitions)
    place, prediction = _prediction(kafka, partition, request_id)
    samples = list(_samples(kafka, partition, request_id))
    deltas = list(carried(kafka))
    known = topics.events(kafka, prediction.model) if prediction.model else []
    manifest = _manifest(known, prediction.version, list(folders), storage or {}) if prediction.version else None
    return Explanation(
        served=_served(place, prediction),
        learned=learned(prediction, manifest, deltas) if manifest else None,
        outcomes=list(_outcomes(kafka, partition, request_id)),
        samples=[_labelled(at, sample, deltas) for at, sample in samples],
        note=_note(prediction, manifest),
    )


def partition_of(key: str, partitions: int) -> int:
    """The partition that every producer of the loop puts a key into (Kafka's murmur2)."""
    from kafka.partitioner.default import murmur2

    return int((murmur2(key.encode()) & 0x7FFFFFFF) % partitions)


def learned(prediction: Prediction, manifest: Manifest, deltas: Iterable[Carried]) -> Learned:
    """What a base with the deltas up to a sequence has learned."""
    offsets, watermark, at, count = dict(manifest.offsets), manifest.watermark, manifest.sequence, 0
    for each in deltas:
        header = each.header
        fits = header.line == manifest.line and header.epoch == manifest.epoch and header.kind == "rows"
        if not fits or not at < header.sequence <= prediction.sequence:
            continue
        at, count, watermark = header.sequence, count + 1, max(watermark, header.watermark)
        for step in header.steps:
            offsets |= step.offsets
    return Learned(
        line=manifest.line,
        version=manifest.version,
        base_sequence=manifest.sequence,
        sequence=prediction.sequence,
        deltas=count,
        complete=at == max(prediction.sequence, manifest.sequence)
        and count == max(prediction.sequence - manifest.sequence, 0),
        offsets=offsets,
        watermark=watermark,
        code_version=manifest.code_version,
        checkpoint=manifest.checkpoint,
    )


def taught(place: Place, deltas: Iterable[Carried], *, examples: int) -> list[Taught]:
    """The deltas whose steps took the sample at a place in, per line and epoch; several where a step ended inside it."""
    found: list[Taught] = []
    before: dict[tuple[str, int], tuple[int, int]] = {}
    for each in deltas:
        header = each.header
        for step in header.steps:
            if place.partition not in step.offsets:
                continue
            line = (header.line, header.epoch)
            until = (step.offsets[place.partition], step.partial.get(place.partition, 0))
            since = before.get(line)
            if until > (place.offset, 0) and not _done(since, place, examples):
                found.append(_taught(header, step, certain=since is not None or place.offset == 0))
            before[line] = until
    return found


def _done(since: tuple[int, int] | None, place: Place, examples: int) -> bool:
    return since is not None and (since[0] > place.offset or (since[0] == place.offset and since[1] >= examples > 0))


def _taught(header: DeltaHeader, step: Step, *, certain: bool) -> Taught:
    return Taught(
        line=header.line,
        epoch=header.epoch,
        sequence=header.sequence,
        step=step.step,
        trained_time=header.trained_time,
        certain=certain,
    )


def carried(kafka: KafkaSettings) -> Iterator[Carried]:
    """The headers of the deltas topic, one for each delta, in order. Raises UnavailableError."""
    for record in topics.records(kafka, DELTAS):
        try:
            header = read_header(record.headers)
        except EventError:
            continue
        # The steps travel with the last part.
        if header.kind == "rows" and header.part == header.parts:
            yield Carried(header, record.offset)


def _prediction(kafka: KafkaSettings, partition: int, request_id: str) -> tuple[Place, Prediction]:
    for place, value in _of(kafka, PREDICTIONS, partition, request_id):
        event = _decoded(decode_input, value)
        if isinstance(event, Prediction):
            return place, event
    raise UsageError(f"request {request_id}: not in partition {partition} of topic {kafka.name(PREDICTIONS)}")


def _outcomes(kafka: KafkaSettings, partition: int, request_id: str) -> Iterator[Happened]:
    for place, value in _of(kafka, OUTCOMES, partition, request_id):
        event = _decoded(decode_input, value)
        if isinstance(event, Outcome):
            yield Happened(
                place=place, event_id=event.event_id, item_id=event.item_id, kind=event.kind, value=event.value,
                event_time=event.event_time,
            )  # fmt: skip


def _samples(kafka: KafkaSettings, partition: int, request_id: str) -> Iterator[tuple[Place, Sample]]:
    for place, value in _of(kafka, SAMPLES, partition, request_id):
        record = _decoded(decode_output, value)
        if isinstance(record, Sample):
            yield place, record


def _of(kafka: KafkaSettings, topic: str, partition: int, request_id: str) -> Iterator[tuple[Place, bytes]]:
    key = request_id.encode()
    for record in topics.records(kafka, topic, partition):
        if record.key == key and record.value:
            yield Place(partition=partition, offset=record.offset), record.value


def _decoded(decode: Any, value: bytes) -> Any:
    try:
        return decode(value)
    except EventError:
        return None


def _served(place: Place, event: Prediction) -> Served:
    return Served(
        place=place, request_id=event.request_id, user_id=event.user_id, event_time=event.event_time, items=event.items,
        policy=event.policy, model=event.model, version=event.version, epoch=event.epoch, sequence=event.sequence,
        fallback=event.fallback,
    )  # fmt: skip


def _labelled(place: Place, sample: Sample, deltas: list[Carried]) -> Labelled:
    return Labelled(
        place=place,
        sample_id=sample.sample_id,
        items=sample.items,
        emissions=sample.emissions,
        label_policy=sample.label_policy,
        taught=taught(place, deltas, examples=len(sample.emissions)),
    )


def _note(prediction: Prediction, manifest: Manifest | None) -> str:
    if prediction.policy == OBSERVED:
        return "something else chose this slate, and a producer told of it: no model was asked, no policy of everloop's"
    if not prediction.version:
        return f"answered without the model's scores: {prediction.fallback or 'no version'}"
    return "" if manifest else f"the manifest of version {prediction.version} is no longer to be found"


def _manifest(
    events: list[ModelEvent], version: int, folders: list[Path], storage: Mapping[str, Any]
) -> Manifest | None:
    """The manifest, from the store that the models topic names or from this machine's folders."""
    for folder in folders:
        path = folder / str(version) / MANIFEST
        if path.is_file():
            return msgspec.json.decode(path.read_bytes(), type=Manifest)
    for uri in {event.uri for event in events if event.version == version and event.uri}:
        try:
            return msgspec.json.decode(_read(f"{uri.rstrip('/')}/{MANIFEST}", storage), type=Manifest)
        except UnavailableError:
            continue
    return None


def _read(uri: str, storage: Mapping[str, Any]) -> bytes:
    import fsspec

    try:
        with fsspec.open(uri, "rb", **storage) as file:
            data: bytes = file.read()
    except (OSError, ValueError, ImportError) as error:
        raise UnavailableError(f"{uri}: {error}") from error
    return data
