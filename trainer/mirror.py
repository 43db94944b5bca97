"""A copy of a table that is brought up to date rather than made anew: what snapshots are made of.

Training stands still while it is copied. A table of ten million rows takes most of a second, and few of them have changed since the last
copy half a minute ago; so only those are read again, into the arrays that the last snapshot had. The price is memory: the copy stays.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.rows import Rows

Array = NDArray[Any]

_CHUNK = 8_192
"""Rows that are read at once: what is read lies in a processor's cache while it is stored."""


class Mirror:
    """The copy of one table. Not thread-safe; whoever has what `update` answered must be done with it before the next one."""

    def __init__(self, scalars: Callable[[Array], Array], vectors: Callable[[Array], Array]) -> None:
        """`scalars`, `vectors`: read some rows, int32[m], of the table: float32[m, …]."""
        self._read = scalars, vectors
        self._copies: list[Array] = []
        self._slots: dict[str, Array] = {}

    def adopt(self, rows: Rows, scalars: Array, vectors: Array) -> None:
        """Begin with arrays that hold all rows there is room for, as the table has them now. They are the mirror's from now on."""
        self._copies, self._slots = [scalars, vectors], rows.slots.copies()
        # Now, so that the first snapshot need not wait for the memory.
        rows.slots.state(self._slots)
        rows.mirrored()

    def update(self, rows: Rows) -> tuple[Array, Array, dict[str, Array]]:
        """The rows in use as they are now: scalars and vectors, float32[used, …], and the state of the slots."""
        slots, used = rows.slots, rows.slots.next
        if not self._copies or len(self._copies[0]) < used:
            one = np.zeros(1, np.int32)
            shapes = [(slots.capacity, read(one).shape[1]) for read in self._read]
            # Pages that nobody has touched take no memory.
            self._copies, self._slots = [np.empty(shape, np.float32) for shape in shapes], slots.copies()
            for at in range(0, used, _CHUNK):
                self._copy(np.arange(at, min(at + _CHUNK, used), dtype=np.int32), slice(at, min(at + _CHUNK, used)))
        else:
            stale = rows.stale()
            for at in range(0, len(stale), _CHUNK):
                self._copy(stale[at : at + _CHUNK], stale[at : at + _CHUNK])
        rows.mirrored()
        scalars, vectors = (copy[:used] for copy in self._copies)
        return scalars, vectors, slots.state(self._slots)

    def _copy(self, rows: Array, to: slice | Array) -> None:
        for read, copy in zip(self._read, self._copies, strict=True):
            copy[to] = read(rows)
