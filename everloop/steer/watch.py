"""The watcher: rolls back a version under which requests fail, and judges the canary.

It reads what the loop records anyway (predictions, samples, the models topic), so that it needs no access to any other part.
Several may run: one consumer group over the control topic's one partition decides which of them acts.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from typing import Any

import msgspec

from everloop.steer import control as steer
from everloop.steer import orders, topics
from everloop.steer.canary import Arm, Sequence, Users, Verdict, judge
from everloop.steer.guard import Guard
from everloop.steer.metrics import Metrics
from everloop.steer.settings import SteerSettings
from feedback.clock import SECOND, now_us
from feedback.codec import decode_input, decode_output
from feedback.errors import EventError, UnavailableError, UsageError
from feedback.events import NEGATIVE, OBSERVED, Prediction, Progress, Sample
from feedback.settings import KafkaSettings
from feedback.topics import CONTROL, MODELS, PREDICTIONS, SAMPLES
from feedback.versions import Canary, Control, ModelEvent

log = logging.getLogger("everloop.steer")

_PATIENCE = 25
"""Looks for a topic before it counts as missing."""


class Trial:
    """One canary's evidence: samples until they settle, then users, then the interval. No clock, no I/O."""

    def __init__(self, canary: Canary, settings: SteerSettings) -> None:
        self.canary, self._settings = canary, settings.canary
        self._sequence, self._users = Sequence(settings.canary), Users(settings.canary)
        self._open: dict[int, dict[str, tuple[Sample, set[int]]]] = {}
        self.watermark = 0

    def sample(self, partition: int, sample: Sample) -> None:
        """Take a sample: the clicks of a request come in one after another until it settles."""
        # Version 0: a fallback, or a slate that something else chose.
        if not sample.version or sample.event_time < self.canary.started:
            return
        requests = self._open.setdefault(partition, {})
        _, clicked = requests.setdefault(sample.request_id, (sample, set()))
        clicked |= {place for place, kind in zip(sample.positions, sample.emissions, strict=True) if kind > NEGATIVE}

    def progress(self, partition: int, watermark: int) -> None:
        """Event time has come this far in a partition: what settles before it is final."""
        requests = self._open.get(partition, {})
        settled = [key for key, (sample, _) in requests.items() if sample.settle_time <= watermark]
        for key in settled:
            sample, clicked = requests.pop(key)
            arm: Arm = "canary" if sample.version == self.canary.version else "live"
            self._take(self._users.request(sample.user_id, arm, len(clicked), sample.event_time))
        self.watermark = max(self.watermark, watermark)

    def verdict(self) -> Verdict:
        """Judge, with all that is known now."""
        for found in self._users.expire(self.watermark):
            self._take(found)
        elapsed_s = (self.watermark - self.canary.started) / SECOND if self.watermark else 0.0
        return judge(self._sequence.interval(), elapsed_s=elapsed_s, settings=self._settings)

    def _take(self, found: Any) -> None:
        if found is not None:
            self._sequence.add(*found)


class Watcher:
    """Reads the topics and acts; `run` until stopped."""

    def __init__(self, kafka: KafkaSettings, settings: SteerSettings, *, model: str) -> None:
        self._kafka, self._settings, self._model = kafka, settings, model
        self._guard = Guard(settings.guard)
        self._trial: Trial | None = None
        self._judged = 0
        self._live = 0
        self._control = Control(model=model)
        self._stopped = threading.Event()
        self.status: dict[str, Any] = {"leading": False}
        self.metrics = Metrics()

    def stop(self) -> None:
        """End `run`."""
        self._stopped.set()

    def run(self) -> None:
        """Watch until stopped; connect again after any failure."""
        from kafka.errors import KafkaError

        while not self._stopped.is_set():
            try:
                self._watch()
            except (KafkaError, UnavailableError) as error:
                log.warning("kafka: %s", error)
                self._stopped.wait(1.0)

    def _watch(self) -> None:
        from kafka import KafkaConsumer

        leader = KafkaConsumer(
            self._kafka.name(CONTROL), **self._kafka.client(), group_id=self._kafka.name("everloop-steer"),
            enable_auto_commit=False, auto_offset_reset="earliest",
        )  # fmt: skip
        try:
            with self._reader() as reader:
                while not self._stopped.is_set():
                    leader.poll(timeout_ms=100)
                    self.status["leading"] = bool(leader.assignment())
                    self.metrics.leading.set(bool(leader.assignment()))
                    self.take(reader.poll(timeout_ms=200))
                    if leader.assignment():
                        self.act(now_us())
        finally:
            leader.close()

    def _reader(self) -> Any:
        return _Following(self._kafka, beginning=(CONTROL, MODELS), end=(PREDICTIONS, SAMPLES))

    def take(self, batches: Mapping[Any, list[Any]]) -> None:
        """Take what has come."""
        for partition, records in batches.items():
            topic = partition.topic.removeprefix(self._kafka.namespace)
            for record in records:
                try:
                    self._take(topic, record)
                except (EventError, msgspec.DecodeError) as error:
                    log.warning("offset %s of %s is left out: %s", record.offset, record.topic, error)

    def _take(self, topic: str, record: Any) -> None:
        if not record.value:
            return
        if topic == CONTROL and record.key == self._model.encode():
            self._ordered(msgspec.json.decode(record.value, type=Control))
        elif topic == MODELS:
            event = msgspec.json.decode(record.value, type=ModelEvent)
            if event.model == self._model and event.event == "live" and event.time > self._control.time:
                self._live = event.version
                self._guard.moved(event.version, event.time)
        elif topic == PREDICTIONS:
            answer = decode_input(record.value)
            if isinstance(answer, Prediction) and _blames(answer):
                self._guard.answered(bool(answer.fallback), answer.sent_time)
        elif topic == SAMPLES and self._trial is not None:
            output = decode_output(record.value)
            if isinstance(output, Sample):
                self._trial.sample(record.partition, output)
            elif isinstance(output, Progress):
                self._trial.progress(output.partition, output.watermark)

    def _ordered(self, control: Control) -> None:
        self._control = control
        if control.canary is None:
            self._trial = None
        elif self._trial is None or self._trial.canary != control.canary:
            self._trial = Trial(control.canary, self._settings)

    def act(self, now: int) -> None:
        """Carry out what follows from what has come."""
        alarm = self._guard.verdict(now)
        if alarm is not None and not self._control.paused and not self._control.pinned:
            self._roll_back(alarm.version, alarm.reason)
        if self._trial is not None and now - self._judged >= self._settings.canary.look_s * SECOND:
            self._judged = now
            verdict = self._trial.verdict()
            self.status["canary"] = {"version": self._trial.canary.version, "verdict": verdict.reason}
            if verdict.action != "wait":
                self._end_trial(self._trial.canary.version, verdict)

    def _roll_back(self, version: int, reason: str) -> None:
        try:
            written = steer.write(
                self._kafka, self._model, lambda c, known: orders.rollback(c, known, orders.before(known, version)),
                by="watcher", reason=reason,
            )  # fmt: skip
        except UsageError as error:
            log.error("version %s: %s; but %s", version, reason, error)
            self._guard.moved(0, now_us())
            return
        log.error("rolled back to version %s: %s", written.version, reason)
        self.metrics.rollbacks.inc()
        self._control = written
        self._guard.moved(0, now_us())
        steer.tell_of(self._kafka, self._model, written.version, "rolled_back", by="watcher", reason=reason)

    def _end_trial(self, version: int, verdict: Verdict) -> None:
        promote = verdict.action == "promote"
        order = orders.promote_canary if promote else orders.drop_canary
        try:
            written = steer.write(self._kafka, self._model, lambda c, _: order(c), by="watcher", reason=verdict.reason)
        except UsageError:
            written = topics.control(self._kafka, self._model)
        log.warning("canary %s: %s: %s", version, verdict.action, verdict.reason)
        self._ordered(written)
        event: Any = "promoted" if promote else "dropped"
        self.metrics.trials.labels(event).inc()
        steer.tell_of(self._kafka, self._model, version, event, by="watcher", reason=verdict.reason)


def _blames(answer: Prediction) -> bool:
    """Whether an answer says something of the version in force: a slate that something else chose does not, and a server that is away is
    no version's fault (a rollback would not bring it back)."""
    return answer.policy != OBSERVED and answer.fallback != "model_unavailable"


class _Following:
    """A consumer of all partitions of some topics, from the beginning of some and the end of others."""

    def __init__(self, kafka: KafkaSettings, *, beginning: tuple[str, ...], end: tuple[str, ...]) -> None:
        self._kafka, self._beginning, self._end = kafka, beginning, end

    def __enter__(self) -> Any:
        from kafka import KafkaConsumer, TopicPartition

        self._consumer = KafkaConsumer(
            **self._kafka.client(),
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
        )
        places: dict[str, list[Any]] = {}
        for topic in (*self._beginning, *self._end):
            name = self._kafka.name(topic)
            places[topic] = [TopicPartition(name, number) for number in sorted(self._partitions(name))]
        self._consumer.assign([place for topic in places.values() for place in topic])
        self._consumer.seek_to_beginning(*(place for topic in self._beginning for place in places[topic]))
        self._consumer.seek_to_end(*(place for topic in self._end for place in places[topic]))
        return self._consumer

    def _partitions(self, name: str) -> set[int]:
        for _ in range(_PATIENCE):
            self._consumer.topics()
            if found := self._consumer.partitions_for_topic(name):
                return set(found)
            time.sleep(0.2)
        raise UnavailableError(f"topic {name} does not exist: `everloop topics create`")

    def __exit__(self, *_: object) -> None:
        self._consumer.close()
