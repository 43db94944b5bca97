"""The rows of one table as a step uses them: whose they are, which it reads and writes, which the next delta must carry. Pure.

A step names each row once. What stands here turns the slots that its keys were found at into that: keys without a slot are
counted and may get one, the others share their field's default row, and keys unseen for long lose theirs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feedback.events import REVISION
from trainer.fields import Table
from trainer.noted import Noted
from trainer.priors import priors
from trainer.settings import ModelSettings
from trainer.slots import Slots

Array = NDArray[Any]


@dataclass(frozen=True)
class Keyed:
    """The keys of a batch."""

    keys: tuple[Array, ...]
    """Per table int64[n, C]."""
    widths: tuple[Array, ...]
    """Per table int32: columns of each multi-valued field."""


@dataclass(frozen=True)
class Touched:
    """What a step does to one table."""

    rows: Array
    """int32[m]: slots to read and write back, each once, the reserved ones first."""
    sources: Array
    """int32[m]: where each row is read from: itself, or its field's default row when its key is new."""
    fresh: Array
    """bool[m]: rows whose key is new, so that its optimizer state begins anew."""
    where: Array
    """int32[n, C]: which of `rows` each column of each example uses."""
    order: Array
    """int32: the places of `where`, flattened, in the order of the rows they use, so that a row's gradients lie together."""
    ordered: Array
    """int32: `where` in that order."""
    firsts: Array
    """int32[e]: places in `where`, flattened, of keys that got their row in this step: they teach their default row too."""
    defaults: Array
    """int32[e]: which of `rows` is the default row of each."""
    widths: Array
    """int32: columns of each multi-valued field."""
    admitted: tuple[Array, Array]
    """Keys and slots to insert."""
    expired: Array
    """Keys to remove."""
    priors: Array
    """float32[m, heads]: what a fresh row's heads begin with."""


@dataclass(frozen=True)
class Admitted:
    """Keys that got a row in this step."""

    keys: Array
    slots: Array
    firsts: Array
    """Places of all their sightings."""


class Rows:
    """One table's rows. Not thread-safe."""

    def __init__(self, table: Table, settings: ModelSettings) -> None:
        self.table = table
        self.slots = Slots(table, settings.slots)
        self._prior = settings.head_prior
        self._marks = np.zeros(self.slots.capacity, np.int32)
        self._dirty = np.zeros(self.slots.capacity, np.bool_)
        self._dirty[: table.reserved] = True
        self._noted = Noted()
        self._stale = np.zeros(self.slots.capacity, np.bool_)

    def touch(self, keys: Array, slots: Array, widths: Array, emissions: Array, *, time: int, sequence: int) -> Touched:
        """Admit, expire, and work out which rows the step reads and writes.

        `keys`: int64[n, C]; `slots`: where they were found, int32[n, C], −1 for none; `emissions`: of the n examples;
        `time`: event time, µs; `sequence`: the line's.
        """
        table, flat = self.table, slots.ravel()
        columns = _fields(table, widths)
        lost = np.flatnonzero(flat < 0)
        new = _NOBODY
        if len(lost):
            new = self._admit(keys.ravel(), flat, lost, columns, emissions, time=time, sequence=sequence)
        self._grow()
        rows, where = self._distinct(flat)
        own = rows[table.reserved - table.first :]
        self.slots.touch(own, time)
        expired = self.slots.sweep(time=time, sequence=sequence)
        sources, fresh = rows.copy(), np.zeros(len(rows), np.bool_)
        begin = np.zeros((len(rows), table.heads), np.float32)
        if len(new.slots):
            at = self._marks[new.slots]
            sources[at] = self.slots.fields[new.slots] + 1
            fresh[at] = True
            begin[at] = priors(new.keys, table.heads, self._prior)
        written = rows[1 - table.first :] if len(lost) else own
        self._dirty[written] = True
        self._noted.add(written, among=self.slots.next)
        order = _order(where, len(rows))
        return Touched(
            rows=rows,
            sources=sources,
            fresh=fresh,
            where=where.reshape(slots.shape),
            order=order,
            ordered=where[order],
            firsts=new.firsts,
            defaults=(columns[new.firsts % slots.shape[1]] + 1 - table.first).astype(np.int32),
            widths=widths,
            admitted=(new.keys, new.slots),
            expired=expired,
            priors=begin,
        )

    def changed(self) -> Array:
        """Rows that the next delta must carry, int32, ascending."""
        return self._noted.marked(self._dirty[: self.slots.next])

    def carried(self, rows: Array) -> None:
        """A delta carries these rows as they are now."""
        self._dirty[rows] = False
        self._stale[rows] = True

    def stale(self) -> Array:
        """Rows that may have changed since `mirrored`, int32, ascending: those that deltas carried, and those that the next one must."""
        used = slice(0, self.slots.next)
        return np.flatnonzero(self._stale[used] | self._dirty[used]).astype(np.int32)

    def mirrored(self) -> None:
        """All rows have been copied as they are now."""
        self._stale[: self.slots.next] = False

    def restore(self, slots: dict[str, Array], dirty: Array) -> None:
        """Become what a snapshot says. Every row is stale."""
        self.slots.restore(slots)
        self._marks = np.zeros(self.slots.capacity, np.int32)
        self._dirty = np.zeros(self.slots.capacity, np.bool_)
        self._dirty[dirty] = True
        self._noted.forget()
        self._stale = np.ones(self.slots.capacity, np.bool_)

    def _admit(
        self, keys: Array, flat: Array, lost: Array, columns: Array, emissions: Array, *, time: int, sequence: int
    ) -> Admitted:
        """Give slots to keys seen often enough (in `flat`, in place; the others get their default rows).

        A revision is no sighting: its impression was one before.
        """
        width = len(columns)
        fields = columns[lost % width]
        flat[lost] = fields + 1
        counted = np.flatnonzero(emissions[lost // width] != REVISION)
        places = lost[counted]
        if not len(places):
            return _NOBODY
        distinct, at, back, counts = _alike(keys[places])
        chosen, slots = self.slots.admit(distinct, counts, fields[counted][at], time=time, sequence=sequence)
        if not len(slots):
            return _NOBODY
        by_key = np.full(len(distinct), -1, np.int32)
        by_key[chosen] = slots
        mine = by_key[back]
        got = mine >= 0
        flat[places[got]] = mine[got]
        return Admitted(distinct[chosen], slots, places[got].astype(np.int32))

    def _distinct(self, flat: Array) -> tuple[Array, Array]:
        """The slots in `flat`, each once behind the reserved ones, and for each place which of them it uses."""
        mark, table = self._marks, self.table
        order = np.arange(len(flat), dtype=np.int32)
        mark[flat] = order
        others = flat[(mark[flat] == order) & (flat >= table.reserved)]
        rows = np.concatenate([np.arange(table.first, table.reserved, dtype=np.int32), others])
        mark[rows] = np.arange(len(rows), dtype=np.int32)
        return rows, mark[flat]

    def _grow(self) -> None:
        """Keep book of as many rows as there are slots."""
        capacity = self.slots.capacity
        if capacity <= len(self._dirty):
            return
        self._marks = np.zeros(capacity, np.int32)
        self._dirty, self._stale = (
            np.concatenate([before, np.zeros(capacity - len(before), np.bool_)])
            for before in (self._dirty, self._stale)
        )


_NOBODY = Admitted(np.empty(0, np.int64), np.empty(0, np.int32), np.empty(0, np.int32))


def _alike(keys: Array) -> tuple[Array, Array, Array, Array]:
    """The keys, each once and ascending; where each stands first; which of them each place holds; how often each is there.

    `numpy.unique` says the same, but sorts stably for it, which takes three times as long.
    """
    order = np.argsort(keys)
    ordered = keys[order]
    begins = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    counts = np.diff(begins, append=len(keys))
    back = np.empty(len(keys), np.int32)
    back[order] = np.repeat(np.arange(len(begins), dtype=np.int32), counts)
    return ordered[begins], np.minimum.reduceat(order, begins), back, counts


def _order(where: Array, rows: int) -> Array:
    """Places in the order of their rows, ties as they stand: numpy sorts 16-bit numbers in linear time."""
    short = where.astype(np.uint16) if rows <= 65_536 else where
    return np.argsort(short, kind="stable").astype(np.int32)


def _fields(table: Table, widths: Array) -> Array:
    """Which field each column belongs to, int64[C]."""
    single = len(table.single)
    if not table.several:
        return np.arange(single)
    return np.concatenate([np.arange(single), np.repeat(np.arange(single, single + len(table.several)), widths)])
