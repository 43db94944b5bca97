"""The model as a graph: from raw strings to keys, from rows to scores. Training and serving build theirs with these functions,
so that they cannot differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from trainer.fields import Field, Plan, Table, mixing

Tensor = Any

NOTHING = -3
"""The key of an empty string in a multi-valued feature: never in a table."""
EMPTY, DELETED = -1, -2
"""Keys that the hash table keeps for itself."""
_POSITIVE = (1 << 63) - 1


def inputs(plan: Plan) -> dict[str, Tensor]:
    """A placeholder per feature."""
    shapes = {"string": (tf.string, [None]), "strings": (tf.string, [None, None]), "number": (tf.float32, [None])}
    return {f.name: tf.compat.v1.placeholder(*shapes[f.kind], name=f"input_{f.name}") for f in plan.features.features}


@dataclass(frozen=True)
class Prints:
    """The strings of one feature as the graph goes on with them."""

    values: Tensor
    """int64: 63-bit fingerprints, shaped like the strings."""
    there: Tensor | None
    """bool, the same shape: false for the padding of a multi-valued feature; None for a single value, which is always there."""


def fingerprints(plan: Plan, columns: Mapping[str, Tensor]) -> dict[str, Prints]:
    """The fingerprints of every string feature, by its name."""
    return {
        f.name: Prints(
            tf.strings.to_hash_bucket_fast(columns[f.name], _POSITIVE),
            tf.not_equal(columns[f.name], "") if f.kind == "strings" else None,
        )
        for f in plan.features.features
        if f.kind != "number"
    }


def keys(table: Table, prints: Mapping[str, Prints]) -> tuple[Tensor, Tensor]:
    """The keys of a table's columns, int64[n, C], and how many columns each multi-valued field has, int32[fields]."""
    single = [_key(field, prints) for field in table.single]
    groups = [tf.stack(single, axis=1)] if single else []
    for field in table.several:
        key, there = _key(field, prints), _there(field, prints)
        groups.append(_flat(tf.where(there, key, tf.constant(NOTHING, tf.int64)), len(field.parts)))
    joined = groups[0] if len(groups) == 1 else tf.concat(groups, axis=1)
    widths = [tf.shape(group)[1] for group in groups[1 if single else 0 :]]
    return joined, (tf.stack(widths) if widths else tf.zeros([0], tf.int32))


def _key(field: Field, prints: Mapping[str, Prints]) -> Tensor:
    factors, summand = mixing(field)
    axes = len(field.parts) if field.several else 0
    mixed = [
        _along(prints[part].values, i, axes) * factor
        for i, (part, factor) in enumerate(zip(field.parts, factors, strict=True))
    ]
    total = mixed[0]
    for summed in mixed[1:]:
        total += summed
    return tf.bitwise.bitwise_and(total + summand, _POSITIVE)


def _there(field: Field, prints: Mapping[str, Prints]) -> Tensor:
    there = tf.constant(True)
    for i, part in enumerate(field.parts):
        mask = prints[part].there
        if mask is not None:
            there = tf.logical_and(there, _along(mask, i, len(field.parts)))
    return there


def _along(values: Tensor, axis: int, axes: int) -> Tensor:
    """[n] or [n, k] with its values along one of `axes` axes behind the first; as it is where `axes` is 0."""
    if not axes:
        return values
    if values.shape.rank == 1:
        return tf.reshape(values, [-1] + [1] * axes)
    shape = [tf.shape(values)[0]] + [1] * axes
    shape[1 + axis] = tf.shape(values)[1]
    return tf.reshape(values, shape)


def _flat(values: Tensor, axes: int) -> Tensor:
    shape = tf.shape(values)
    return tf.reshape(values, [shape[0], tf.reduce_prod(shape[1 : 1 + axes])])


def default_rows(table: Table, widths: Tensor) -> Tensor:
    """The default row of each column, int32[C]."""
    first = tf.range(1, 1 + len(table.single), dtype=tf.int32)
    behind = tf.range(1 + len(table.single), table.reserved, dtype=tf.int32)
    return tf.concat([first, tf.repeat(behind, widths)], axis=0)


def numbers(plan: Plan, columns: Mapping[str, Tensor]) -> Tensor:
    """Dense features, float32[n, m]: sign(x) log(1 + |x|), so that a count and its double are near; what is not finite is 0."""
    if not plan.numbers:
        first = columns[plan.features.features[0].name]
        return tf.zeros([tf.shape(first)[0], 0], tf.float32)
    raw = tf.stack([columns[name] for name in plan.numbers], axis=1)
    raw = tf.where(tf.math.is_finite(raw), raw, tf.zeros_like(raw))
    return tf.sign(raw) * tf.math.log1p(tf.abs(raw))


def dense_weights(plan: Plan, flat: Tensor) -> dict[str, Tensor]:
    """The flat vector as named tensors."""
    pieces = tf.split(flat, [weight.size for weight in plan.dense])
    return {w.name: tf.reshape(piece, w.shape) for w, piece in zip(plan.dense, pieces, strict=True)}


@dataclass(frozen=True)
class Spread:
    """The rows that examples use, spread over their columns, for one table."""

    weights: Tensor
    """float32[n, C]: linear weights."""
    heads: Tensor | None
    """float32[n, C, heads]; None without heads."""
    pooled: Tensor | None
    """float32[n, fields × dim]: one embedding per field; None without embeddings."""
    there: Tensor
    """bool[n, C]: false where a multi-valued feature has no value."""
    widths: Tensor
    """int32: columns of each multi-valued field."""


def logits(
    plan: Plan, spreads: Sequence[Spread], number: Tensor, dense: Mapping[str, Tensor], positions: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Score examples: the logit float32[n] and what the heads add to it, float32[n, heads].

    Several values of one field count as their sum over the square root of their number.
    """
    n = tf.shape(number)[0]
    linear = tf.zeros([n]) + dense["bias"]
    heads = tf.zeros([n, plan.settings.heads])
    embeddings = []
    for table, spread in zip(plan.tables, spreads, strict=True):
        scales = _scales(table, spread.there, spread.widths)
        linear += tf.reduce_sum(spread.weights if scales is None else spread.weights * scales, axis=1)
        if spread.heads is not None:
            heads += tf.reduce_sum(spread.heads if scales is None else spread.heads * scales[:, :, None], axis=1)
        if spread.pooled is not None:
            embeddings.append(spread.pooled)
    if plan.numbers:
        linear += tf.linalg.matvec(number, dense["numbers"])
    if plan.settings.positions:
        linear += _position(plan, dense["positions"], positions)
    if embeddings:
        linear += _deep(plan, embeddings[0], number, dense)
    return linear, heads


def _scales(table: Table, there: Tensor, widths: Tensor) -> Tensor | None:
    """1 for a single value, 1/√count for each of several, float32[n, C]; None where all are 1."""
    if not table.several:
        return None
    counts, start = tf.cast(there, tf.float32), len(table.single)
    pieces = [counts[:, :start]]
    for piece, share in zip(_groups(table, counts, widths)[1:], shares(table, there, widths), strict=True):
        pieces.append(piece * share)
    return tf.concat(pieces, axis=1)


def shares(table: Table, there: Tensor, widths: Tensor) -> list[Tensor]:
    """Per multi-valued field what each of its values counts for: 1/√count, float32[n, 1]."""
    groups = _groups(table, tf.cast(there, tf.float32), widths)[1:]
    return [tf.math.rsqrt(tf.maximum(tf.reduce_sum(group, axis=1, keepdims=True), 1.0)) for group in groups]


def _groups(table: Table, columns: Tensor, widths: Tensor) -> list[Tensor]:
    """The columns of the single fields, then those of each multi-valued one."""
    sizes = tf.concat([[len(table.single)], widths], axis=0)
    return list(tf.split(columns, sizes, axis=1, num=1 + len(table.several)))


def pooled(table: Table, rows: Tensor, slots: Tensor, widths: Tensor) -> Tensor:
    """One embedding per field, flat, float32[n, fields × dim]: of rows [m, dim], those that stand in `slots`, int32[n, C].

    What several add up to is summed as it is read: the rows of their columns never lie side by side.
    """
    groups = _groups(table, slots, widths)
    found = [tf.reshape(tf.gather(rows, groups[0]), [-1, len(table.single) * table.dim])] if table.single else []
    n = tf.shape(slots)[0]
    for group, share in zip(groups[1:], shares(table, tf.not_equal(slots, 0), widths), strict=True):
        found.append(share * _summed(rows, group, n))
    return tf.ensure_shape(tf.concat(found, axis=1), [None, len(table.fields) * table.dim])


def _summed(rows: Tensor, slots: Tensor, n: Tensor) -> Tensor:
    examples = tf.repeat(tf.range(n), tf.shape(slots)[1])
    return tf.raw_ops.SparseSegmentSumWithNumSegments(
        data=rows, indices=tf.reshape(slots, [-1]), segment_ids=examples, num_segments=n
    )


def _position(plan: Plan, biases: Tensor, positions: Tensor | None) -> Tensor:
    if positions is None:
        return biases[plan.settings.reference_position]
    found = tf.gather(biases, tf.clip_by_value(positions, 0, plan.settings.positions - 1))
    # What stands in none of our slots (ELSEWHERE) has no bias of theirs, and teaches none.
    return tf.where(positions < 0, 0.0, found)


def _deep(plan: Plan, flat: Tensor, number: Tensor, dense: Mapping[str, Tensor]) -> Tensor:
    """What the embeddings (float32[n, fields × dim]) add to the logit: pairs (fm, deepfm), crosses (dcn), network (deepfm, dcn)."""
    kind = plan.settings.kind
    start = tf.concat([flat, number], axis=1) if plan.numbers else flat
    if kind == "dcn":
        return _crossed(plan, start, dense) + _network(plan, _first(plan, start, dense), dense)
    sums = _summing(plan)
    if kind == "fm":
        return _pairs(tf.matmul(start, sums), flat)
    both = tf.matmul(start, tf.concat([dense["hidden0"], sums], axis=1))
    hidden, summed = tf.split(both, [plan.settings.hidden[0], plan.settings.dim], axis=1)
    return _pairs(summed, flat) + _network(plan, tf.nn.relu(hidden + dense["hidden0_bias"]), dense)


def _summing(plan: Plan) -> Tensor:
    """A matrix that adds up the fields' embeddings, so that the sum comes out of the network's own first product."""
    dim = plan.settings.dim
    eye = np.tile(np.eye(dim, dtype=np.float32), (len(plan.embedded), 1))
    return tf.constant(np.concatenate([eye, np.zeros((len(plan.numbers), dim), np.float32)]))


def _pairs(sums: Tensor, flat: Tensor) -> Tensor:
    """Σ over pairs of fields of the products of their embeddings: half of (sum² − sum of squares).

    The gradient is written out: TensorFlow's own broadcasts each sum's over its row, a fifth of a step's time.
    """

    @tf.custom_gradient
    def pairs(sums: Tensor, flat: Tensor) -> tuple[Tensor, Any]:
        def gradient(g: Tensor) -> tuple[Tensor, Tensor]:
            return g[:, None] * sums, -g[:, None] * flat

        squares = tf.reduce_sum(tf.square(flat), axis=1)
        return 0.5 * (tf.reduce_sum(tf.square(sums), axis=1) - squares), gradient

    result: Tensor = pairs(sums, flat)
    return result


def _first(plan: Plan, start: Tensor, dense: Mapping[str, Tensor]) -> Tensor:
    if not plan.settings.hidden:
        return start
    return tf.nn.relu(tf.matmul(start, dense["hidden0"]) + dense["hidden0_bias"])


def _network(plan: Plan, layer: Tensor, dense: Mapping[str, Tensor]) -> Tensor:
    """The network behind its first layer."""
    for i in range(1, len(plan.settings.hidden)):
        layer = tf.nn.relu(tf.matmul(layer, dense[f"hidden{i}"]) + dense[f"hidden{i}_bias"])
    return tf.matmul(layer, dense["out"])[:, 0]


def _crossed(plan: Plan, start: Tensor, dense: Mapping[str, Tensor]) -> Tensor:
    """The cross network. Source: Wang et al., DCN V2, WWW 2021, equation 1."""
    layer = start
    for i in range(plan.settings.cross_layers):
        layer = start * (tf.matmul(layer, dense[f"cross{i}"]) + dense[f"cross{i}_bias"]) + layer
    return tf.matmul(layer, dense["cross_out"])[:, 0]


def find(table_keys: Tensor, keys: Tensor) -> Tensor:
    """The slots of keys, int32 shaped like `keys`; −1 where a key has none. The hash table takes its keys in one row."""
    found = tf.raw_ops.LookupTableFindV2(
        table_handle=table_keys, keys=tf.reshape(keys, [-1]), default_value=tf.constant(-1, tf.int32)
    )
    return tf.reshape(found, tf.shape(keys))


def spread(table: Table, rows: Tensor, slots: Tensor, widths: Tensor) -> Spread:
    """Served rows (float32[n, C, served]: linear weight, heads, embedding) by their parts."""
    behind = 1 + table.heads
    there = tf.not_equal(slots, 0)
    return Spread(
        weights=rows[:, :, 0],
        heads=rows[:, :, 1:behind] if table.heads else None,
        pooled=_joined(table, rows[:, :, behind:], there, widths) if table.dim else None,
        there=there,
        widths=widths,
    )


def _joined(table: Table, rows: Tensor, there: Tensor, widths: Tensor) -> Tensor:
    """What `pooled` answers, of rows that lie in their columns already, float32[n, C, dim]."""
    groups = _groups(table, rows, widths)
    found = [tf.reshape(groups[0], [-1, len(table.single) * table.dim])] if table.single else []
    for group, share in zip(groups[1:], shares(table, there, widths), strict=True):
        found.append(share * tf.reduce_sum(group, axis=1))
    return tf.ensure_shape(tf.concat(found, axis=1), [None, len(table.fields) * table.dim])
