"""Bootstrapping: train a line's first version from a batch log, by the same code and in the same order as the loop does.

A line that has checkpoints already is left alone: a changed feature specification makes a new line, which begins here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from feedback.clock import now_us
from feedback.errors import UsageError
from feedback.events import Sample
from feedback.features import Feature, FeatureSpec
from trainer.checkpoint import Checkpoints
from trainer.contract import Makes
from trainer.depot import checkpoints_of, versions_of
from trainer.lesson import Lesson, takes
from trainer.line import Places, line_of
from trainer.loop import Loop
from trainer.release import Releases, still
from trainer.settings import TrainerSettings
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
    places = Places(data, settings.model.name, line_of(FeatureSpec(features=features), settings.model))
    depot = checkpoints_of(settings.store, places.line)
    checkpoints = Checkpoints(places.checkpoints, depot=depot) if write else None
    if checkpoints is not None and checkpoints.names():
        raise UsageError(f"line {places.line} has learned before: its checkpoints are in {places.checkpoints}")
    lesson = Lesson(features, settings, make=make)
    loop, begun = lesson.loop, time.perf_counter()
    for take in takes(samples, settings.steps.examples):
        lesson.learn(take)
        say(loop.examples)
    seconds = time.perf_counter() - begun
    if not loop.examples:
        raise UsageError("the log has no samples")
    version, name = 0, ""
    if checkpoints is not None:
        version, name = write_version(loop, settings, features, places, checkpoints)
    figures = lesson.figures()
    lesson.close()
    return FromLog(
        line=places.line,
        samples=lesson.samples,
        rows=loop.examples,
        seconds=seconds,
        rows_per_s=loop.examples / seconds,
        refused_samples=loop.refused,
        alarms=lesson.alarms,
        first_alarm=lesson.first_alarm,
        version=version,
        checkpoint=name,
        **figures,
    )


def write_version(
    loop: Loop, settings: TrainerSettings, features: tuple[Feature, ...], places: Places, checkpoints: Checkpoints
) -> tuple[int, str]:
    """Write a checkpoint that a trainer goes on from, and a version; answers its number and the checkpoint's name."""
    loop.cut(now_us())
    # The log's times and labels are not the stream's: what waits for labels, and where the stream stands, begin anew.
    loop.validation.watermarks.clear()
    store = VersionStore(places.models, depot=versions_of(settings.store, settings.model.name))
    releases = Releases(
        line=places.line, settings=settings, features=list(features), checkpoints=checkpoints, store=store
    )
    number = store.next()
    manifest = releases.version(still(loop, {}, control_time=0), number)
    releases.close()
    return number, manifest.checkpoint
