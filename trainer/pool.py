"""Rows whose labels are not final, as columns: written a step at a time, read when their slates settle."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

OPEN: Final = np.dtype(
    [
        ("item", "<i8"),
        ("position", "<i4"),
        ("age", "<i4"),
        ("score", "<f4"),
        ("served", "<f4"),
        ("baseline", "<f4"),
        ("label", "?"),
    ]
)
"""One impression that waits: number of its item, position (`trainer.batch.ELSEWHERE`: in none of our slots), seconds that the item had
been known, scores, label so far."""


class Pool:
    """Rows by number. Numbers of freed rows are not used again before `compact`."""

    def __init__(self) -> None:
        self.rows = np.zeros(1024, OPEN)
        self.used = 0
        self.live = 0

    def append(self, rows: Array) -> int:
        """Append rows; answers the first one's number."""
        first = self.used
        if first + len(rows) > len(self.rows):
            self.rows = np.concatenate([self.rows[:first], np.zeros(max(len(rows), first), OPEN)])
        self.rows[first : first + len(rows)] = rows
        self.used += len(rows)
        self.live += len(rows)
        return first

    @property
    def sparse(self) -> bool:
        """Whether most rows were freed, so that it is worth moving the others."""
        return self.used > 8192 and self.used > 2 * self.live


def ranges(starts: Array, sizes: Array) -> Array:
    """The numbers start, start + 1 … of each range, one range after another."""
    total = int(sizes.sum())
    offsets = np.cumsum(sizes) - sizes
    return np.repeat(starts - offsets, sizes) + np.arange(total)
