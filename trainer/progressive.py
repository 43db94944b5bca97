"""Progressive validation of a model on slates whose labels are known at once: each slate is scored whole, then learned.

This is what `everloop train --from LOG` runs; in the live loop, where labels come later, the trainer keeps first scores instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feedback.events import NEGATIVE
from trainer.batch import Batch
from trainer.learner import Learner

Array = NDArray[Any]


def progressive(slates: Iterable[Batch], learner: Learner, *, step_rows: int) -> dict[str, float]:
    """Learn from slates in order, in steps of `step_rows` rows or a little more; AUC and log loss of the scores given before.

    Answers `rows`, `steps`, `auc`, `log_loss`, `calibration` (predicted over observed) and the first two for the second half of
    the rows, `auc_second_half`, `log_loss_second_half`.
    """
    scores, labels = [], []
    for batch in steps(slates, step_rows):
        scores.append(learner.learn(batch))
        labels.append(batch.emissions != NEGATIVE)
    return measured(np.concatenate(scores), np.concatenate(labels)) | {"steps": float(len(scores))}


def steps(slates: Iterable[Batch], rows: int) -> Iterator[Batch]:
    """Put whole slates together until they have `rows` rows."""
    waiting: list[Batch] = []
    count = 0
    for slate in slates:
        waiting.append(slate)
        count += len(slate)
        if count >= rows:
            yield joined(waiting)
            waiting, count = [], 0
    if waiting:
        yield joined(waiting)


def joined(batches: list[Batch]) -> Batch:
    """Batches in order as one."""
    if len(batches) == 1:
        return batches[0]
    columns = {name: _stacked([batch.columns[name] for batch in batches]) for name in batches[0].columns}
    return Batch(
        columns=columns,
        emissions=np.concatenate([b.emissions for b in batches]),
        weights=np.concatenate([b.weights for b in batches]),
        positions=np.concatenate([b.positions for b in batches]),
        event_time=max(b.event_time for b in batches),
        starts=_starts(batches),
    )


def _starts(batches: list[Batch]) -> Array | None:
    found, first = [], 0
    for batch in batches:
        if batch.starts is None:
            return None
        found.append(batch.starts + np.int32(first))
        first += len(batch)
    return np.concatenate(found)


def _stacked(arrays: list[Array]) -> Array:
    if arrays[0].ndim == 1:
        return np.concatenate(arrays)
    width = max(array.shape[1] for array in arrays)
    wide = np.full((sum(map(len, arrays)), width), "", dtype=object)
    start = 0
    for array in arrays:
        wide[start : start + len(array), : array.shape[1]] = array
        start += len(array)
    return wide


def measured(scores: Array, labels: Array) -> dict[str, float]:
    """AUC, log loss and calibration of scores, and the first two for their second half."""
    half = len(scores) // 2
    return {
        "rows": float(len(scores)),
        "auc": auc(scores, labels),
        "log_loss": log_loss(scores, labels),
        "calibration": float(scores.sum() / max(labels.sum(), 1)),
        "auc_second_half": auc(scores[half:], labels[half:]),
        "log_loss_second_half": log_loss(scores[half:], labels[half:]),
    }


def auc(scores: Array, labels: Array) -> float:
    """Area under the ROC curve; ties count half. NaN where only one label occurs."""
    order = np.argsort(scores, kind="stable")
    ranked = scores[order]
    starts = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]]))
    ends = np.concatenate([starts[1:], [len(ranked)]])
    ranks = np.repeat((starts + 1 + ends) / 2.0, ends - starts)
    positives = int(labels.sum())
    negatives = len(labels) - positives
    if not positives or not negatives:
        return float("nan")
    total = ranks[labels[order].astype(bool)].sum()
    return float((total - positives * (positives + 1) / 2.0) / positives / negatives)


def log_loss(scores: Array, labels: Array) -> float:
    """Mean negative log likelihood, scores clipped to float32's steps below 1."""
    clipped = np.clip(scores.astype(np.float64), 1e-7, 1.0 - 1e-7)
    return float(-np.mean(np.where(labels, np.log(clipped), np.log1p(-clipped))))
