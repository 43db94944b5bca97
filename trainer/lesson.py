"""A lesson: a line that learns a log whose labels are final as they come, and the exact figures of its first scores."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feedback.events import Ledger, Progress, Sample
from feedback.features import Feature, FeatureSpec
from trainer.contract import Makes
from trainer.gate import Gate
from trainer.line import line_of
from trainer.loop import Loop
from trainer.settings import TrainerSettings
from trainer.steps import Record, Take
from trainer.tally import exact_auc, log_losses
from trainer.validate import Validation

Array = NDArray[Any]


def takes(samples: Iterable[Sample], examples: int) -> Iterator[Take]:
    """Cut a log into steps of at most so many examples, each followed by a progress that settles what it holds."""
    waiting: list[Record] = []
    count, offset, watermark = 0, 0, 0
    for sample in samples:
        if waiting and count + len(sample.emissions) > examples:
            offset += 1
            yield _take(waiting, count, offset, watermark)
            waiting, count = [], 0
        offset += 1
        waiting.append(Record(0, offset, sample.event_time, sample))
        watermark = max(watermark, sample.settle_time)
        count += len(sample.emissions)
    if waiting:
        yield _take(waiting, count, offset + 1, watermark)


def _take(records: list[Record], examples: int, offset: int, watermark: int) -> Take:
    done = Progress(
        partition=0, watermark=watermark, predictions_offset=0, outcomes_offset=0, ledger=Ledger(), sent_time=0
    )
    return Take((*records, Record(0, offset, 0, done)), {0: offset + 1}, examples)


class Lesson:
    """One line from nothing, and what its first scores were."""

    def __init__(self, features: tuple[Feature, ...], settings: TrainerSettings, *, make: Makes | None = None) -> None:
        """Raises ConfigError where the settings name features that are not there."""
        spec = FeatureSpec(features=features)
        settings.model.check(spec)
        line = line_of(spec, settings.model)
        self.loop = Loop(
            spec,
            (make or _tensorflow())(spec, settings.model, line=line),
            Validation(settings.validation, None),
            Gate(settings.gate),
            line=line,
            checksum_every=settings.deltas.checksum_every,
            warmup_rows=settings.versions.warmup_rows,
        )
        self.samples = self.alarms = 0
        self.first_alarm = ""
        self._rows: list[Array] = []

    def learn(self, take: Take) -> None:
        """Score a step's samples, then learn them; an alarm of the gate is counted and stops nothing."""
        alarm = self.loop.step(take)
        self.loop.pending = []
        # Every label of a log is final as it comes: rows settle with their step, in its order.
        self._rows += [rows[["user", "score", "label"]].copy() for rows in self.loop.validation.unfolded()]
        self.loop.validation.fold()
        self.samples += len(take.records) - 1
        if alarm is not None:
            self.alarms += 1
            self.first_alarm = self.first_alarm or alarm.reason

    def rows(self) -> Array:
        """What was scored so far, in order: fields `user`, `score`, `label`."""
        return np.concatenate(self._rows)

    def figures(self) -> dict[str, float]:
        """Exact figures of all rows and of the second half; the baseline's of its histogram."""
        rows = self.rows()
        scores, labels, half = rows["score"], rows["label"], len(rows) // 2
        losses = log_losses(scores, labels)
        baseline = self.loop.validation.metrics.total["baseline"].figures()
        return {
            "auc": exact_auc(scores, labels),
            "log_loss": float(losses.mean()),
            "auc_second_half": exact_auc(scores[half:], labels[half:]),
            "log_loss_second_half": float(losses[half:].mean()),
            "auc_baseline": baseline.get("auc", float("nan")),
            "log_loss_baseline": baseline.get("log_loss", float("nan")),
            "calibration": float(scores.sum() / max(1, labels.sum())),
        }

    def close(self) -> None:
        """Free the learner."""
        self.loop.learner.close()


def _tensorflow() -> Makes:
    from trainer.learner import Learner

    return Learner
