"""The learner: takes batches one after another, scores each before it learns from it, and says what changed."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feedback.errors import EventError, UsageError
from feedback.events import REVISION
from feedback.features import FeatureSpec
from trainer import delta, model
from trainer.batch import Batch
from trainer.engine import Engine, Keyed, Touched
from trainer.fields import Plan, Table, plan
from trainer.settings import ModelSettings
from trainer.slots import Slots
from trainer.snapshot import Snapshot

Array = NDArray[Any]

PROBE_ROWS = 1_024
"""Rows per table that a checksum looks at."""


class Learner:
    """A model that learns. One thread at a time; `Snapshot` is what other threads may hold."""

    def __init__(self, features: FeatureSpec, settings: ModelSettings, *, line: str, epoch: int = 1) -> None:
        """Start a line from nothing.

        Raises:
            ConfigError: the settings name features that are not there.
        """
        self.plan: Plan = plan(features, settings)
        self.line = line
        self.epoch = epoch
        """The line's epoch; settable (a rollback raises it)."""
        self.step = 0
        """Steps taken since the line began."""
        self.sequence = 0
        """Deltas taken since the line began."""
        self.clock = 0
        """Greatest event time seen, µs."""
        self.slots = [Slots(table, settings.slots) for table in self.plan.tables]
        self._engine = Engine(self.plan, [s.capacity for s in self.slots])
        self._marks = [np.zeros(s.capacity, np.int32) for s in self.slots]
        self._dirty = [np.zeros(s.capacity, np.bool_) for s in self.slots]
        """Per table which rows the next delta must carry."""
        self._chain = hashlib.sha256(line.encode()).hexdigest()
        self._taken = 0
        """The step at which the last delta was taken."""
        self._start()

    # ---- learning

    def prepare(self, batch: Batch) -> Keyed:
        """Work out a batch's keys, ahead of `learn` and in any thread: they depend on nothing that is learned."""
        return self._engine.keys(batch)

    def learn(self, batch: Batch, keyed: Keyed | None = None) -> Array:
        """Score the rows with the weights as they are (float32[n]), then take one step with them.

        `keyed`: what `prepare` made of the same batch, if it was called.

        Raises:
            EventError: `fnw` and a sample weight other than 1: its weights are not defined then.
        """
        if not len(batch):
            return np.empty(0, np.float32)
        if self.plan.settings.revision == "fnw" and (batch.weights != 1).any():
            raise EventError("weight_with_fnw", field="weights", allowed="1 where trainer.model.revision = fnw")
        self.clock = max(self.clock, batch.event_time)
        keyed = keyed or self._engine.keys(batch)
        found = zip(keyed.keys, self._engine.find(keyed), keyed.widths, strict=True)
        touched = [self._touch(i, *table, batch) for i, table in enumerate(found)]
        self.step += 1
        return self._engine.step(batch, touched, self.step, self._bootstrap(len(batch)))

    def score(self, batch: Batch) -> Array:
        """Score the rows at the reference position, float32[n]; nothing changes."""
        return self._engine.score(batch)[0]

    def heads(self, batch: Batch) -> Array:
        """The bootstrap heads' scores at the reference position, float32[n, heads]; nothing changes."""
        return self._engine.score(batch)[1]

    def _touch(self, i: int, keys: Array, slots: Array, widths: Array, batch: Batch) -> Touched:
        """Admit, expire, and work out which rows the step reads and writes."""
        table, owned = self.plan.tables[i], self.slots[i]
        columns = _fields(table, widths)
        flat = slots.ravel()
        lost = np.flatnonzero(flat < 0)
        new_keys, new_slots, firsts = _NO_KEYS, _NO_SLOTS, _NO_SLOTS
        if len(lost):
            new_keys, new_slots, firsts = self._admit(i, keys.ravel(), flat, lost, columns, batch.emissions)
        self._reach(i)
        rows, where = self._distinct(i, flat, table)
        own = rows[table.reserved - table.first :]
        owned.touch(own, self.clock)
        expired = owned.sweep(time=self.clock, sequence=self.sequence)
        sources, fresh = rows.copy(), np.zeros(len(rows), np.bool_)
        if len(new_slots):
            fresh_at = self._marks[i][new_slots]
            sources[fresh_at] = owned.fields[new_slots] + 1
            fresh[fresh_at] = True
        priors = np.zeros((len(rows), table.heads), np.float32)
        if table.heads and len(new_slots):
            priors[self._marks[i][new_slots]] = _priors(new_keys, table.heads, self.plan.settings.head_prior)
        self._dirty[i][rows[1 - table.first :] if len(lost) else own] = True
        order = _order(where, len(rows))
        return Touched(
            rows=rows,
            sources=sources,
            fresh=fresh,
            where=where.reshape(slots.shape),
            order=order,
            ordered=where[order],
            firsts=firsts,
            defaults=(columns[firsts % slots.shape[1]] + 1 - table.first).astype(np.int32),
            widths=widths,
            admitted=(new_keys, new_slots),
            expired=expired,
            priors=priors,
        )

    def _admit(
        self, i: int, keys: Array, flat: Array, lost: Array, columns: Array, emissions: Array
    ) -> tuple[Array, Array, Array]:
        """Give slots to keys seen often enough (in `flat`, in place; the others get their default rows).

        Answers the keys admitted, their slots, and the places of all their sightings. A revision is no sighting: its
        impression was one before.
        """
        width = len(columns)
        fields = columns[lost % width]
        flat[lost] = fields + 1
        counted = np.flatnonzero(emissions[lost // width] != REVISION)
        places = lost[counted]
        if not len(places):
            return _NO_KEYS, _NO_SLOTS, _NO_SLOTS
        distinct, at, back, counts = np.unique(keys[places], return_index=True, return_inverse=True, return_counts=True)
        chosen, slots = self.slots[i].admit(
            distinct, counts, fields[counted][at], time=self.clock, sequence=self.sequence
        )
        if not len(slots):
            return _NO_KEYS, _NO_SLOTS, _NO_SLOTS
        by_key = np.full(len(distinct), -1, np.int32)
        by_key[chosen] = slots
        mine = by_key[back]
        got = mine >= 0
        flat[places[got]] = mine[got]
        return distinct[chosen], slots, places[got].astype(np.int32)

    def _distinct(self, i: int, flat: Array, table: Table) -> tuple[Array, Array]:
        """The slots in `flat`, each once behind the reserved ones, and for each place which of them it uses."""
        mark = self._marks[i]
        order = np.arange(len(flat), dtype=np.int32)
        mark[flat] = order
        others = flat[(mark[flat] == order) & (flat >= table.reserved)]
        rows = np.concatenate([np.arange(table.first, table.reserved, dtype=np.int32), others])
        mark[rows] = np.arange(len(rows), dtype=np.int32)
        return rows, mark[flat]

    def _reach(self, i: int) -> None:
        """Make the rows as many as the slots."""
        capacity = self.slots[i].capacity
        if capacity <= len(self._marks[i]):
            return
        self._engine.set_table(
            i, _longer(self._engine.scalars(i), capacity), _longer(self._engine.vectors(i), capacity)
        )
        self._marks[i] = np.zeros(capacity, np.int32)
        dirty = np.zeros(capacity, np.bool_)
        dirty[: len(self._dirty[i])] = self._dirty[i]
        self._dirty[i] = dirty

    def _bootstrap(self, n: int) -> Array:
        """Online bootstrap: each head learns from a sample 0, 1, 2 … times (Poisson), the same ones in a repeated run."""
        heads = self.plan.settings.heads
        if not heads:
            return np.empty((n, 0), np.float32)
        random = np.random.Generator(np.random.Philox(key=[self.plan.settings.seed, self.step]))
        return random.poisson(1.0, (n, heads)).astype(np.float32)

    # ---- what changed

    def take_delta(self) -> bytes:
        """Everything that serving needs and that changed since the last take, as the next sequence; b"" if nothing did."""
        if self._taken == self.step:
            return b""
        parts = []
        states = hashlib.sha256(self._chain.encode())
        for i, slots in enumerate(self.slots):
            rows = self._changed(i)
            removed, keys, at = slots.take()
            parts.append(delta.Part(removed, rows, self._engine.rows(i, rows), keys, at))
            self._dirty[i][rows] = False
        encoded = delta.encode(epoch=self.epoch, previous=self.sequence, parts=parts, dense=self._engine.dense()[0])
        self.sequence += 1
        self._taken = self.step
        states.update(encoded)
        self._chain = states.hexdigest()
        return encoded

    def chain(self) -> str:
        """Digest of all deltas of the line in order: cheap, for each delta's header. Two runs that agree in it took the same steps."""
        return self._chain

    def checksum(self, seed: int) -> tuple[bytes, int]:
        """A probe for signature `checksum` and the answer that a model at this sequence gives.

        Raises:
            UsageError: a step was taken since the last delta, so that no model can be where this learner is.
        """
        if self._taken != self.step:
            raise UsageError(
                f"checksum at step {self.step}: the last delta was taken at step {self._taken}; take it first"
            )
        random = np.random.Generator(np.random.Philox(key=[seed, self.sequence]))
        probes, expected = [], []
        for i, slots in enumerate(self.slots):
            rows = np.sort(random.integers(0, min(slots.next, slots.floor), PROBE_ROWS)).astype(np.int32)
            rows = rows[(rows < slots.reserved) | (slots.keys[rows] != model.EMPTY)]
            keys = slots.keys[rows[rows >= slots.reserved]]
            probes.append((rows, keys))
            expected.append((self._engine.rows(i, rows), rows[rows >= slots.reserved]))
        return delta.probe(probes), delta.answer(expected, self._engine.dense()[0])

    # ---- the whole state

    def snapshot(self) -> Snapshot:
        """Copy the state, for export, checkpoint or digest in another thread."""
        return Snapshot(
            plan=self.plan,
            line=self.line,
            epoch=self.epoch,
            step=self.step,
            sequence=self.sequence,
            clock=self.clock,
            taken=self._taken,
            chain=self._chain,
            dense=self._engine.dense(),
            scalars=tuple(self._engine.scalars(i) for i in range(len(self.slots))),
            vectors=tuple(self._engine.vectors(i) for i in range(len(self.slots))),
            slots=tuple(slots.state() for slots in self.slots),
            dirty=tuple(self._changed(i) for i in range(len(self.slots))),
        )

    def digest(self) -> str:
        """SHA-256 of weights, optimizer state and slots: costs time in proportion to the table."""
        return self.snapshot().digest()

    def save(self, folder: Path) -> None:
        """Write the whole state into `folder`."""
        self.snapshot().save(folder)

    @classmethod
    def load(cls, folder: Path) -> Learner:
        """Read what `save` wrote.

        Raises:
            CorruptError: files are missing or do not fit together.
        """
        return cls.of(Snapshot.load(folder))

    @classmethod
    def of(cls, snapshot: Snapshot) -> Learner:
        """A learner that goes on from a snapshot."""
        learner = cls(snapshot.plan.features, snapshot.plan.settings, line=snapshot.line, epoch=snapshot.epoch)
        learner._become(snapshot)
        return learner

    def close(self) -> None:
        """Free the session and its memory."""
        self._engine.close()

    def _become(self, snapshot: Snapshot) -> None:
        self.step, self.sequence, self.clock = snapshot.step, snapshot.sequence, snapshot.clock
        self._taken, self._chain = snapshot.taken, snapshot.chain
        for i, slots in enumerate(self.slots):
            slots.restore(snapshot.slots[i])
            used = slots.next
            self._engine.set_table(
                i,
                _longer(snapshot.scalars[i][:used], slots.capacity),
                _longer(snapshot.vectors[i][:used], slots.capacity),
            )
            at = np.flatnonzero(slots.keys[: slots.next] != model.EMPTY).astype(np.int32)
            self._engine.insert(i, slots.keys[at], at)
            self._marks[i] = np.zeros(slots.capacity, np.int32)
            self._dirty[i] = np.zeros(slots.capacity, np.bool_)
            self._dirty[i][snapshot.dirty[i]] = True
        self._engine.set_dense(snapshot.dense)

    def _start(self) -> None:
        """Weights before the first sample."""
        random = np.random.Generator(np.random.Philox(key=self.plan.settings.seed))
        dense = np.zeros((3, self.plan.dense_size), np.float32)
        for weight in self.plan.dense:
            if weight.scale:
                piece = slice(weight.offset, weight.offset + weight.size)
                dense[0, piece] = random.normal(0.0, weight.scale, weight.size)
        self._engine.set_dense(dense)
        adagrad = self.plan.settings.adagrad
        for i, table in enumerate(self.plan.tables):
            scalars = np.zeros((self.slots[i].capacity, table.scalars), np.float32)
            vectors = np.zeros((self.slots[i].capacity, table.dim), np.float32)
            vectors[1 : table.reserved] = random.normal(0.0, adagrad.scale, (table.reserved - 1, table.dim))
            scalars[1 : table.reserved, 3 + table.heads :] = adagrad.start
            self._engine.set_table(i, scalars, vectors)
            self._dirty[i][: table.reserved] = True

    def _changed(self, i: int) -> Array:
        """Rows that the next delta must carry, int32, ascending."""
        return np.flatnonzero(self._dirty[i][: self.slots[i].next]).astype(np.int32)


_NO_KEYS: Array = np.empty(0, np.int64)
_NO_SLOTS: Array = np.empty(0, np.int32)


def _order(where: Array, rows: int) -> Array:
    """Places in the order of their rows, ties as they stand: numpy sorts 16-bit numbers in linear time."""
    short = where.astype(np.uint16) if rows <= 65_536 else where
    return np.argsort(short, kind="stable").astype(np.int32)


def _longer(rows: Array, count: int) -> Array:
    grown = np.zeros((count, rows.shape[1]), np.float32)
    grown[: len(rows)] = rows
    return grown


def _fields(table: Table, widths: Array) -> Array:
    """Which field each column belongs to, int64[C]."""
    single = len(table.single)
    if not table.several:
        return np.arange(single)
    return np.concatenate([np.arange(single), np.repeat(np.arange(single, single + len(table.several)), widths)])


def _priors(keys: Array, heads: int, scale: float) -> Array:
    """Standard normal numbers times `scale`, float32[m, heads], that depend on the keys alone (Box–Muller on mixed bits)."""
    index = np.arange(1, heads + 1, dtype=np.uint64)
    first = _uniform(
        keys.view(np.uint64)[:, None] * np.uint64(0x9E3779B97F4A7C15) + index * np.uint64(0xD6E8FEB86659FD93)
    )
    second = _uniform(
        keys.view(np.uint64)[:, None] * np.uint64(0xC2B2AE3D27D4EB4F) + index * np.uint64(0xA0761D6478BD642F)
    )
    normal = np.sqrt(-2.0 * np.log(first)) * np.cos(2.0 * np.pi * second)
    return (scale * normal).astype(np.float32)


def _uniform(bits: Array) -> Array:
    """Numbers in (0, 1) from 64-bit words. Source: the finalizer of SplitMix64 (Steele et al., OOPSLA 2014)."""
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    bits = bits ^ (bits >> np.uint64(31))
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53 + 2.0**-54
