"""The dead letters: list what the join refused, and feed it again once what was wrong is mended.

A letter is fed as it came: the same bytes and key, to the same partition of the same topic. What was taught in the meantime is known by
its id, so feeding a letter twice does no harm; what is still wrong comes back as a new letter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError
from msgspec import Struct

from feedback.codec import decode_deadletter
from feedback.errors import EventError, UnavailableError, UsageError
from feedback.events import DeadLetter
from feedback.settings import KafkaSettings
from feedback.topics import DEADLETTER

REPLAYED = "everloop-replayed"
"""Header of a record that was fed again: the letter's offset."""


class Letter(Struct, frozen=True, kw_only=True):
    """A dead letter and where it lies."""

    offset: int
    """Its offset in the topic of dead letters: what to name it by."""
    letter: DeadLetter


def list_(
    kafka: KafkaSettings, *, reasons: Iterable[str] = (), offsets: Iterable[int] = (), limit: int = 0
) -> list[Letter]:
    """List the committed dead letters, oldest first; those of some reasons or offsets only, the newest `limit` only (0: all).

    Raises:
        UnavailableError: no broker answers.
        UsageError: there is no topic of dead letters.
    """
    wanted, named = frozenset(reasons), frozenset(offsets)
    found = [
        letter
        for letter in _read(kafka)
        if (not wanted or letter.letter.reason in wanted) and (not named or letter.offset in named)
    ]
    return found[-limit:] if limit else found


def replay(kafka: KafkaSettings, letters: Iterable[Letter]) -> Counter[str]:
    """Feed letters again and wait until the broker has them; answers how many of each reason.

    Raises:
        UnavailableError: the broker did not take one of them; those before it are fed.
    """
    fed: Counter[str] = Counter()
    try:
        producer = KafkaProducer(**kafka.client(), acks="all")
    except KafkaError as error:
        raise UnavailableError(f"kafka: no broker answers at {kafka.bootstrap}: {error}") from error
    try:
        for each in letters:
            letter = each.letter
            producer.send(
                kafka.name(letter.topic),
                key=letter.key,
                value=letter.value,
                partition=letter.partition,
                headers=[(REPLAYED, str(each.offset).encode())],
            ).get(timeout=30)
            fed[letter.reason] += 1
    except KafkaError as error:
        raise UnavailableError(f"kafka: a letter could not be fed again: {error}") from error
    finally:
        producer.close()
    return fed


def _read(kafka: KafkaSettings) -> Iterator[Letter]:
    partition = TopicPartition(kafka.name(DEADLETTER), 0)
    try:
        consumer = KafkaConsumer(
            **kafka.client(), isolation_level="read_committed", enable_auto_commit=False, auto_offset_reset="earliest"
        )
    except KafkaError as error:
        raise UnavailableError(f"kafka: no broker answers at {kafka.bootstrap}: {error}") from error
    try:
        if partition.topic not in consumer.topics():
            raise UsageError(f"topic {partition.topic} does not exist at {kafka.bootstrap}: everloop topics create")
        consumer.assign([partition])
        consumer.seek_to_beginning(partition)
        end = consumer.end_offsets([partition])[partition]
        while consumer.position(partition) < end:
            for record in consumer.poll(timeout_ms=500).get(partition, ()):
                try:
                    yield Letter(offset=record.offset, letter=decode_deadletter(record.value))
                except EventError:
                    # Somebody else wrote it: not ours to feed again.
                    continue
    except KafkaError as error:
        raise UnavailableError(f"kafka at {kafka.bootstrap}: {error}") from error
    finally:
        consumer.close()
