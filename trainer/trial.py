"""Trials of the gate: a trainer on Kafka that has learned a clean log is fed a minute of poison, as the log's readers come.

What readers would have been served is scored on the clean labels: each second's slates with the state that has left by then,
published or, behind a refusal, the base that is live again. Beside it stands the same minute without poison. What left is read
from the topics, not taken from the trainer.
"""

from __future__ import annotations

import random
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feedback.clock import SECOND, to_us
from feedback.errors import UnavailableError, UsageError
from feedback.events import Sample
from feedback.features import Feature, FeatureSpec
from feedback.settings import KafkaSettings
from feedback.topics import create_topics
from trainer.batch import batch_of
from trainer.bootstrap import write_version
from trainer.checkpoint import Checkpoints
from trainer.contract import Makes
from trainer.groups import CheckpointSettings, DeltaSettings, StepSettings, VersionSettings
from trainer.lesson import Lesson, takes
from trainer.line import Places
from trainer.poison import POISONS
from trainer.publish import read_published
from trainer.settings import TrainerSettings
from trainer.stand import Write, written
from trainer.tally import log_losses
from trainer.train import Trainer

Array = NDArray[Any]

CLEAN = "clean"
"""The kind of trial that poisons nothing: what the others are compared with, and where no alarm may be raised."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is tried."""

    seeds: int = 20
    """Onsets, each with a seed of its own."""
    first: int = 20_000
    """Clean slates before the first onset."""
    apart: int = 5_000
    """Clean slates between onsets."""
    length_s: float = 60.0
    """Event time of the poison, s."""
    kinds: tuple[str, ...] = tuple(POISONS)
    """Kinds of poison, beside clean."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What one trial came to."""

    kind: str
    seed: int
    check: str
    """The check that refused; empty: none did."""
    slates: int
    """Slates learned until the refusal, the poison's own included; without one, all."""
    late_deltas: int
    """Deltas that carry the refused step or a later one: none may."""
    bad_live: int
    """Versions with a poisoned step that may go live: none may."""
    good: bool
    """Whether what is live behind a refusal holds no poisoned step; true without one."""
    not_finite: int
    """Served scores that were no numbers: none may be."""
    loss: Array
    """Of each served row, on clean labels."""


def trials(
    samples: Iterable[Sample],
    *,
    bootstrap: str,
    features: tuple[Feature, ...],
    settings: TrainerSettings,
    plan: Plan,
    make: Makes,
    say: Callable[[str], None] = lambda _: None,
) -> Iterator[Trial]:
    """Learn the log; at each onset try clean and every kind of poison from the state as it is, then go on clean.

    Raises:
        UsageError: the log is too short.
    """
    source = iter(samples)
    lesson = Lesson(features, settings, make=make)
    window: list[Sample] = []
    for seed in range(plan.seeds):
        more = islice(source, plan.apart if seed else plan.first)
        for take in takes([*window, *more], settings.steps.examples):
            lesson.learn(take)
        window = list(_window(source, to_us(plan.length_s)))
        if not window:
            raise UsageError(f"the log ends before onset {seed + 1} of {plan.seeds}")
        with tempfile.TemporaryDirectory(prefix="everloop-poison-") as folder:
            start = Path(folder) / "start"
            places = Places(start, settings.model.name, lesson.loop.line)
            write_version(lesson.loop, settings, features, places, Checkpoints(places.checkpoints))
            for kind in (CLEAN, *plan.kinds):
                data = Path(folder) / kind
                shutil.copytree(start, data)
                yield _Try(bootstrap, features, settings, data, make).run(kind, seed, window)
                shutil.rmtree(data)
        say(f"onset {seed + 1} of {plan.seeds}")
    lesson.close()


def _window(source: Iterator[Sample], length_us: int) -> Iterator[Sample]:
    end = 0
    for sample in source:
        end = end or sample.event_time + length_us
        yield sample
        if sample.event_time >= end:
            return


class _Try:
    """One trainer on topics of its own."""

    def __init__(
        self, bootstrap: str, features: tuple[Feature, ...], settings: TrainerSettings, data: Path, make: Makes
    ) -> None:
        self._kafka = KafkaSettings(bootstrap=bootstrap, namespace=f"trial{uuid.uuid4().hex[:8]}-", partitions=1)
        create_topics(self._kafka)
        self._spec = FeatureSpec(features=features)
        # A minute passes in seconds: what happens by the wall happens as often as it would in the minute.
        quick = replace(
            settings,
            steps=StepSettings(examples=settings.steps.examples, wait_s=0.005),
            deltas=DeltaSettings(every_s=0.0),
            versions=VersionSettings(every_s=2.0, share=1.0),
            checkpoints=CheckpointSettings(every_s=1.0),
        )
        self._trainer = Trainer(kafka=self._kafka, features=features, settings=quick, data=data, make=make)
        self._losses: list[Array] = []
        self._not_finite = self._slates = self._refused_at = 0

    def run(self, kind: str, seed: int, window: list[Sample]) -> Trial:
        """Feed it a window; answer what came of it."""
        trainer, chance = self._trainer, random.Random(seed)
        trainer.start()
        onset = trainer.loop.learner.step + 1
        try:
            with written(self._kafka) as write:
                for _, second in groupby(window, key=lambda sample: sample.event_time // SECOND):
                    clean = list(second)
                    self._serve(clean)
                    if not trainer.paused:
                        self._teach([each for sample in clean for each in _spoilt(kind, sample, chance)], write)
            trainer.deltas.flush()
            return self._found(kind, seed, onset)
        finally:
            trainer.close()
            trainer.loop.learner.close()

    def _serve(self, samples: list[Sample]) -> None:
        batch = batch_of(self._spec, samples)
        scores = self._trainer.loop.learner.score(batch)
        self._not_finite += int(np.count_nonzero(~np.isfinite(scores)))
        self._losses.append(log_losses(scores, batch.emissions > 0))

    def _teach(self, samples: list[Sample], write: Write) -> None:
        """Write samples and turn until they are learned, or refused. Some may not be readable."""
        trainer, end = self._trainer, write(samples)[0]
        give_up = time.monotonic() + 60.0
        while not trainer.paused and (trainer.steps.offsets.get(0, 0) <= end or trainer.loop.learned):
            if time.monotonic() > give_up:
                raise UnavailableError(f"the trainer stands still: {trainer.where()}")
            step = trainer.loop.learner.step
            trainer.turn()
            self._refused_at = step + 1 if trainer.paused else 0
        self._slates += len(samples)

    def _found(self, kind: str, seed: int, onset: int) -> Trial:
        trainer = self._trainer
        refusal = next((e for e in trainer.steering.events if e.event == "refused" and e.version == 0), None)
        published = [e.header for e in read_published(self._kafka, line=trainer.line) if e.header.kind == "rows"]
        steps = {m.version: m.step for m in trainer.store.manifests()}
        gated = {event.version for event in trainer.steering.events if event.event == "gated"}
        live = trainer.steering.control.version
        return Trial(
            kind=kind,
            seed=seed,
            check=str(refusal.detail["check"]) if refusal else "",
            slates=self._slates,
            late_deltas=sum(
                any(step.step >= self._refused_at for step in header.steps) for header in published if refusal
            ),
            bad_live=sum(steps.get(version, 0) >= onset for version in gated) if kind != CLEAN else 0,
            good=not refusal or steps[live] < onset,
            not_finite=self._not_finite,
            loss=np.concatenate(self._losses),
        )


def _spoilt(kind: str, sample: Sample, chance: random.Random) -> list[Sample]:
    return [sample] if kind == CLEAN else POISONS[kind](sample, chance)


def summed(found: Iterable[Trial]) -> list[tuple[str, str, list[float]]]:
    """Figures per kind: over its trials the served log loss above the clean one's, and the worst of everything else."""
    by_kind: dict[str, list[Trial]] = {}
    for trial in found:
        by_kind.setdefault(trial.kind, []).append(trial)
    clean = {trial.seed: trial.loss for trial in by_kind[CLEAN]}
    rows: list[tuple[str, str, list[float]]] = [
        ("clean_alarms", "", [float(sum(bool(trial.check) for trial in by_kind.pop(CLEAN)))]),
    ]
    for kind, every in by_kind.items():
        ours = np.concatenate([trial.loss for trial in every]).mean()
        theirs = np.concatenate([clean[trial.seed] for trial in every]).mean()
        rows += [
            (f"{kind}_trials", "", [float(len(every))]),
            (f"{kind}_refused", "", [float(sum(bool(trial.check) for trial in every))]),
            (f"{kind}_slates_until_refusal", "", [float(trial.slates) for trial in every]),
            (f"{kind}_deltas_after_refusal", "", [float(sum(trial.late_deltas for trial in every))]),
            (f"{kind}_poisoned_versions_live", "", [float(sum(trial.bad_live for trial in every))]),
            (f"{kind}_clean_state_live_again", "", [float(sum(trial.good for trial in every))]),
            (f"{kind}_scores_not_finite", "", [float(sum(trial.not_finite for trial in every))]),
            (f"{kind}_served_log_loss_excess", "", [float(ours / theirs - 1.0)]),
        ]
    return rows
