"""Which rows form a slate: pure functions on arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def by_column(slate: NDArray[Any], time: Ints, *, most: int) -> tuple[Ints, Ints]:
    """Group rows by their slate's code.

    Returns (order, starts): the rows in the order of their slates' first times, then of the file; and where in that
    order each slate begins. A slate with more than `most` rows is cut.
    """
    first = np.full(int(slate.max(initial=-1)) + 1, np.iinfo(np.int64).max)
    np.minimum.at(first, slate, time)
    order = np.lexsort((np.arange(len(slate)), slate, first[slate]))
    return order, _starts(slate[order], most=most)


def by_gap(user: NDArray[Any], time: Ints, *, gap_us: int, most: int) -> tuple[Ints, Ints]:
    """Group rows of one user's code that follow each other within `gap_us`. Returns what `by_column` does."""
    rows = np.arange(len(user))
    order = np.lexsort((rows, time, user))
    user, time = user[order], time[order]
    new = np.ones(len(user), dtype=bool)
    new[1:] = (user[1:] != user[:-1]) | (np.diff(time) > gap_us)
    starts = _starts(np.cumsum(new), most=most)
    slate = np.zeros(len(user), dtype=np.int64)
    slate[starts[1:]] = 1
    slate = np.cumsum(slate)
    by_time = np.lexsort((rows, slate, time[starts][slate]))
    return order[by_time], _starts(slate[by_time], most=most)


def adjacent(slate: NDArray[Any], *, most: int) -> Ints:
    """Where each slate begins when its rows stand together already."""
    return _starts(slate, most=most)


def _starts(slate: NDArray[Any], *, most: int) -> Ints:
    """Where the value changes, and after every `most` rows of one value."""
    if not len(slate):
        return np.empty(0, dtype=np.int64)
    new = np.ones(len(slate), dtype=bool)
    new[1:] = slate[1:] != slate[:-1]
    starts = np.flatnonzero(new)
    index = np.arange(len(slate)) - starts[np.cumsum(new) - 1]
    return np.flatnonzero(index % most == 0)
