"""The training graph.

Rows, optimizer state and dense weights are resource variables, the keys a DenseHashTable. A step gathers each touched row once,
learns on the gathered rows, and writes each back once: no two writes meet, so that a step gives the same bytes every time.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from trainer import losses, model, optimize
from trainer.fields import Plan, Table, plan_of

Tensor = Any


@dataclass(frozen=True)
class Training:
    """A graph and what can be run in it."""

    graph: Any
    ends: dict[str, tuple[list[str], list[str], list[str]]]
    """By name: tensors fed, tensors fetched, operations run."""
    start: Any
    """The operation that begins a session."""


@functools.lru_cache(maxsize=8)
def training_graph(shape: bytes, capacities: tuple[int, ...]) -> Training:
    """The graph for models of that shape (`Plan.shape`). Building takes most of a second, so it is kept."""
    graph = tf.Graph()
    with graph.as_default():
        built = _Builder(plan_of(shape), capacities)
        start = tf.group(*built.start)
    ends = {
        name: ([t.name for t in given], [t.name for t in fetched], [op.name for op in run])
        for name, (given, fetched, run) in built.ends.items()
    }
    return Training(graph, ends, start)


class _Builder:
    """Puts the graph together."""

    def __init__(self, plan: Plan, capacities: Sequence[int]) -> None:
        self.plan = plan
        self.ends: dict[str, tuple[list[Tensor], list[Tensor], list[Any]]] = {}
        self.start: list[Any] = []
        with tf.device("/CPU:0"):
            self._keys = [_hash_table(t.name, 2 * c) for t, c in zip(plan.tables, capacities, strict=True)]
            self._scalars = [self._variable(f"scalars_{t.name}", [None, t.scalars]) for t in plan.tables]
            self._vectors = [self._variable(f"vectors_{t.name}", [None, t.dim]) for t in plan.tables]
        self._dense = self._variable("dense", [3, plan.dense_size])
        columns = model.inputs(plan)
        self._keys_graph(columns)
        self._find_graph(columns)
        self._step_graph(columns)
        for i, table in enumerate(plan.tables):
            self._access(i, table)
        given = tf.compat.v1.placeholder(tf.float32, [3, plan.dense_size])
        self.ends["dense"] = ([], [tf.identity(_read(self._dense))], [])
        self.ends["set_dense"] = ([given], [], [_assign(self._dense, given)])

    def _variable(self, name: str, shape: list[int | None]) -> Tensor:
        handle = tf.raw_ops.VarHandleOp(dtype=tf.float32, shape=tf.TensorShape(shape), shared_name=name, name=name)
        self.start.append(_assign(handle, tf.zeros([0 if size is None else size for size in shape])))
        return handle

    def _keys_graph(self, columns: dict[str, Tensor]) -> None:
        """From strings to keys. Features with one value per slate are fed once per slate, and `slate` says whose each row is."""
        slate = tf.compat.v1.placeholder(tf.int32, [None], name="slate")
        strings = [f for f in self.plan.features.features if f.kind != "number"]
        with tf.device("/CPU:0"):
            prints = model.fingerprints(self.plan, columns)
            for feature in strings:
                if feature.per_slate:
                    once = prints[feature.name]
                    there = None if once.there is None else tf.gather(once.there, slate)
                    prints[feature.name] = model.Prints(tf.gather(once.values, slate), there)
            made = [model.keys(table, prints) for table in self.plan.tables]
        self.ends["keys"] = ([*(columns[f.name] for f in strings), slate], [x for both in made for x in both], [])

    def _find_graph(self, columns: dict[str, Tensor]) -> None:
        """From keys to slots (`find`), and on to scores (`score`)."""
        hold = tf.compat.v1.placeholder
        keys = [hold(tf.int64, [None, None], name=f"find_{t.name}") for t in self.plan.tables]
        widths = [hold(tf.int32, [len(t.several)], name=f"widths_{t.name}") for t in self.plan.tables]
        found, spreads = [], []
        with tf.device("/CPU:0"):
            for i, table in enumerate(self.plan.tables):
                slots = model.find(self._keys[i], keys[i])
                if table.several:
                    slots = tf.where(tf.equal(keys[i], model.NOTHING), tf.zeros_like(slots), slots)
                found.append(slots)
                slots = tf.where(slots < 0, model.default_rows(table, widths[i])[None, :], slots)
                spreads.append(model.spread(table, self._served(i, slots), slots, widths[i]))
        self.ends["find"] = (keys, found, [])
        dense = model.dense_weights(self.plan, _read(self._dense)[0])
        number = self._numbers(columns, tf.shape(keys[0])[0])
        logit, heads = model.logits(self.plan, spreads, number, dense)
        feeds = [*keys, *widths, *(columns[name] for name in self.plan.numbers)]
        self.ends["score"] = (feeds, [tf.sigmoid(logit), tf.sigmoid(logit[:, None] + heads)], [])

    def _numbers(self, columns: dict[str, Tensor], n: Tensor) -> Tensor:
        return model.numbers(self.plan, columns) if self.plan.numbers else tf.zeros([n, 0], tf.float32)

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
        number = self._numbers(columns, tf.shape(emissions)[0])
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
        self.ends["step"] = (feeds, [tf.sigmoid(logit)], writes)

    def _access(self, i: int, table: Table) -> None:
        slots = tf.compat.v1.placeholder(tf.int32, [None])
        keys = tf.compat.v1.placeholder(tf.int64, [None])
        scalars = tf.compat.v1.placeholder(tf.float32, [None, table.scalars])
        vectors = tf.compat.v1.placeholder(tf.float32, [None, table.dim])
        with tf.device("/CPU:0"):
            self.ends[f"rows{i}"] = ([slots], [self._served(i, slots)], [])
            self.ends[f"scalars{i}"] = ([slots], [_gather(self._scalars[i], slots)], [])
            self.ends[f"vectors{i}"] = ([slots], [_gather(self._vectors[i], slots)], [])
            writes = [_assign(self._scalars[i], scalars), _assign(self._vectors[i], vectors)]
            self.ends[f"write{i}"] = ([scalars, vectors], [], writes)
            self.ends[f"insert{i}"] = (
                [keys, slots],
                [],
                [tf.raw_ops.LookupTableInsertV2(table_handle=self._keys[i], keys=keys, values=slots)],
            )


class _Part:
    """One table's share of a step."""

    def __init__(self, table: Table, scalars: Tensor, vectors: Tensor, keys: Tensor) -> None:
        hold = tf.compat.v1.placeholder
        self.table, self._scalars, self._vectors, self._keys = table, scalars, vectors, keys
        self.rows, self.sources = hold(tf.int32, [None]), hold(tf.int32, [None])
        self.fresh = hold(tf.bool, [None])
        self.where = hold(tf.int32, [None, None])
        self.order, self.ordered = hold(tf.int32, [None]), hold(tf.int32, [None])
        self.firsts, self.defaults = hold(tf.int32, [None]), hold(tf.int32, [None])
        self.widths = hold(tf.int32, [len(table.several)])
        self.admitted = hold(tf.int64, [None]), hold(tf.int32, [None])
        self.expired = hold(tf.int64, [None])
        self.priors = hold(tf.float32, [None, table.heads])
        self.feeds = [self.rows, self.sources, self.fresh, self.where, self.order, self.ordered]
        self.feeds += [self.firsts, self.defaults, self.widths, *self.admitted, self.expired, self.priors]

    def gather(self, plan: Plan) -> None:
        """Read each row once, then spread it over the columns that use it."""
        table, settings = self.table, plan.settings
        sizes = [1, table.heads, 1, 1, table.squares, table.heads]
        w, h, z, n, a, b = tf.split(_gather(self._scalars, self.sources), sizes, axis=1)
        fresh = self.fresh[:, None]
        z = tf.where(fresh, optimize.ftrl_start(w, settings.ftrl), z)
        n = tf.where(fresh, tf.zeros_like(n), n)
        a = tf.where(fresh, settings.adagrad.start, a) if table.squares else a
        if table.heads:
            h = tf.where(fresh, self.priors, h)
            b = tf.where(fresh, settings.adagrad.start, b)
        v = _gather(self._vectors, self.sources) if table.dim else None
        self._before = w, h, z, n, a, b, v
        self.spread = model.Spread(
            weights=tf.gather(w[:, 0], self.where),
            heads=tf.gather(h, self.where) if table.heads else None,
            pooled=model.pooled(table, v, self.where, self.widths) if table.dim else None,
            there=tf.not_equal(self.where, 0),
            widths=self.widths,
        )
        parts = (self.spread.weights, self.spread.heads, self.spread.pooled)
        self.learned = [part for part in parts if part is not None]

    def update(self, plan: Plan, gradients: Sequence[Tensor]) -> list[Any]:
        """Sum the gradients per row, take the optimizers' step, write each row back once; beside it let keys out, then in."""
        table, settings, left = self.table, plan.settings, list(gradients)
        w, h, z, n, a, b, v = self._before
        w, z, n = optimize.ftrl(w, z, n, self._sum(left.pop(0), 1), settings.ftrl)
        if table.heads:
            g = self._sum(left.pop(0), table.heads)
            b = b + tf.square(g)
            h = h - settings.head_rate * g * tf.math.rsqrt(b)
        writes = []
        if table.dim:
            v, a = optimize.adagrad(v, a, self._sum_pooled(left.pop(0)), settings.adagrad)
            writes.append(self._write(self._vectors, v))
        writes.append(self._write(self._scalars, tf.concat([w, h, z, n, a, b], axis=1)))
        out = tf.raw_ops.LookupTableRemoveV2(table_handle=self._keys, keys=self.expired)
        with tf.control_dependencies([out]):
            keys, slots = self.admitted
            into = tf.raw_ops.LookupTableInsertV2(table_handle=self._keys, keys=keys, values=slots)
        return [*writes, out, into]

    def _sum(self, gradient: Tensor, width: int) -> Tensor:
        """Per row the sum of its gradients, which lie as `where` does."""
        return self._collect(tf.reshape(gradient, [-1, width]), self.order, self.firsts)

    def _sum_pooled(self, gradient: Tensor) -> Tensor:
        """Per row the sum of its embedding's gradients, taken from those of the fields that its places are pooled into.

        Row 0 gets what is not its own, and is not written.
        """
        table = self.table
        pooled = tf.reshape(gradient, [-1, len(table.fields), table.dim])
        if table.several:
            single = tf.ones([tf.shape(pooled)[0], len(table.single)])
            shares = model.shares(table, self.spread.there, self.widths)
            pooled *= tf.concat([single, *shares], axis=1)[:, :, None]
        fields = model.default_rows(table, self.widths) - 1
        columns = tf.shape(fields)[0]

        def moved(places: Tensor) -> Tensor:
            examples = places // columns
            return examples * len(table.fields) + tf.gather(fields, places - examples * columns)

        return self._collect(tf.reshape(pooled, [-1, table.dim]), moved(self.order), moved(self.firsts))

    def _collect(self, gradients: Tensor, order: Tensor, firsts: Tensor) -> Tensor:
        """Per row the sum of its gradients. A key's first sightings count for its default row as well."""
        sums = tf.raw_ops.SparseSegmentSumWithNumSegments(
            data=gradients, indices=order, segment_ids=self.ordered, num_segments=tf.shape(self.rows)[0]
        )
        count = self.table.reserved - self.table.first
        more = tf.math.unsorted_segment_sum(tf.gather(gradients, firsts), self.defaults, count)
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
