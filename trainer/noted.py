"""Which rows are marked in a mask, found without a look at the whole mask while they are few: a table may have ten million rows.

A delta every twentieth of a second that looks through all of them takes milliseconds, and drives out of the processor's cache what every
other part of the loop has there.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

SPARSE: Final = 128
"""To sort a row takes as long as to look at so many."""


class Noted:
    """Notes of the rows that were marked. The mask says which of them still are. Not thread-safe."""

    def __init__(self) -> None:
        """Begin with a mask of which nothing is known: it is looked through once."""
        self._parts: list[Array] | None = None
        self._count = 0

    def add(self, rows: Array, *, among: int) -> None:
        """Note that rows were marked; `among`: how many rows there are."""
        if self._parts is None:
            return
        self._parts.append(rows)
        self._count += len(rows)
        if self._count * SPARSE > among:
            self.forget()

    def forget(self) -> None:
        """Know nothing of the mask any more."""
        self._parts, self._count = None, 0

    def marked(self, mask: Array) -> Array:
        """The rows that are marked in the mask, int32, ascending, each once. Not to be written to."""
        if self._parts is None:
            found = np.flatnonzero(mask).astype(np.int32)
        else:
            rows = np.sort(np.concatenate([np.empty(0, np.int32), *self._parts]).astype(np.int32, copy=False))
            first = np.concatenate([[True], rows[1:] != rows[:-1]])[: len(rows)]
            found = rows[first & mask[rows]]
        self._parts, self._count = [found], len(found)
        return found
