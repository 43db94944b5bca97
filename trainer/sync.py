"""The signatures by which a loaded model is kept fresh and proved: `sync` applies deltas, `checksum` sums up what a probe names.

The graph itself keeps the order. Check and write are one critical section (a mutex of the model's own), and every write waits
for the one before it by an explicit control dependency: keys out, rows, keys in, dense weights, sequence. A prediction running
meanwhile therefore never finds a key without its row; rows are written under the variable's exclusive lock, so that none is
read half. A delta that follows on another sequence, or belongs to another epoch, changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from trainer import model
from trainer.delta import DELTA_MAGIC, PROBE_MAGIC
from trainer.fields import Plan, Table

Tensor = Any

_HEAD = 6
"""Words before the counts."""


@dataclass(frozen=True)
class Model:
    """The resources of a served model."""

    plan: Plan
    capacities: Sequence[int]
    """Rows that each table can hold. The variable has one more, for the rows of a delta that do not fit."""
    keys: Sequence[Tensor]
    """Hash tables."""
    rows: Sequence[Tensor]
    """Row variables, float32[capacity + 1, served]."""
    dense: Tensor
    """Flat dense weights."""
    place: Tensor
    """int64[2]: epoch and sequence, in one variable, so that nobody reads the one without the other."""


def sync(served: Model, deltas: Tensor) -> tuple[Tensor, Tensor]:
    """Apply deltas (string[n], in order, empty ones only ask): the sequence and the epoch that the model has then, int64[n] each."""

    def each(i: Tensor) -> Tensor:
        delta = deltas[i]
        return tf.cond(tf.equal(delta, ""), lambda: tf.constant(False), lambda: _apply(served, delta))

    lock = tf.raw_ops.MutexLock(mutex=_mutex())
    with tf.control_dependencies([lock.op]):
        count = tf.shape(deltas)[0]

        def body(i: Tensor) -> tuple[Tensor]:
            with tf.control_dependencies([each(i)]):
                return (i + 1,)

        (done,) = tf.while_loop(lambda i: i < count, body, [tf.constant(0)], parallel_iterations=1)
    with tf.control_dependencies([done]):
        place = read(served.place, tf.int64)
    with tf.control_dependencies([place]):
        free = tf.raw_ops.ConsumeMutexLock(mutex_lock=lock)
    with tf.control_dependencies([free]):
        return tf.fill(tf.shape(deltas), place[1]), tf.fill(tf.shape(deltas), place[0])


def checksum(served: Model, probes: Tensor) -> tuple[Tensor, Tensor]:
    """Sum up the words that each probe names: int64[n], and the sequence at which, int64[n]. An empty probe sums up to 0."""
    lock = tf.raw_ops.MutexLock(mutex=_mutex())
    with tf.control_dependencies([lock.op]):
        sums = tf.map_fn(
            lambda p: tf.cond(tf.equal(p, ""), lambda: tf.constant(0, tf.int64), lambda: _sum_up(served, p)),
            probes,
            fn_output_signature=tf.TensorSpec([], tf.int64),
            parallel_iterations=1,
        )
        place = read(served.place, tf.int64)
    with tf.control_dependencies([sums, place]):
        free = tf.raw_ops.ConsumeMutexLock(mutex_lock=lock)
    with tf.control_dependencies([free]):
        return tf.identity(sums), tf.fill(tf.shape(probes), place[1])


def read(handle: Tensor, dtype: Any) -> Tensor:
    """Read a variable."""
    return tf.raw_ops.ReadVariableOp(resource=handle, dtype=dtype)


def _mutex() -> Tensor:
    return tf.raw_ops.MutexV2(shared_name="everloop_sync")


def _apply(served: Model, delta: Tensor) -> Tensor:
    """Write one delta if it follows on where the model is; whether it did."""
    tables = served.plan.tables
    words = tf.io.decode_raw(delta, tf.int32)
    counts = tf.reshape(words[_HEAD : _HEAD + 3 * len(tables)], [len(tables), 3])
    dense = words[_HEAD - 1]
    length = _HEAD + 3 * len(tables) + dense + tf.add_n([_length(counts[i], t) for i, t in enumerate(tables)])
    whole = tf.reduce_all(
        [
            tf.equal(words[0], DELTA_MAGIC),
            tf.equal(dense, served.plan.dense_size),
            tf.reduce_min(counts) >= 0,
            tf.equal(length, tf.size(words)),
        ]
    )
    checked = tf.raw_ops.Assert(
        condition=whole, data=[tf.constant("sync: not a delta of this model; it was not applied")]
    )
    with tf.control_dependencies([checked]):
        follows = tf.reduce_all(tf.equal(_longs(words[1:5]), read(served.place, tf.int64)))
    return tf.cond(follows, lambda: _write(served, words, counts), lambda: tf.constant(False))


def _length(count: Tensor, table: Table) -> Tensor:
    removed, rows, admitted = count[0], count[1], count[2]
    return 2 * removed + rows * (1 + table.served) + 3 * admitted


def _write(served: Model, words: Tensor, counts: Tensor) -> Tensor:
    cut = _Cutter(words, _HEAD + 3 * len(served.plan.tables))
    parts = []
    for i, table in enumerate(served.plan.tables):
        removed, slots = cut(2 * counts[i, 0]), cut(counts[i, 1])
        rows = tf.bitcast(tf.reshape(cut(counts[i, 1] * table.served), [-1, table.served]), tf.float32)
        parts.append((_longs(removed), slots, rows, _longs(cut(2 * counts[i, 2])), cut(counts[i, 2])))
    dense = tf.ensure_shape(tf.bitcast(cut(words[_HEAD - 1]), tf.float32), [served.plan.dense_size])
    last: list[Any] = []
    with tf.control_dependencies(last):
        last = [
            tf.raw_ops.LookupTableRemoveV2(table_handle=k, keys=p[0]) for k, p in zip(served.keys, parts, strict=True)
        ]
    with tf.control_dependencies(last):
        last = [_write_rows(served, i, slots, rows) for i, (_, slots, rows, _, _) in enumerate(parts)]
    with tf.control_dependencies(last):
        last = [_admit(served, i, keys, at) for i, (_, _, _, keys, at) in enumerate(parts)]
    with tf.control_dependencies(last):
        last = [tf.raw_ops.AssignVariableOp(resource=served.dense, value=dense)]
    with tf.control_dependencies(last):
        place = _longs(words[1:5]) + tf.constant([0, 1], tf.int64)
        last = [tf.raw_ops.AssignVariableOp(resource=served.place, value=place)]
    with tf.control_dependencies(last):
        return tf.constant(True)


def _write_rows(served: Model, i: int, slots: Tensor, rows: Tensor) -> Any:
    """Rows beyond this base's room go to its last one, which no key reads: they have their place in the next base."""
    at = tf.minimum(slots, served.capacities[i])[:, None]
    return tf.raw_ops.ResourceScatterNdUpdate(ref=served.rows[i], indices=at, updates=rows)


def _admit(served: Model, i: int, keys: Tensor, slots: Tensor) -> Any:
    fits = slots < served.capacities[i]
    keys, slots = tf.boolean_mask(keys, fits), tf.boolean_mask(slots, fits)
    return tf.raw_ops.LookupTableInsertV2(table_handle=served.keys[i], keys=keys, values=slots)


def _sum_up(served: Model, probe: Tensor) -> Tensor:
    tables = served.plan.tables
    words = tf.io.decode_raw(probe, tf.int32)
    counts = tf.reshape(words[1 : 1 + 2 * len(tables)], [len(tables), 2])
    checked = tf.raw_ops.Assert(
        condition=tf.equal(words[0], PROBE_MAGIC), data=[tf.constant("checksum: not a probe of this model")]
    )
    with tf.control_dependencies([checked]):
        total = _words_sum(tf.bitcast(read(served.dense, tf.float32), tf.int32))
    cut = _Cutter(words, 1 + 2 * len(tables))
    for i in range(len(tables)):
        slots, keys = cut(counts[i, 0]), _longs(cut(2 * counts[i, 1]))
        rows = tf.raw_ops.ResourceGather(resource=served.rows[i], indices=slots, dtype=tf.float32)
        found = model.find(served.keys[i], keys)
        words_of = tf.reshape(tf.bitcast(rows, tf.int32), [-1])
        total += (2 * i + 3) * (_words_sum(words_of) + 31 * _words_sum(found))
    return total


def _words_sum(words: Tensor) -> Tensor:
    """As `delta.words_sum`."""
    place = 2 * tf.range(tf.size(words, out_type=tf.int64), dtype=tf.int64) + 1
    return tf.reduce_sum(tf.cast(words, tf.int64) * place)


def _longs(words: Tensor) -> Tensor:
    return tf.bitcast(tf.reshape(words, [-1, 2]), tf.int64)


class _Cutter:
    """Cuts pieces off the front, one after another."""

    def __init__(self, words: Tensor, start: int) -> None:
        self._words, self._at = words, tf.constant(start)

    def __call__(self, length: Tensor) -> Tensor:
        piece = tf.slice(self._words, [self._at], [length])
        self._at += length
        return piece
