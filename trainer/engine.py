"""The training graph in a session: look keys up, take one step, read rows.

Rows, optimizer state and dense weights are resource variables, the keys a DenseHashTable. A step gathers each touched row once,
learns on the gathered rows, and writes each back once: no two writes meet, so that a step gives the same bytes every time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.core.protobuf import config_pb2

from trainer import losses, model, optimize
from trainer.batch import Batch
from trainer.fields import Plan, Table

Array = NDArray[Any]
Tensor = Any


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


class Engine:
    """The graph and its session. Not thread-safe."""

    def __init__(self, plan: Plan, capacities: Sequence[int]) -> None:
        self.plan = plan
        self._graph = tf.Graph()
        with self._graph.as_default():
            self._build(plan, capacities)
        config = config_pb2.ConfigProto(
            intra_op_parallelism_threads=plan.settings.threads,
            inter_op_parallelism_threads=plan.settings.threads,
            use_per_session_threads=True,
            allow_soft_placement=True,
        )
        self._session = tf.compat.v1.Session(graph=self._graph, config=config)
        self._session.run(self._init)
        self._callables: dict[str, Any] = {}

    def close(self) -> None:
        """Free the session."""
        self._callables.clear()
        self._session.close()

    # ---- what the learner calls

    def look_up(self, batch: Batch) -> list[tuple[Array, Array, Array]]:
        """Per table: keys int64[n, C], slots int32[n, C] (−1: none; keys that are NOTHING: 0), columns per multi-valued field."""
        found = self._run("look_up", *(batch.columns[f.name] for f in self.plan.features.features))
        return [(found[i], found[i + 1], found[i + 2]) for i in range(0, len(found), 3)]

    def step(self, batch: Batch, touched: Sequence[Touched], step: int, bootstrap: Array) -> Array:
        """Score the batch, then learn from it: float32[n]."""
        feeds: list[Array] = [
            batch.emissions,
            batch.weights,
            batch.positions,
            np.array(step, np.float32),
            bootstrap,
            *(batch.columns[name] for name in self.plan.numbers),
        ]
        for t in touched:
            feeds += [
                t.rows,
                t.sources,
                t.fresh,
                t.where,
                t.firsts,
                t.defaults,
                t.widths,
                *t.admitted,
                t.expired,
                t.priors,
            ]
        scores: Array = self._run("step", *feeds)[0]
        return scores

    def score(self, batch: Batch) -> tuple[Array, Array]:
        """Scores at the reference position, float32[n], and of the heads, float32[n, heads]."""
        score, heads = self._run("score", *(batch.columns[f.name] for f in self.plan.features.features))
        return score, heads

    def rows(self, table: int, slots: Array) -> Array:
        """The served part of some rows."""
        served: Array = self._run(f"rows{table}", slots)[0]
        return served

    def table(self, table: int) -> Array:
        """All rows, with optimizer state: a copy."""
        everything: Array = self._run(f"read{table}")[0]
        return everything

    def dense(self) -> Array:
        """Dense weights and their two state vectors, float32[3, size]: a copy."""
        stacked: Array = self._run("dense")[0]
        return stacked

    def set_table(self, table: int, rows: Array) -> None:
        """Replace all rows; their number may change."""
        self._run(f"write{table}", rows)

    def set_dense(self, dense: Array) -> None:
        """Replace dense weights and state."""
        self._run("set_dense", dense)

    def insert(self, table: int, keys: Array, slots: Array) -> None:
        """Put keys into a table's hash table."""
        self._run(f"insert{table}", keys, slots)

    # ---- the graph

    def _build(self, plan: Plan, capacities: Sequence[int]) -> None:
        self._ends: dict[str, tuple[list[Tensor], list[Tensor], list[Any]]] = {}
        self._init: list[Any] = []
        with tf.device("/CPU:0"):
            self._keys = [_hash_table(t.name, 2 * c) for t, c in zip(plan.tables, capacities, strict=True)]
            self._rows = [self._variable(f"rows_{t.name}", [None, t.width]) for t in plan.tables]
        self._dense = self._variable("dense", [3, plan.dense_size])
        columns = model.inputs(plan)
        feeds = [columns[f.name] for f in plan.features.features]
        with tf.device("/CPU:0"):
            prints = model.fingerprints(plan, columns)
            found = [self._found(i, columns, prints) for i in range(len(plan.tables))]
        self._ends["look_up"] = (feeds, [x for item in found for x in item], [])
        self._score_graph(columns, feeds, found)
        self._step_graph(columns)
        for i, table in enumerate(plan.tables):
            self._access(i, table)
        given = tf.compat.v1.placeholder(tf.float32, [3, plan.dense_size])
        self._ends["dense"] = ([], [tf.identity(_read(self._dense))], [])
        self._ends["set_dense"] = ([given], [], [_assign(self._dense, given)])

    def _variable(self, name: str, shape: list[int | None]) -> Tensor:
        handle = tf.raw_ops.VarHandleOp(dtype=tf.float32, shape=tf.TensorShape(shape), shared_name=name, name=name)
        self._init.append(_assign(handle, tf.zeros([size or 1 for size in shape])))
        return handle

    def _found(self, i: int, columns: dict[str, Tensor], prints: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        table = self.plan.tables[i]
        keys, widths = model.keys(table, self.plan, columns, prints)
        slots = model.find(self._keys[i], keys)
        if table.several:
            slots = tf.where(tf.equal(keys, model.NOTHING), tf.zeros_like(slots), slots)
        return keys, slots, widths

    def _score_graph(self, columns: dict[str, Tensor], feeds: list[Tensor], found: list[tuple[Tensor, ...]]) -> None:
        rows, there = [], []
        for i, table in enumerate(self.plan.tables):
            _, slots, widths = found[i]
            slots = tf.where(slots < 0, model.default_rows(table, widths)[None, :], slots)
            gathered = tf.raw_ops.ResourceGather(resource=self._rows[i], indices=slots, dtype=tf.float32)
            rows.append(gathered[:, :, : table.served])
            there.append(tf.not_equal(slots, 0))
        dense = model.dense_weights(self.plan, _read(self._dense)[0])
        number = model.numbers(self.plan, columns)
        logit, heads = model.logits(self.plan, rows, there, [f[2] for f in found], number, dense)
        self._ends["score"] = (feeds, [tf.sigmoid(logit), tf.sigmoid(logit[:, None] + heads)], [])

    def _step_graph(self, columns: dict[str, Tensor]) -> None:
        plan, settings = self.plan, self.plan.settings
        emissions = tf.compat.v1.placeholder(tf.int8, [None])
        weights = tf.compat.v1.placeholder(tf.float32, [None])
        positions = tf.compat.v1.placeholder(tf.int32, [None])
        step = tf.compat.v1.placeholder(tf.float32, [])
        bootstrap = tf.compat.v1.placeholder(tf.float32, [None, settings.heads])
        feeds = [emissions, weights, positions, step, bootstrap, *(columns[name] for name in plan.numbers)]
        with tf.device("/CPU:0"):
            parts = [_Part(t, self._rows[i], self._keys[i]) for i, t in enumerate(plan.tables)]
            for part in parts:
                feeds += part.feeds
                part.gather(plan)
        state = _read(self._dense)
        flat = tf.identity(state[0])
        number = model.numbers(plan, columns) if plan.numbers else tf.zeros([tf.shape(emissions)[0], 0], tf.float32)
        logit, heads = model.logits(
            plan,
            [p.columns for p in parts],
            [p.there for p in parts],
            [p.widths for p in parts],
            number,
            model.dense_weights(plan, flat),
            positions,
        )
        up = [losses.gradient(logit, emissions, weights, settings.revision)]
        tops = [logit]
        if settings.heads:
            spread = tf.stop_gradient(logit)[:, None] + heads
            labels, weighed = (tf.broadcast_to(x[:, None], tf.shape(heads)) for x in (emissions, weights))
            up.append(bootstrap * losses.gradient(spread, labels, weighed, settings.revision))
            tops.append(heads)
        down = tf.gradients(tops, [*(p.columns for p in parts), flat], grad_ys=up)
        with tf.device("/CPU:0"):
            writes = [op for part, g in zip(parts, down[:-1], strict=True) for op in part.update(plan, g)]
        writes.append(_assign(self._dense, _dense_update(plan, state, down[-1], step, tf.shape(logit)[0])))
        self._ends["step"] = (feeds, [tf.sigmoid(logit)], writes)

    def _access(self, i: int, table: Table) -> None:
        slots = tf.compat.v1.placeholder(tf.int32, [None])
        keys = tf.compat.v1.placeholder(tf.int64, [None])
        rows = tf.compat.v1.placeholder(tf.float32, [None, table.width])
        with tf.device("/CPU:0"):
            gathered = tf.raw_ops.ResourceGather(resource=self._rows[i], indices=slots, dtype=tf.float32)
            self._ends[f"rows{i}"] = ([slots], [gathered[:, : table.served]], [])
            self._ends[f"read{i}"] = ([], [tf.identity(_read(self._rows[i]))], [])
            self._ends[f"write{i}"] = ([rows], [], [_assign(self._rows[i], rows)])
            self._ends[f"insert{i}"] = (
                [keys, slots],
                [],
                [tf.raw_ops.LookupTableInsertV2(table_handle=self._keys[i], keys=keys, values=slots)],
            )

    def _run(self, name: str, *feeds: Array) -> list[Array]:
        call = self._callables.get(name)
        if call is None:
            placeholders, fetches, targets = self._ends[name]
            options = config_pb2.CallableOptions(
                feed=[p.name for p in placeholders],
                fetch=[f.name for f in fetches],
                target=[t.name for t in targets],
            )
            call = self._callables[name] = self._session._make_callable_from_options(options)
        result: list[Array] = call(*feeds)
        return result


class _Part:
    """One table's share of a step."""

    def __init__(self, table: Table, rows: Tensor, keys: Tensor) -> None:
        hold = tf.compat.v1.placeholder
        self.table, self._rows, self._keys = table, rows, keys
        self.rows, self.sources = hold(tf.int32, [None]), hold(tf.int32, [None])
        self.fresh = hold(tf.bool, [None])
        self.where = hold(tf.int32, [None, None])
        self.firsts, self.defaults = hold(tf.int32, [None]), hold(tf.int32, [None])
        self.widths = hold(tf.int32, [len(table.several)])
        self.admitted = hold(tf.int64, [None]), hold(tf.int32, [None])
        self.expired = hold(tf.int64, [None])
        self.priors = hold(tf.float32, [None, table.heads])
        self.feeds = [self.rows, self.sources, self.fresh, self.where, self.firsts, self.defaults, self.widths]
        self.feeds += [*self.admitted, self.expired, self.priors]

    def gather(self, plan: Plan) -> None:
        """Read each row once, then spread it over the columns that use it."""
        table, settings = self.table, plan.settings
        raw = tf.raw_ops.ResourceGather(resource=self._rows, indices=self.sources, dtype=tf.float32)
        sizes = [1, table.dim, table.heads, 1, 1, table.width - table.served - 2 - table.heads, table.heads]
        w, v, h, z, n, a, b = tf.split(raw, sizes, axis=1)
        fresh = self.fresh[:, None]
        z = tf.where(fresh, optimize.ftrl_start(w, settings.ftrl), z)
        n = tf.where(fresh, tf.zeros_like(n), n)
        a = tf.where(fresh, settings.adagrad.start, a)
        if table.heads:
            h = tf.where(fresh, self.priors, h)
            b = tf.where(fresh, settings.adagrad.start, b)
        self._before = w, v, h, z, n, a, b
        served = tf.concat([x for x, size in ((w, 1), (v, table.dim), (h, table.heads)) if size], axis=1)
        self.columns = tf.gather(served, self.where)
        self.there = tf.not_equal(self.where, 0)

    def update(self, plan: Plan, gradient: Tensor) -> list[Any]:
        """Sum the gradients per row, take the optimizers' step, write each row back once, then let keys in and out."""
        table, settings = self.table, plan.settings
        flat = tf.reshape(gradient, [-1, table.served])
        where = tf.reshape(self.where, [-1])
        flat = tf.concat([flat, tf.gather(flat, self.firsts)], axis=0)
        where = tf.concat([where, self.defaults], axis=0)
        sums = tf.math.unsorted_segment_sum(flat, where, tf.shape(self.rows)[0])
        w, v, h, z, n, a, b = self._before
        gw, gv, gh = tf.split(sums, [1, table.dim, table.heads], axis=1)
        after = list(optimize.ftrl(w, z, n, gw, settings.ftrl))
        if table.dim:
            v, a = optimize.adagrad(v, a, gv, settings.adagrad)
        if table.heads:
            b = b + tf.square(gh)
            h = h - settings.head_rate * gh * tf.math.rsqrt(b)
        pieces = [
            (after[0], 1),
            (v, table.dim),
            (h, table.heads),
            (after[1], 1),
            (after[2], 1),
            (a, table.dim),
            (b, table.heads),
        ]
        new = tf.concat([piece for piece, size in pieces if size], axis=1)
        write = tf.raw_ops.ResourceScatterUpdate(resource=self._rows, indices=self.rows[1:], updates=new[1:])
        with tf.control_dependencies([write]):
            out = tf.raw_ops.LookupTableRemoveV2(table_handle=self._keys, keys=self.expired)
        with tf.control_dependencies([out]):
            keys, slots = self.admitted
            into = tf.raw_ops.LookupTableInsertV2(table_handle=self._keys, keys=keys, values=slots)
        return [write, out, into]


def _dense_update(plan: Plan, state: Tensor, gradient: Tensor, step: Tensor, n: Tensor) -> Tensor:
    """FTRL for the first, linear weights (z, n), Adam for the network's (mean, square)."""
    settings, first = plan.settings, plan.dense_linear
    w, s, t = state[0], state[1], state[2]
    linear = optimize.ftrl(w[:first], s[:first], t[:first], gradient[:first], settings.ftrl)
    if first == plan.dense_size:
        return tf.stack(linear)
    mean = gradient[first:] / tf.cast(n, tf.float32)
    network = optimize.adam(w[first:], s[first:], t[first:], step, mean, settings.adam)
    return tf.concat([tf.stack(linear), tf.stack(network)], axis=1)


def _hash_table(name: str, buckets: int) -> Tensor:
    return tf.raw_ops.MutableDenseHashTableV2(
        empty_key=tf.constant(model.EMPTY, tf.int64),
        deleted_key=tf.constant(model.DELETED, tf.int64),
        value_dtype=tf.int32,
        value_shape=[],
        initial_num_buckets=1 << max(buckets - 1, 1).bit_length(),
        max_load_factor=0.8,
        shared_name=f"keys_{name}",
        name=f"keys_{name}",
    )


def _read(handle: Tensor) -> Tensor:
    return tf.raw_ops.ReadVariableOp(resource=handle, dtype=tf.float32)


def _assign(handle: Tensor, value: Tensor) -> Any:
    return tf.raw_ops.AssignVariableOp(resource=handle, value=value)
