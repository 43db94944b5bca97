"""Where predictions and outcomes come from: Kafka's topics, or a file that holds the same records, one JSON object a line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from everloop.evaluation.pair import Labelled, Partition, Rules, Span
from everloop.steer.topics import reading
from feedback.clock import to_us
from feedback.codec import decode_input
from feedback.errors import EventError, UsageError
from feedback.events import Outcome, Prediction, Tick
from feedback.settings import KafkaSettings
from feedback.topics import OUTCOMES, PREDICTIONS

Event = Prediction | Outcome | Tick


class Source:
    """Labelled slates of a time range, and what was left out of them once they were all read."""

    def __init__(self, span: Span, rules: Rules) -> None:
        self._span, self._rules = span, rules
        self.left_out: Counter[str] = Counter()

    def kafka(self, kafka: KafkaSettings) -> Iterator[Labelled]:
        """Read the topics, partition by partition, up to their ends as they are now.

        Raises:
            UnavailableError: the broker does not answer.
            UsageError: there are no such topics.
        """
        for number in range(_partitions(kafka)):
            partition = Partition(self._span, self._rules)
            for topic in (OUTCOMES, PREDICTIONS):
                partition.feed(topic, self._decoded(self._records(kafka, topic, number)))
            yield from self._slates(partition)

    def file(self, path: Path) -> Iterator[Labelled]:
        """Read a file of predictions, outcomes and ticks. A tick holds for both topics.

        Raises:
            UsageError: it cannot be read, or none of its lines is a record of these topics.
        """
        partition = Partition(self._span, self._rules)
        try:
            with path.open("rb") as lines:
                events = list(self._decoded(line for line in lines if line.strip()))
        except OSError as error:
            raise UsageError(f"{path}: {error.strerror or error}") from error
        if not events:
            raise UsageError(f"{path}: no line is a prediction, outcome or tick ({self.left_out['malformed']} are not)")
        partition.feed(OUTCOMES, (event for event in events if not isinstance(event, Prediction)))
        partition.feed(PREDICTIONS, (event for event in events if not isinstance(event, Outcome)))
        yield from self._slates(partition)

    def _slates(self, partition: Partition) -> Iterator[Labelled]:
        yield from partition.slates()
        self.left_out += partition.left_out

    def _decoded(self, values: Iterable[bytes]) -> Iterator[Event]:
        for value in values:
            try:
                yield decode_input(value)
            except EventError:
                self.left_out["malformed"] += 1

    def _records(self, kafka: KafkaSettings, topic: str, number: int) -> Iterator[bytes]:
        with reading(kafka, topic, number) as consumer:
            (place,) = consumer.assignment()
            end = consumer.end_offsets([place])[place]
            consumer.seek(place, self._first(consumer, place, end))
            while consumer.position(place) < end:
                for record in consumer.poll(timeout_ms=200, max_records=10_000).get(place, ()):
                    if record.offset < end and record.value is not None:
                        yield record.value

    def _first(self, consumer: Any, place: Any, end: int) -> int:
        """No event is further ahead of its append than `future_s`: what was appended before that is not of the range."""
        join = self._rules.join
        append_us = self._span.start - to_us(join.future_s + join.skew_s)
        if append_us <= 0:
            return int(consumer.beginning_offsets([place])[place])
        found = consumer.offsets_for_times({place: append_us // 1_000})[place]
        return int(found.offset) if found else end


def _partitions(kafka: KafkaSettings) -> int:
    with reading(kafka, PREDICTIONS) as consumer:
        known = consumer.topics()
        for topic in map(kafka.name, (PREDICTIONS, OUTCOMES)):
            if topic not in known:
                raise UsageError(f"topic {topic} does not exist at {kafka.bootstrap}: everloop topics create")
        return len(consumer.partitions_for_topic(kafka.name(PREDICTIONS)))
