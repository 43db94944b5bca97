"""How often keys without a slot were seen: exactly, or in a sketch of fixed size.

Both forget by generations: a sighting counts for at least `ageing_s` of event time and at most twice that.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from feedback.clock import to_us
from trainer.settings import SlotSettings

Array = NDArray[Any]

_DEPTH = 4
_FACTORS = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93], dtype=np.uint64)


class Sightings(Protocol):
    """Counts sightings of keys."""

    def add(self, keys: Array, counts: Array, time: int) -> Array:
        """Add `counts` to `keys` (each once) at event time `time`; answer how often each was seen, int64."""
        ...

    def state(self) -> dict[str, Array]:
        """For a checkpoint, as copies."""
        ...

    def restore(self, state: dict[str, Array]) -> None:
        """Become what `state` says."""
        ...


def sightings(settings: SlotSettings) -> Sightings:
    """The counter that the settings ask for."""
    if settings.counts == "exact":
        return Exact(to_us(settings.ageing_s))
    return Sketch(settings.sketch_width, to_us(settings.ageing_s))


class Exact:
    """One count per key: memory grows with the keys seen in two generations."""

    def __init__(self, ageing_us: int) -> None:
        self._ageing_us = ageing_us
        self._turned = -1
        self._now: dict[int, int] = {}
        self._before: dict[int, int] = {}

    def add(self, keys: Array, counts: Array, time: int) -> Array:
        """See Sightings."""
        if self._turned < 0:
            self._turned = time
        if time - self._turned >= self._ageing_us:
            self._before = self._now if time - self._turned < 2 * self._ageing_us else {}
            self._now, self._turned = {}, time
        now, before = self._now, self._before
        totals = np.empty(len(keys), np.int64)
        for i, (key, count) in enumerate(zip(keys.tolist(), counts.tolist(), strict=True)):
            now[key] = mine = now.get(key, 0) + count
            totals[i] = mine + before.get(key, 0)
        return totals

    def state(self) -> dict[str, Array]:
        """See Sightings."""
        parts: dict[str, Array] = {"turned": np.array([self._turned], np.int64)}
        for name, counts in (("now", self._now), ("before", self._before)):
            parts[name] = np.array(sorted(counts.items()), np.int64).reshape(-1, 2)
        return parts

    def restore(self, state: dict[str, Array]) -> None:
        """See Sightings."""
        self._turned = int(state["turned"][0])
        self._now = dict(state["now"].tolist())
        self._before = dict(state["before"].tolist())


class Sketch:
    """A count-min sketch: fixed memory; may say too much, never too little, of what it remembers.

    Source: Cormode and Muthukrishnan, An improved data stream summary: the count-min sketch, J. Algorithms 2005.
    """

    def __init__(self, width: int, ageing_us: int) -> None:
        self._bits = max(int(width - 1).bit_length(), 8)
        self._ageing_us = ageing_us
        self._turned = -1
        self._cells: Array | None = None
        self._before: Array | None = None

    def add(self, keys: Array, counts: Array, time: int) -> Array:
        """See Sightings."""
        cells = self._turn(time)
        rows = (keys.view(np.uint64)[None, :] * _FACTORS[:, None]) >> np.uint64(64 - self._bits)
        totals = None
        for depth in range(_DEPTH):
            np.add.at(cells[depth], rows[depth], counts.astype(np.uint32))
            seen = cells[depth, rows[depth]].astype(np.int64)
            if self._before is not None:
                seen += self._before[depth, rows[depth]]
            totals = seen if totals is None else np.minimum(totals, seen)
        return totals if totals is not None else np.empty(0, np.int64)

    def _turn(self, time: int) -> Array:
        if self._cells is None:
            self._cells = np.zeros((_DEPTH, 1 << self._bits), np.uint32)
            self._turned = time if self._turned < 0 else self._turned
        if time - self._turned >= self._ageing_us:
            self._before = self._cells if time - self._turned < 2 * self._ageing_us else None
            self._cells, self._turned = np.zeros_like(self._cells), time
        return self._cells

    def state(self) -> dict[str, Array]:
        """See Sightings."""
        parts: dict[str, Array] = {"turned": np.array([self._turned], np.int64)}
        for name, cells in (("now", self._cells), ("before", self._before)):
            if cells is not None:
                parts[name] = cells.copy()
        return parts

    def restore(self, state: dict[str, Array]) -> None:
        """See Sightings."""
        self._turned = int(state["turned"][0])
        self._cells = state["now"].copy() if "now" in state else None
        self._before = state["before"].copy() if "before" in state else None
