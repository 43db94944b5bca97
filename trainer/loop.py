"""The loop's heart, without I/O: a step takes records in; a cut says what leaves. Wall time is an argument."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from feedback.deltas import DeltaHeader, Step
from feedback.errors import EventError
from feedback.events import MAX_SENT_TIMES, Sample
from feedback.features import FeatureSpec
from trainer.batch import Batch, batch_of
from trainer.contract import Learns
from trainer.finite import not_finite
from trainer.gate import Gate, RefusedError
from trainer.origin import Alarm
from trainer.steps import Take
from trainer.validate import Validation

Outgoing = list[tuple[DeltaHeader, bytes]]


class Loop:
    """One model line that learns: learner, validation and gate go forward together, step by step."""

    def __init__(
        self,
        spec: FeatureSpec,
        learner: Learns,
        validation: Validation,
        gate: Gate,
        *,
        line: str,
        checksum_every: int,
        warmup_rows: int,
    ) -> None:
        self.spec, self.learner, self.validation, self.gate = spec, learner, validation, gate
        self.line = line
        self._checksum_every, self._warmup_rows = checksum_every, warmup_rows
        self.pending: list[Step] = []
        """Steps that no delta carries yet."""
        self.sent_times: list[int] = []
        """Of the outcomes that the pending steps learned from."""
        self.examples = 0
        """Examples learned in this process."""
        self.refused = 0
        """Samples that could not be learned in this process."""
        self.warmup: Batch | None = None
        """Rows for the warm-up requests of a version."""

    @property
    def learned(self) -> bool:
        """Whether something was learned that no delta carries yet."""
        return any(step.examples for step in self.pending)

    def step(self, take: Take) -> Alarm | None:
        """Score and learn the samples, then settle, each in canonical order; the gate looks at all of it."""
        alarm = self._learn(take)
        self.pending.append(Step(step=self.learner.step, offsets=take.offsets, examples=take.examples))
        for record in take.records:
            if not isinstance(record.event, Sample):
                settled = self.validation.settle(record.partition, record.event.watermark)
                if settled is not None:
                    alarm = alarm or self.gate.settled(settled)
        if alarm is None and self.gate.probe_due(self.learner.step):
            batch = batch_of(self.spec, self.gate.probe_samples)
            alarm = self.gate.probe(self.learner.score(batch), self.learner.step)
        return alarm

    def cut(self, now: int) -> Outgoing:
        """Take what was learned since the last cut as a delta (and, when it is due, the checksum behind it); nothing if nothing was.

        `now`: wall clock, µs.

        Raises:
            RefusedError: a number in it is not finite.
        """
        previous = self.learner.sequence
        value = self.learner.take_delta()
        if not value:
            return []
        bad = not_finite(self.learner, value)
        if bad:
            raise RefusedError(Alarm("non_finite_weights", bad, 0, self.pending[0].step if self.pending else 0))
        sequence = self.learner.sequence
        header = DeltaHeader(
            line=self.line,
            epoch=self.learner.epoch,
            previous=previous,
            sequence=sequence,
            crc32c=0,
            steps=self.pending,
            watermark=self.validation.watermark,
            sent_times=self.sent_times[-MAX_SENT_TIMES:],
            trained_time=now,
            digest=self.learner.chain(),
        )
        self.pending, self.sent_times = [], []
        out = [(header, value)]
        if sequence % self._checksum_every == 0:
            out.append(self._checksum(sequence))
        return out

    def state(self) -> dict[str, Any]:
        """Everything but the learner, as plain values. What is pending is not in it: cut first."""
        return {"validation": self.validation.state(), "gate": self.gate.state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Take what `state` answered, read back from MessagePack."""
        self.validation.restore(state["validation"])
        self.gate.restore(state["gate"])

    def _checksum(self, sequence: int) -> tuple[DeltaHeader, bytes]:
        probe, expected = self.learner.checksum(sequence)
        header = DeltaHeader(
            line=self.line,
            kind="checksum",
            epoch=self.learner.epoch,
            previous=sequence,
            sequence=sequence,
            crc32c=0,
            expected=expected,
        )
        return header, probe

    def _learn(self, take: Take) -> Alarm | None:
        """Learn the samples of a step that can be learned, and hand their first scores to validation and gate."""
        records = [record for record in take.records if record.examples]
        samples: list[Sample] = [record.event for record in records]  # type: ignore[misc]
        partitions = [record.partition for record in records]
        if not samples:
            return None
        batch = self._sound(samples)
        if batch is None:
            # One bad sample must not stop the others: leave out those that make no batch of their own.
            good = [self._sound([sample]) is not None for sample in samples]
            samples = [sample for sample, fine in zip(samples, good, strict=True) if fine]
            partitions = [partition for partition, fine in zip(partitions, good, strict=True) if fine]
            self.refused += len(records) - len(samples)
            batch = batch_of(self.spec, samples)
        if not len(batch):
            return None
        scores = self.learner.learn(batch)
        if self._warmup_rows:
            self.warmup = batch.take(slice(0, self._warmup_rows))
        self.examples += len(batch)
        for sample in samples:
            self.sent_times += sample.sent_times
        self.validation.observe(partitions, samples, scores, self.learner.step)
        return self.gate.step(samples, scores, self.learner.step, batch.lost())

    def _sound(self, samples: Sequence[Sample]) -> Batch | None:
        """The batch of some samples; None where a column has another length, or a value another kind, than it must."""
        try:
            batch = batch_of(self.spec, samples)
        except (EventError, ValueError, TypeError):
            return None
        lengths = [len(column) for column in (batch.positions, batch.weights, *batch.columns.values())]
        items = sum(len(sample.items) for sample in samples)
        return batch if all(length == len(batch) for length in [items, *lengths]) else None
