"""Slots: which key owns which row of a table. Pure bookkeeping: the look-up from key to slot is the hash table's.

A slot's life: unused → owned by one key → (unseen for long) resting → owned by another key. No two keys ever own a slot
together, and between two owners lies a rest that outlasts every request that may still read the row for the first.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feedback.clock import to_us
from trainer.fields import Table
from trainer.noted import Noted
from trainer.settings import SlotSettings
from trainer.sightings import Sightings, sightings

Array = NDArray[Any]

NO_KEY = -1
"""Stands in `keys` where no key owns the slot."""
_NEARLY_FULL = 0.75
"""Share of a base's rows in use at which the next one should come: making it and loading it takes a while, in which more are used."""
_BY_ROW = "keys", "seen", "fields", "born"
"""The arrays with one entry per slot."""


@dataclass(frozen=True)
class Resting:
    """Slots given back together."""

    time: int
    """Event time, µs."""
    sequence: int
    """The line's sequence then."""
    slots: Array


def base_capacity(used: int, *, capacity: int, room: float) -> int:
    """Rows that a base has: those in use and `room` more, in the doublings that the learner's own capacity takes."""
    while capacity < used * (1.0 + room):
        capacity *= 2
    return capacity


class Slots:
    """The slots of one table. Not thread-safe."""

    def __init__(self, table: Table, settings: SlotSettings) -> None:
        self.reserved = table.reserved
        self.next = table.reserved
        """Slots from here on were never owned."""
        self.capacity = max(settings.capacity, table.reserved + 1)
        self.keys = np.full(self.capacity, NO_KEY, np.int64)
        """Per slot the key that owns it."""
        self.seen = np.zeros(self.capacity, np.int64)
        """Per slot the event time at which its key was last seen, µs."""
        self.fields = np.zeros(self.capacity, np.int16)
        """Per slot the field of its key."""
        self.born = np.zeros(self.capacity, np.bool_)
        """Per slot whether its key got it since the last `take`."""
        self._newborn = Noted()
        self.resting: deque[Resting] = deque()
        self.removed: list[int] = []
        """Keys that lost a slot since the last `take` and were known to serving."""
        self.hand = table.reserved
        """Where the next sweep begins."""
        self.settings = settings
        self._rest_us = to_us(settings.rest_s)
        self._needed = np.array([f.admission.sightings for f in table.fields], np.int64)
        self._unseen_us = np.array([to_us(f.admission.unseen_s) for f in table.fields], np.int64)
        self._expires = bool((self._unseen_us > 0).any())
        self.sightings: Sightings = sightings(settings)

    @property
    def owned(self) -> int:
        """Slots that a key owns."""
        return self.next - self.reserved - sum(len(r.slots) for r in self.resting)

    @property
    def floor(self) -> int:
        """Rows that every base in use has: the capacity before it last doubled."""
        return max(self.capacity // 2, min(self.capacity, self.settings.capacity))

    def outgrows(self, capacity: int) -> bool:
        """Whether a base with room for so many rows is nearly full, and one that is made now has more."""
        if self.next < _NEARLY_FULL * capacity:
            return False
        return base_capacity(self.next, capacity=self.capacity, room=self.settings.room) > capacity

    def touch(self, slots: Array, time: int) -> None:
        """Note that the keys of these slots were seen."""
        self.seen[slots] = time

    def admit(self, keys: Array, counts: Array, fields: Array, *, time: int, sequence: int) -> tuple[Array, Array]:
        """Count sightings of keys that have no slot; give slots to those seen often enough.

        `keys`: int64, each once; `counts`: sightings now; `fields`: which field each belongs to.
        Answers which of them (bool) got a slot, and the slots of those, in order.
        """
        needed = self._needed[fields]
        chosen = counts >= needed
        waiting = needed > 1
        if waiting.any():
            chosen[waiting] = self.sightings.add(keys[waiting], counts[waiting], time) >= needed[waiting]
        got = np.flatnonzero(chosen)
        slots = self._allocate(len(got), time, sequence)
        self.keys[slots] = keys[got]
        self.fields[slots] = fields[got]
        self.seen[slots] = time
        self.born[slots] = True
        self._newborn.add(slots, among=self.next)
        return chosen, slots

    def sweep(self, *, time: int, sequence: int) -> Array:
        """Look at the next `sweep_rows` slots and take back those unseen for too long; answers the keys that owned them."""
        if not self._expires or self.next == self.reserved:
            return np.empty(0, np.int64)
        start = min(self.hand, self.next)
        stop = min(start + self.settings.sweep_rows, self.next)
        behind = min(self.reserved + self.settings.sweep_rows - (stop - start), start)
        parts = [self._unseen(start, stop, time), self._unseen(self.reserved, behind, time)]
        self.hand = behind if behind > self.reserved else stop
        slots = np.concatenate(parts)
        if not len(slots):
            return np.empty(0, np.int64)
        gone: Array = self.keys[slots]
        self.removed.extend(gone[~self.born[slots]].tolist())
        self.keys[slots] = NO_KEY
        self.born[slots] = False
        self.resting.append(Resting(time, sequence, slots.astype(np.int32)))
        return gone

    def _unseen(self, start: int, stop: int, time: int) -> Array:
        """Slots of [start, stop) whose keys were unseen for longer than their field allows."""
        unseen = self._unseen_us[self.fields[start:stop]]
        old = (unseen > 0) & (time - self.seen[start:stop] > unseen) & (self.keys[start:stop] != NO_KEY)
        found: Array = np.flatnonzero(old) + start
        return found

    def take(self) -> tuple[Array, Array, Array]:
        """What serving must hear: keys removed, keys admitted and their slots; then the count begins anew."""
        slots = self._newborn.marked(self.born[: self.next])
        removed = np.array(sorted(self.removed), np.int64)
        self.born[slots] = False
        self.removed = []
        return removed, self.keys[slots], slots

    def _allocate(self, count: int, time: int, sequence: int) -> Array:
        parts: list[Array] = []
        while count and self.resting and self._rested(self.resting[0], time, sequence):
            rest = self.resting.popleft()
            parts.append(rest.slots[:count])
            if len(rest.slots) > count:
                self.resting.appendleft(Resting(rest.time, rest.sequence, rest.slots[count:]))
            count -= len(parts[-1])
        if count:
            self._reach(self.next + count)
            parts.append(np.arange(self.next, self.next + count, dtype=np.int32))
            self.next += count
        return np.concatenate(parts) if parts else np.empty(0, np.int32)

    def _rested(self, rest: Resting, time: int, sequence: int) -> bool:
        return time - rest.time >= self._rest_us and sequence - rest.sequence >= max(self.settings.rest_sequences, 1)

    def _reach(self, rows: int) -> None:
        if rows <= self.capacity:
            return
        while self.capacity < rows:
            self.capacity *= 2
        self.keys = _longer(self.keys, self.capacity, NO_KEY)
        self.seen = _longer(self.seen, self.capacity, 0)
        self.fields = _longer(self.fields, self.capacity, 0)
        self.born = _longer(self.born, self.capacity, 0)

    def copies(self) -> dict[str, Array]:
        """Room for copies of as many rows as there is room for now, for `state`."""
        return {name: np.empty_like(getattr(self, name)) for name in _BY_ROW}

    def state(self, room: dict[str, Array] | None = None) -> dict[str, Array]:
        """Everything that a checkpoint needs, as copies; in `room`, if it is given: memory that is there already is copied to faster."""
        rests = list(self.resting)
        room = self.copies() if room is None else room
        for name in _BY_ROW:
            room[name][: self.next] = getattr(self, name)[: self.next]
        found: dict[str, Array] = {
            "next": np.array([self.next, self.hand, self.capacity], np.int64),
            **{name: room[name][: self.next] for name in _BY_ROW},
            "removed": np.array(sorted(self.removed), np.int64),
            "rests": np.array([(r.time, r.sequence, len(r.slots)) for r in rests], np.int64).reshape(-1, 3),
            "resting": np.concatenate([r.slots for r in rests]) if rests else np.empty(0, np.int32),
        }
        return found | {f"sightings_{name}": array for name, array in self.sightings.state().items()}

    def restore(self, state: dict[str, Array]) -> None:
        """Become what `state` says."""
        self.next, self.hand, capacity = (int(value) for value in state["next"])
        self._reach(capacity)
        for name in _BY_ROW:
            getattr(self, name)[: self.next] = state[name]
        self._newborn.forget()
        self.removed = state["removed"].tolist()
        ends = np.cumsum(state["rests"][:, 2]) if len(state["rests"]) else np.empty(0, np.int64)
        pieces = np.split(state["resting"], ends[:-1]) if len(ends) else []
        self.resting = deque(
            Resting(int(time), int(sequence), slots)
            for (time, sequence, _), slots in zip(state["rests"], pieces, strict=True)
        )
        prefix = "sightings_"
        self.sightings.restore({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})


def _longer(array: Array, length: int, fill: int) -> Array:
    grown = np.full(length, fill, array.dtype)
    grown[: len(array)] = array
    return grown
