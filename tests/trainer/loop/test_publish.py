"""Deltas on Kafka: whole or not at all, in parts where they are large, and read back as they were."""

from __future__ import annotations

import pytest
from crc32c import crc32c
from hypothesis import given
from hypothesis import strategies as st

from feedback.deltas import DeltaHeader, Step
from feedback.errors import FencedError
from feedback.settings import KafkaSettings
from feedback.topics import create_topics
from trainer.publish import DeltaLog, delete_before, parts_of, read_published


def header(sequence: int, **fields: object) -> DeltaHeader:
    return DeltaHeader(
        line="l",
        epoch=1,
        previous=sequence - 1,
        sequence=sequence,
        crc32c=0,
        steps=[Step(step=sequence, offsets={0: sequence}, examples=5)],
        sent_times=[1, 2],
        **fields,  # type: ignore[arg-type]
    )


@given(st.binary(max_size=500), st.integers(1, 100))
def test_parts_joined_are_the_value_and_only_the_last_carries_the_steps(value: bytes, limit: int) -> None:
    parts = parts_of(header(3), value, limit=limit)
    assert b"".join(piece for _, piece in parts) == value
    assert [(h.part, h.parts) for h, _ in parts] == [(n + 1, len(parts)) for n in range(len(parts))]
    assert all(h.crc32c == crc32c(piece) and len(piece) <= limit for h, piece in parts)
    assert [bool(h.steps) for h, _ in parts] == [False] * (len(parts) - 1) + [True]


@pytest.fixture
def topics(kafka: str, namespace: str) -> KafkaSettings:
    settings = KafkaSettings(bootstrap=kafka, namespace=namespace, partitions=1)
    create_topics(settings)
    return settings


def log(settings: KafkaSettings, *, line: str = "l", done: list[DeltaHeader] | None = None) -> DeltaLog:
    told = done if done is not None else []
    return DeltaLog(settings, line=line, part_bytes=300_000, window=4, done=told.append)


def test_a_large_delta_is_split_and_read_back_whole(topics: KafkaSettings) -> None:
    told: list[DeltaHeader] = []
    writer, value = log(topics, done=told), bytes(range(256)) * 8_000
    writer.publish([(header(1), value), (header(1, kind="checksum", expected=9), b"probe")])
    writer.publish([(header(2), b"small")])
    writer.wait(2)
    writer.close()
    found = list(read_published(topics, line="l"))
    assert [(p.header.sequence, p.header.kind, p.value) for p in found] == [
        (1, "rows", value),
        (1, "checksum", b"probe"),
        (2, "rows", b"small"),
    ]
    assert found[0].header.parts == 7
    assert found[0].header.steps == header(1).steps
    assert [(h.sequence, h.kind) for h in told] == [(1, "rows"), (1, "checksum"), (2, "rows")]
    assert writer.offset_of(2) == found[2].offset
    # 7 keys of one byte, and a header with its name in each record.
    assert len(value) + 7 * (1 + 100) < found[0].size < len(value) + 7 * 500


def test_what_is_read_back_begins_where_it_is_asked_to(topics: KafkaSettings) -> None:
    writer = log(topics)
    for sequence in (1, 2, 3):
        writer.publish([(header(sequence), b"v")])
    writer.flush()
    writer.close()
    assert [p.header.sequence for p in read_published(topics, line="l", after=1)] == [2, 3]
    assert [p.header.sequence for p in read_published(topics, line="other")] == []
    delete_before(topics, writer.offset_of(3) or 0)
    assert [p.header.sequence for p in read_published(topics, line="l")] == [3]


def test_a_second_writer_of_the_line_fences_the_first(topics: KafkaSettings) -> None:
    first = log(topics)
    first.publish([(header(1), b"v")])
    first.flush()
    second = log(topics)
    first.publish([(header(2), b"of the first")])
    with pytest.raises(FencedError, match="another trainer writes line l"):
        first.flush()
    second.publish([(header(2), b"of the second")])
    second.flush()
    first.close()
    second.close()
    assert [p.value for p in read_published(topics, line="l")] == [b"v", b"of the second"]
