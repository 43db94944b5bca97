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

    def scalars(self, table: int) -> Array:
        """Linear weights, heads and optimizer state of all rows: a copy."""
        everything: Array = self._run(f"scalars{table}")[0]
        return everything

    def vectors(self, table: int) -> Array:
        """Embeddings of all rows: a copy."""
        everything: Array = self._run(f"vectors{table}")[0]
        return everything

    def dense(self) -> Array:
        """Dense weights and their two state vectors, float32[3, size]: a copy."""
        stacked: Array = self._run("dense")[0]
        return stacked

    def set_table(self, table: int, scalars: Array, vectors: Array) -> None:
        """Replace all rows; their number may change."""
        self._run(f"write{table}", scalars, vectors)

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
            self._scalars = [self._variable(f"scalars_{t.name}", [None, t.scalars]) for t in plan.tables]
            self._vectors = [self._variable(f"vectors_{t.name}", [None, t.dim]) for t in plan.tables]
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
        self._init.append(_assign(handle, tf.zeros([0 if size is None else size for size in shape])))
        return handle

    def _found(self, i: int, columns: dict[str, Tensor], prints: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        table = self.plan.tables[i]
        keys, widths = model.keys(table, self.plan, columns, prints)
        slots = model.find(self._keys[i], keys)
        if table.several:
            slots = tf.where(tf.equal(keys, model.NOTHING), tf.zeros_like(slots), slots)
        return keys, slots, widths

    def _score_graph(self, columns: dict[str, Tensor], feeds: list[Tensor], found: list[tuple[Tensor, ...]]) -> None:
        spreads = []
        for i, table in enumerate(self.plan.tables):
            _, slots, widths = found[i]
            slots = tf.where(slots < 0, model.default_rows(table, widths)[None, :], slots)
            spreads.append(model.spread(table, self._served(i, slots), slots, widths))
        dense = model.dense_weights(self.plan, _read(self._dense)[0])
        logit, heads = model.logits(self.plan, spreads, model.numbers(self.plan, columns), dense)
        self._ends["score"] = (feeds, [tf.sigmoid(logit), tf.sigmoid(logit[:, None] + heads)], [])

    def _served(self, i: int, slots: Tensor) -> Tensor:
        """Rows as serving has them: linear weight, heads, embedding."""
        behind = 1 + self.plan.tables[i].heads
        scalars = _gather(self._scalars[i], slots)[..., :behind]
        return tf.concat([scalars, _gather(self._vectors[i], slots)], axis=-1)

    def _step_graph(self, columns: dict[str, Tensor]) -> None:
        plan, settings = self.plan, self.plan.settings
        emissions = tf.compat.v1.placeholder(tf.int8, [None])
        weights = tf.compat.v1.placeholder(tf.float32, [None])
        positions = tf.compat.v1.placeholder(tf.int32, [None])
        step = tf.compat.v1.placeholder(tf.float32, [])
        bootstrap = tf.compat.v1.placeholder(tf.float32, [None, settings.heads])
        feeds = [emissions, weights, positions, step, bootstrap, *(columns[name] for name in plan.numbers)]
        with tf.device("/CPU:0"):
            parts = [
                _Part(t, s, v, k)
                for t, s, v, k in zip(plan.tables, self._scalars, self._vectors, self._keys, strict=True)
            ]
            for part in parts:
                feeds += part.feeds
                part.gather(plan)
        state = _read(self._dense)
        flat = tf.identity(state[0])
        number = model.numbers(plan, columns) if plan.numbers else tf.zeros([tf.shape(emissions)[0], 0], tf.float32)
        spreads = [part.spread for part in parts]
        logit, heads = model.logits(plan, spreads, number, model.dense_weights(plan, flat), positions)
        up = [losses.gradient(logit, emissions, weights, settings.revision)]
        tops = [logit]
        if settings.heads:
            spread = tf.stop_gradient(logit)[:, None] + heads
            labels, weighed = (tf.broadcast_to(x[:, None], tf.shape(heads)) for x in (emissions, weights))
            up.append(bootstrap * losses.gradient(spread, labels, weighed, settings.revision))
            tops.append(heads)
        gradients = iter(tf.gradients(tops, [*(x for part in parts for x in part.learned), flat], grad_ys=up))
        with tf.device("/CPU:0"):
            writes = [op for part in parts for op in part.update(plan, [next(gradients) for _ in part.learned])]
        writes.append(_assign(self._dense, _dense_update(plan, state, next(gradients), step, tf.shape(logit)[0])))
        self._ends["step"] = (feeds, [tf.sigmoid(logit)], writes)

    def _access(self, i: int, table: Table) -> None:
        slots = tf.compat.v1.placeholder(tf.int32, [None])
        keys = tf.compat.v1.placeholder(tf.int64, [None])
        scalars = tf.compat.v1.placeholder(tf.float32, [None, table.scalars])
        vectors = tf.compat.v1.placeholder(tf.float32, [None, table.dim])
        with tf.device("/CPU:0"):
            self._ends[f"rows{i}"] = ([slots], [self._served(i, slots)], [])
            self._ends[f"scalars{i}"] = ([], [tf.identity(_read(self._scalars[i]))], [])
            self._ends[f"vectors{i}"] = ([], [tf.identity(_read(self._vectors[i]))], [])
            writes = [_assign(self._scalars[i], scalars), _assign(self._vectors[i], vectors)]
            self._ends[f"write{i}"] = ([scalars, vectors], [], writes)
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

    def __init__(self, table: Table, scalars: Tensor, vectors: Tensor, keys: Tensor) -> None:
        hold = tf.compat.v1.placeholder
        self.table, self._scalars, self._vectors, self._keys = table, scalars, vectors, keys
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
        sizes = [1, table.heads, 1, 1, table.squares, table.heads]
        w, h, z, n, a, b = tf.split(_gather(self._scalars, self.sources), sizes, axis=1)
        fresh = self.fresh[:, None]
        z = tf.where(fresh, optimize.ftrl_start(w, settings.ftrl), z)
        n = tf.where(fresh, tf.zeros_like(n), n)
        a = tf.where(fresh, settings.adagrad.start, a)
        h = tf.where(fresh, self.priors, h)
        b = tf.where(fresh, settings.adagrad.start, b)
        v = _gather(self._vectors, self.sources) if table.dim else None
        self._before = w, h, z, n, a, b, v
        self.spread = model.Spread(
            weights=tf.gather(w[:, 0], self.where),
            heads=tf.gather(h, self.where) if table.heads else None,
            embeddings=tf.gather(v, self.where) if table.dim else None,
            there=tf.not_equal(self.where, 0),
            widths=self.widths,
        )
        parts = (self.spread.weights, self.spread.heads, self.spread.embeddings)
        self.learned = [part for part in parts if part is not None]

    def update(self, plan: Plan, gradients: Sequence[Tensor]) -> list[Any]:
        """Sum the gradients per row, take the optimizers' step, write each row back once, then let keys in and out."""
        table, settings, left = self.table, plan.settings, list(gradients)
        w, h, z, n, a, b, v = self._before
        w, z, n = optimize.ftrl(w, z, n, self._sum(left.pop(0), 1), settings.ftrl)
        if table.heads:
            g = self._sum(left.pop(0), table.heads)
            b = b + tf.square(g)
            h = h - settings.head_rate * g * tf.math.rsqrt(b)
        writes = []
        if table.dim:
            v, a = optimize.adagrad(v, a, self._sum(left.pop(0), table.dim), settings.adagrad)
            writes.append(self._write(self._vectors, v))
        writes.append(self._write(self._scalars, tf.concat([w, h, z, n, a, b], axis=1)))
        with tf.control_dependencies(writes):
            out = tf.raw_ops.LookupTableRemoveV2(table_handle=self._keys, keys=self.expired)
        with tf.control_dependencies([out]):
            keys, slots = self.admitted
            into = tf.raw_ops.LookupTableInsertV2(table_handle=self._keys, keys=keys, values=slots)
        return [*writes, out, into]

    def _sum(self, gradient: Tensor, width: int) -> Tensor:
        """Per row the sum of its gradients. A key's first sightings count for its default row as well."""
        flat = tf.reshape(gradient, [-1, width])
        sums = tf.math.unsorted_segment_sum(flat, tf.reshape(self.where, [-1]), tf.shape(self.rows)[0])
        count = self.table.reserved - self.table.first
        more = tf.math.unsorted_segment_sum(tf.gather(flat, self.firsts), self.defaults, count)
        return tf.tensor_scatter_nd_add(sums, tf.range(count)[:, None], more)

    def _write(self, variable: Tensor, values: Tensor) -> Any:
        rows = self.rows
        if not self.table.first:
            rows, values = rows[1:], values[1:]
        return tf.raw_ops.ResourceScatterUpdate(resource=variable, indices=rows, updates=values)


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


def _gather(variable: Tensor, slots: Tensor) -> Tensor:
    return tf.raw_ops.ResourceGather(resource=variable, indices=slots, dtype=tf.float32)
