"""What admission saves and costs, and what a fresh model is worth: measured on a log, row by row on the same order.

A model published at intervals is measured without a second copy: what will be asked in an interval is scored with the weights
as they are when it begins, and only then learned. Intervals nest, so that one pass over the log measures all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feedback.clock import to_us
from feedback.errors import UsageError
from feedback.events import Sample
from feedback.features import Feature
from trainer.batch import batch_of
from trainer.learner import Learner
from trainer.lesson import Lesson, takes
from trainer.settings import Admission, TrainerSettings
from trainer.settled import ROW, auc_gain
from trainer.steps import Take
from trainer.tally import exact_auc

Array = NDArray[Any]
Rows = list[tuple[str, str, list[float]]]

INTERVALS_S = (3600.0, 600.0, 60.0, 10.0)
"""Publishing intervals, event time; each a multiple of the next. Behind them stands every step."""
_DRAWS = 200


@dataclass(frozen=True)
class Passed:
    """What one pass over a log left."""

    rows: Array
    """First scores, in order: user, score, label."""
    served: dict[float, Array]
    """By interval: the scores that a model published so often would have given."""
    owned: int
    """Rows that keys own at the end."""


def worth(
    log: Callable[[], Iterable[Sample]],
    *,
    features: tuple[Feature, ...],
    settings: TrainerSettings,
    say: Callable[[str], None] = lambda _: None,
) -> Rows:
    """Learn the log with the settings' admission and without; `rows_saved`, `admission_auc_lost`, and AUC by publishing interval.

    Raises:
        UsageError: the settings give every key a row at once, or take rows back: there is nothing to compare.
    """
    slots = settings.model.slots
    given = (slots.every, *slots.per.values())
    if all(each.sightings == 1 for each in given) or any(each.unseen_s for each in given):
        raise UsageError(
            "trainer.model.slots: sightings above 1 for some feature, and unseen_s = 0, to measure admission"
        )
    everything = replace(settings.model, slots=replace(slots, every=Admission(), per={}))
    say("learning the log with admission, and asking it at every publishing interval")
    some = _passed(log(), features, settings, INTERVALS_S)
    say("learning the log with a row for every key")
    every = _passed(log(), features, replace(settings, model=everything), ())
    return [*_admission(some, every), *_freshness(some)]


def _admission(some: Passed, every: Passed) -> Rows:
    pair = np.zeros(len(some.rows), ROW)
    pair["user"], pair["label"] = some.rows["user"], some.rows["label"]
    pair["score"], pair["baseline"] = every.rows["score"], some.rows["score"]
    lost = auc_gain(pair, draws=_DRAWS)
    return [
        ("rows_saved", "", [1.0 - some.owned / every.owned]),
        ("rows_of_all_keys", "", [float(every.owned)]),
        ("admission_auc", "", [lost.baseline]),
        ("admission_auc_of_all_keys", "", [lost.auc]),
        ("admission_auc_lost", "", [lost.high]),
    ]


def _freshness(found: Passed) -> Rows:
    labels = found.rows["label"]
    aucs = [exact_auc(found.served[each], labels) for each in INTERVALS_S]
    aucs.append(exact_auc(found.rows["score"], labels))
    names = [*(f"auc_published_every_{each:g}_s" for each in INTERVALS_S), "auc_published_every_step"]
    falls = [longer - shorter for longer, shorter in pairwise(aucs)]
    return [
        *((name, "", [auc]) for name, auc in zip(names, aucs, strict=True)),
        ("publishing_auc_fall", "", [max(falls)]),
    ]


def _passed(
    samples: Iterable[Sample], features: tuple[Feature, ...], settings: TrainerSettings, intervals: tuple[float, ...]
) -> Passed:
    lesson = Lesson(features, settings)
    served = asked(lesson, takes(samples, settings.steps.examples), intervals)
    learner = lesson.loop.learner
    assert isinstance(learner, Learner)
    owned = sum(table.slots.owned for table in learner.tables)
    found = Passed(lesson.rows(), served, owned)
    lesson.close()
    return found


def asked(lesson: Lesson, steps: Iterable[Take], intervals: tuple[float, ...]) -> dict[float, Array]:
    """Learn the steps; by publishing interval (s, the longest first) the scores that each row would have been served."""
    served: dict[float, list[Array]] = {each: [] for each in intervals}
    _learn(lesson, steps, intervals, served)
    return {each: np.concatenate(scores) for each, scores in served.items()}


def _learn(
    lesson: Lesson, steps: Iterable[Take], intervals: tuple[float, ...], served: dict[float, list[Array]]
) -> None:
    """Learn the steps; before each of an interval's, score all of it."""
    if not intervals:
        for take in steps:
            lesson.learn(take)
        return
    for window in _windows(steps, to_us(intervals[0])):
        served[intervals[0]] += [_scored(lesson, take) for take in window]
        _learn(lesson, window, intervals[1:], served)


def _windows(steps: Iterable[Take], length_us: int) -> Iterator[list[Take]]:
    """Steps that begin in one interval of event time together."""
    window: list[Take] = []
    number = -1
    for take in steps:
        now = take.records[0].timestamp // length_us
        if window and now != number:
            yield window
            window = []
        number = now
        window.append(take)
    if window:
        yield window


def _scored(lesson: Lesson, take: Take) -> Array:
    samples = [record.event for record in take.records if isinstance(record.event, Sample)]
    return lesson.loop.learner.score(batch_of(lesson.loop.spec, samples))
