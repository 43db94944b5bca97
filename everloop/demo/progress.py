"""The trainer's settled rows as curves: how well first scores told clicks apart, beside the baseline, as labels settled."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.settled import ROW, Gain, auc_gain, read_settled
from trainer.tally import Tally, auc

Array = NDArray[Any]
_BINS = 4096


def settled(folder: Path) -> Array:
    """Every settled row so far; none before the trainer has written one."""
    try:
        return read_settled(folder)
    except (FileNotFoundError, ValueError):
        # A piece may be cut back by a trainer that continues, in the moment in which it is read.
        return np.empty(0, ROW)


@dataclass(frozen=True)
class Curve:
    """One score's AUC as rows settle."""

    rows: list[int]
    """Settled rows at each point."""
    total: list[float]
    """AUC of all rows up to the point."""
    recent: list[float]
    """AUC of the rows between the point before and the point."""


def curve(rows: Array, score: str, *, points: int = 40) -> Curve:
    """The curve of one of the scores: `score`, `baseline` or `served`; rows without that score are left out."""
    rows = rows[np.isfinite(rows[score])]
    ends = np.unique(np.linspace(0, len(rows), points + 1).astype(int)[1:])
    places = Tally(_BINS).bins(rows[score])
    positives, negatives = np.zeros(_BINS), np.zeros(_BINS)
    found = Curve([], [], [])
    begin = 0
    for end in ends[ends > 0].tolist():
        labels, part = rows["label"][begin:end], places[begin:end]
        more = np.bincount(part[labels], minlength=_BINS), np.bincount(part[~labels], minlength=_BINS)
        positives, negatives = positives + more[0], negatives + more[1]
        found.rows.append(end)
        found.total.append(auc(positives, negatives))
        found.recent.append(auc(*more))
        begin = end
    return found


def now(rows: Array, score: str) -> float:
    """AUC of all rows so far; NaN before there are clicks and others."""
    found = curve(rows, score, points=1)
    return found.total[-1] if found.total else float("nan")


def gain(rows: Array) -> Gain:
    """By how much the model's AUC is above the baseline's, with a 95 % interval over readers."""
    return auc_gain(rows)
