"""Settled rows on disk: one fixed-size record per impression whose label is final, for reports and for the bootstrap over readers.

Appended as labels settle; a checkpoint holds the length, a continued run cuts the file back to it, so that each row stands
there once.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from trainer.tally import Tally, auc

Array = NDArray[Any]

ROW: Final = np.dtype(
    [
        ("time", "<i8"),
        ("user", "<u8"),
        ("item", "<u8"),
        ("position", "<i4"),
        ("label", "?"),
        ("known", "?"),
        ("score", "<f4"),
        ("served", "<f4"),
        ("baseline", "<f4"),
    ]
)
"""One settled impression: event time µs, fingerprints of reader and item, position (`trainer.batch.ELSEWHERE`: in none of our slots),
label, whether the reader had been seen before, the first score, the score in the prediction event (NaN where there was none), the
baseline's score."""


class SettledFile:
    """The append-only file, in pieces, of which the oldest is dropped when enough newer ones are there."""

    def __init__(self, folder: Path, *, keep_rows: int) -> None:
        self._folder = folder
        self._piece = max(1, keep_rows)
        folder.mkdir(parents=True, exist_ok=True)
        self.rows = 0
        """Rows written since the beginning, whether still kept or not."""
        self._file = -1
        self._at = -1

    def append(self, rows: Array) -> None:
        """Append rows of dtype ROW."""
        while len(rows):
            piece, used = divmod(self.rows, self._piece)
            self._open(piece)
            part = rows[: self._piece - used]
            os.pwrite(self._file, part.tobytes(), used * ROW.itemsize)
            self.rows += len(part)
            rows = rows[len(part) :]

    def cut(self, rows: int) -> None:
        """Forget everything behind the first `rows` rows."""
        piece, used = divmod(rows, self._piece)
        for path in sorted(self._folder.glob("settled-*.bin")):
            number = int(path.stem.split("-")[1])
            if number > piece:
                path.unlink()
            elif number == piece:
                os.truncate(path, min(used * ROW.itemsize, path.stat().st_size))
        self.rows = rows

    def sync(self) -> None:
        """Make what was appended durable."""
        if self._file >= 0:
            os.fsync(self._file)

    def close(self) -> None:
        """Close the open piece."""
        if self._file >= 0:
            os.close(self._file)
            self._file = self._at = -1

    def _open(self, piece: int) -> None:
        if piece == self._at:
            return
        if self._file >= 0:
            os.fsync(self._file)
        self.close()
        self._file = os.open(self._folder / f"settled-{piece:06d}.bin", os.O_RDWR | os.O_CREAT, 0o644)
        self._at = piece
        # The piece before this one is whole: together they hold what must be kept.
        (self._folder / f"settled-{piece - 2:06d}.bin").unlink(missing_ok=True)


def read_settled(folder: Path) -> Array:
    """Read every settled row that is kept (dtype ROW), in the order in which they settled."""
    pieces = [np.fromfile(path, ROW) for path in sorted(folder.glob("settled-*.bin"))]
    found = np.concatenate(pieces) if pieces else np.empty(0, ROW)
    # A hole: rows that another machine wrote, before the trainer came to this one.
    kept: Array = found[found["time"] != 0]
    return kept


@dataclass(frozen=True)
class Gain:
    """By how much the model's AUC is above the baseline's."""

    auc: float
    """The model's, of first scores."""
    baseline: float
    """The baseline's."""
    low: float
    """Lower end of the 95 % interval of the gain."""
    high: float
    """Upper end."""
    readers: int
    """Readers that were drawn from."""


def auc_gain(rows: Array, *, draws: int = 400, seed: int = 1, bins: int = 4096) -> Gain:
    """Bootstrap the gain over readers: each draw weighs a reader with a Poisson(1) number, all of a reader's rows together.

    Source: Chamandy et al., Estimating uncertainty for massive data streams, 2012 (the Poisson bootstrap).
    """
    tally = Tally(bins)
    _, reader = np.unique(rows["user"], return_inverse=True)
    readers = int(reader.max()) + 1 if len(rows) else 0
    sides = [(tally.bins(rows["score"]), rows["label"]), (tally.bins(rows["baseline"]), rows["label"])]
    random = np.random.Generator(np.random.Philox(key=seed))
    ones = np.ones(len(rows))
    model, base = (_weighted(where, labels, ones, bins) for where, labels in sides)
    gains = []
    for _ in range(draws if readers else 0):
        weights = random.poisson(1.0, readers).astype(np.float64)[reader]
        first, second = (_weighted(where, labels, weights, bins) for where, labels in sides)
        gains.append(first - second)
    low, high = np.nanpercentile(gains, [2.5, 97.5]) if np.isfinite(gains).any() else (np.nan, np.nan)
    return Gain(auc=model, baseline=base, low=float(low), high=float(high), readers=readers)


def _weighted(bins: Array, labels: Array, weights: Array, count: int) -> float:
    positives = np.bincount(bins[labels], weights=weights[labels], minlength=count)
    negatives = np.bincount(bins[~labels], weights=weights[~labels], minlength=count)
    return auc(positives, negatives)
