"""The learner: takes batches one after another, scores each before it learns from it, and says what changed."""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feedback.errors import EventError, UsageError
from feedback.features import FeatureSpec
from trainer import delta, model
from trainer.batch import Batch
from trainer.engine import Engine
from trainer.fields import Plan, plan
from trainer.mirror import Mirror
from trainer.rows import Keyed, Rows
from trainer.settings import ModelSettings
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
        self.tables = [Rows(table, self.plan.settings) for table in self.plan.tables]
        self._held = [rows.slots.capacity for rows in self.tables]
        """Rows that the engine has room for, per table."""
        self._engine = Engine(self.plan, self._held)
        self._mirrors = self._new_mirrors()
        self._lent: weakref.ref[Snapshot] | None = None
        """The last snapshot, which has the mirrors' arrays, for as long as there is one."""
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
        found = zip(self.tables, keyed.keys, self._engine.find(keyed), keyed.widths, strict=True)
        touched = [
            rows.touch(keys, slots, widths, batch.emissions, time=self.clock, sequence=self.sequence)
            for rows, keys, slots, widths in found
        ]
        for i in range(len(self.tables)):
            self._fit(i)
        self.step += 1
        return self._engine.step(batch, touched, self.step, self._bootstrap(len(batch)))

    def score(self, batch: Batch) -> Array:
        """Score the rows at the reference position, float32[n]; nothing changes."""
        return self._engine.score(batch)[0]

    def heads(self, batch: Batch) -> Array:
        """The bootstrap heads' scores at the reference position, float32[n, heads]; nothing changes."""
        return self._engine.score(batch)[1]

    def _fit(self, i: int) -> None:
        """Make the engine's rows as many as the slots."""
        capacity, held = self.tables[i].slots.capacity, self._held[i]
        if capacity <= held:
            return
        every = np.arange(held, dtype=np.int32)
        scalars, vectors = self._engine.scalars(i, every), self._engine.vectors(i, every)
        self._engine.set_table(i, _longer(scalars, capacity), _longer(vectors, capacity))
        self._held[i] = capacity

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
        for i, table in enumerate(self.tables):
            rows = table.changed()
            removed, keys, at = table.slots.take()
            parts.append(delta.Part(removed, rows, self._engine.rows(i, rows), keys, at))
            table.carried(rows)
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
        for i, slots in enumerate(each.slots for each in self.tables):
            rows = np.sort(random.integers(0, min(slots.next, slots.floor), PROBE_ROWS)).astype(np.int32)
            rows = rows[(rows < slots.reserved) | (slots.keys[rows] != model.EMPTY)]
            keys = slots.keys[rows[rows >= slots.reserved]]
            probes.append((rows, keys))
            expected.append((self._engine.rows(i, rows), rows[rows >= slots.reserved]))
        return delta.probe(probes), delta.answer(expected, self._engine.dense()[0])

    def outgrows(self, capacities: Mapping[str, int]) -> bool:
        """Whether a base with room for so many rows per table is nearly full, and one that is made now has more."""
        return any(
            rows.table.name in capacities and rows.slots.outgrows(capacities[rows.table.name]) for rows in self.tables
        )

    # ---- the whole state

    def snapshot(self) -> Snapshot:
        """Copy the state, for export, checkpoint or digest in another thread."""
        if self._lent is not None and self._lent() is not None:
            # Somebody still has the last one: its arrays must stay as they are.
            self._mirrors = self._new_mirrors()
        scalars, vectors, slots = zip(
            *(mirror.update(rows) for mirror, rows in zip(self._mirrors, self.tables, strict=True)), strict=True
        )
        snapshot = Snapshot(
            plan=self.plan,
            line=self.line,
            epoch=self.epoch,
            step=self.step,
            sequence=self.sequence,
            clock=self.clock,
            taken=self._taken,
            chain=self._chain,
            dense=self._engine.dense(),
            scalars=scalars,
            vectors=vectors,
            slots=slots,
            dirty=tuple(rows.changed() for rows in self.tables),
        )
        self._lent = weakref.ref(snapshot)
        return snapshot

    def _new_mirrors(self) -> list[Mirror]:
        return [
            Mirror(partial(self._engine.scalars, i), partial(self._engine.vectors, i)) for i in range(len(self.tables))
        ]

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
        self._mirrors.clear()
        self._engine.close()

    def _become(self, snapshot: Snapshot) -> None:
        self.step, self.sequence, self.clock = snapshot.step, snapshot.sequence, snapshot.clock
        self._taken, self._chain = snapshot.taken, snapshot.chain
        for i, rows in enumerate(self.tables):
            rows.restore(snapshot.slots[i], snapshot.dirty[i])
            slots, self._held[i] = rows.slots, rows.slots.capacity
            scalars = _longer(snapshot.scalars[i], slots.capacity)
            vectors = _longer(snapshot.vectors[i], slots.capacity)
            self._engine.set_table(i, scalars, vectors)
            self._mirrors[i].adopt(rows, scalars, vectors)
            at = np.flatnonzero(slots.keys[: slots.next] != model.EMPTY).astype(np.int32)
            self._engine.insert(i, slots.keys[at], at)
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
            scalars = np.zeros((self._held[i], table.scalars), np.float32)
            vectors = np.zeros((self._held[i], table.dim), np.float32)
            vectors[1 : table.reserved] = random.normal(0.0, adagrad.scale, (table.reserved - 1, table.dim))
            scalars[1 : table.reserved, 3 + table.heads :] = adagrad.start
            self._engine.set_table(i, scalars, vectors)


def _longer(rows: Array, count: int) -> Array:
    """The rows and room for more, in memory that TensorFlow copies when it is fed with it.

    It would share what begins at a multiple of 64 bytes, and a mirror that adopts these arrays would be written to by training.
    """
    memory = np.zeros(count * rows.shape[1] + 1, np.float32)
    # Memory begins at a multiple of 16 bytes, so that four more are never one of 64.
    grown = memory[1:].reshape(count, rows.shape[1])
    grown[: len(rows)] = rows
    return grown
