"""Bootstrapping: train a line's first version from a batch log, by the same code and in the same order as the loop does.

A line that has checkpoints already is left alone: a changed feature specification makes a new line, which begins here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feedback.clock import now_us
from feedback.errors import UsageError
from feedback.events import Ledger, Progress, Sample
from feedback.features import Feature, FeatureSpec
from trainer.checkpoint import Checkpoints
from trainer.contract import Makes
from trainer.gate import Gate
from trainer.line import Places, line_of
from trainer.loop import Loop
from trainer.release import Releases, still
from trainer.settings import TrainerSettings
from trainer.steps import Record, Take
from trainer.tally import exact_auc, log_losses
from trainer.validate import Validation
from trainer.versions import VersionStore


@dataclass(frozen=True, kw_only=True)
class FromLog:
    """What came of training from a log: progressive figures (each row scored before it was learned), and what was written."""

    line: str
    samples: int
    rows: int
    auc: float
    log_loss: float
    auc_second_half: float
    log_loss_second_half: float
    auc_baseline: float
    log_loss_baseline: float
    calibration: float
    seconds: float
    rows_per_s: float
    refused_samples: int
    alarms: int
    """Alarms that the gate would have raised; the log is learned to its end all the same."""
    first_alarm: str
    version: int
    """The version written; 0 when none was asked for."""
    checkpoint: str

    def figures(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def train_from(
    samples: Iterable[Sample],
    *,
    features: tuple[Feature, ...],
    settings: TrainerSettings,
    data: Path,
    make: Makes | None = None,
    write: bool = True,
    say: Callable[[int], None] = lambda _: None,
) -> FromLog:
    """Learn samples in the order given, labels final as they come; write a checkpoint and a version; answer the figures.

    `say` is told the number of rows learned, step by step. With `write` false nothing is written: a measurement.

    Raises:
        UsageError: the line has learned before, or the log has no samples.
    """
    spec = FeatureSpec(features=features)
    settings.model.check(spec)
    places = Places(data, settings.model.name, line_of(spec, settings.model))
    checkpoints = Checkpoints(places.checkpoints) if write else None
    if checkpoints is not None and checkpoints.names():
        raise UsageError(f"line {places.line} has learned before: its checkpoints are in {places.checkpoints}")
    learner = (make or _tensorflow())(spec, settings.model, line=places.line)
    loop = Loop(
        spec,
        learner,
        Validation(settings.validation, None),
        Gate(settings.gate),
        line=places.line,
        checksum_every=settings.deltas.checksum_every,
        warmup_rows=settings.versions.warmup_rows,
    )
    seen = _Seen()
    begun = time.perf_counter()
    for take in takes(samples, settings.steps.examples):
        seen.take(loop, take)
        say(loop.examples)
    seconds = time.perf_counter() - begun
    if not loop.examples:
        raise UsageError("the log has no samples")
    version, name = 0, ""
    if checkpoints is not None:
        version, name = _write(loop, settings, features, places, checkpoints)
    figures = seen.figures(loop)
    learner.close()
    return FromLog(
        line=places.line,
        samples=seen.samples,
        rows=loop.examples,
        seconds=seconds,
        rows_per_s=loop.examples / seconds,
        refused_samples=loop.refused,
        alarms=seen.alarms,
        first_alarm=seen.first_alarm,
        version=version,
        checkpoint=name,
        **figures,
    )


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


class _Seen:
    """First scores in order, for exact figures of all rows and of the second half."""

    def __init__(self) -> None:
        self.samples = self.alarms = 0
        self.first_alarm = ""
        self._scores: list[NDArray[Any]] = []
        self._labels: list[NDArray[Any]] = []

    def take(self, loop: Loop, take: Take) -> None:
        alarm = loop.step(take)
        loop.pending = []
        # Every label of a log is final as it comes: rows settle with their step, in its order.
        for rows in loop.validation.unfolded():
            self._scores.append(rows["score"].copy())
            self._labels.append(rows["label"].copy())
        loop.validation.fold()
        self.samples += len(take.records) - 1
        if alarm is not None:
            self.alarms += 1
            self.first_alarm = self.first_alarm or alarm.reason

    def figures(self, loop: Loop) -> dict[str, float]:
        scores, labels = np.concatenate(self._scores), np.concatenate(self._labels)
        half = len(scores) // 2
        losses = log_losses(scores, labels)
        baseline = loop.validation.metrics.total["baseline"].figures()
        return {
            "auc": exact_auc(scores, labels),
            "log_loss": float(losses.mean()),
            "auc_second_half": exact_auc(scores[half:], labels[half:]),
            "log_loss_second_half": float(losses[half:].mean()),
            "auc_baseline": baseline.get("auc", float("nan")),
            "log_loss_baseline": baseline.get("log_loss", float("nan")),
            "calibration": float(scores.sum() / max(1, labels.sum())),
        }


def _write(
    loop: Loop, settings: TrainerSettings, features: tuple[Feature, ...], places: Places, checkpoints: Checkpoints
) -> tuple[int, str]:
    loop.cut(now_us())
    # The log's times and labels are not the stream's: what waits for labels, and where the stream stands, begin anew.
    loop.validation.watermarks.clear()
    store = VersionStore(places.models)
    releases = Releases(
        line=places.line, settings=settings, features=list(features), checkpoints=checkpoints, store=store
    )
    number = store.next()
    manifest = releases.version(still(loop, {}, control_time=0), number)
    releases.close()
    return number, manifest.checkpoint


def _tensorflow() -> Makes:
    from trainer.learner import Learner

    return Learner
