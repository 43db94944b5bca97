"""The model as a graph: from raw strings to keys, from rows to scores. Training and serving build theirs with these functions,
so that they cannot differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

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


def fingerprints(plan: Plan, columns: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """63-bit fingerprints of the strings, by feature: int64, shaped like the strings."""
    return {
        f.name: tf.strings.to_hash_bucket_fast(columns[f.name], _POSITIVE)
        for f in plan.features.features
        if f.kind != "number"
    }


def keys(
    table: Table, plan: Plan, columns: Mapping[str, Tensor], prints: Mapping[str, Tensor]
) -> tuple[Tensor, Tensor]:
    """The keys of a table's columns, int64[n, C], and how many columns each multi-valued field has, int32[fields]."""
    single = [_key(field, prints) for field in table.single]
    groups = [tf.stack(single, axis=1)] if single else []
    for field in table.several:
        key, there = _key(field, prints), _there(field, plan, columns)
        groups.append(_flat(tf.where(there, key, tf.constant(NOTHING, tf.int64)), len(field.parts)))
    joined = groups[0] if len(groups) == 1 else tf.concat(groups, axis=1)
    widths = [tf.shape(group)[1] for group in groups[1 if single else 0 :]]
    return joined, (tf.stack(widths) if widths else tf.zeros([0], tf.int32))


def _key(field: Field, prints: Mapping[str, Tensor]) -> Tensor:
    factors, summand = mixing(field)
    if not field.several:
        mixed = tf.add_n([prints[part] * factor for part, factor in zip(field.parts, factors, strict=True)])
    else:
        axes = len(field.parts)
        mixed = tf.constant(0, tf.int64)
        for i, (part, factor) in enumerate(zip(field.parts, factors, strict=True)):
            mixed += _spread(prints[part], i, axes) * factor
    return tf.bitwise.bitwise_and(mixed + summand, _POSITIVE)


def _spread(values: Tensor, axis: int, axes: int) -> Tensor:
    """[n] or [n, k] with its values along one of `axes` axes behind the first."""
    if values.shape.rank == 1:
        return tf.reshape(values, [-1] + [1] * axes)
    shape = [tf.shape(values)[0]] + [1] * axes
    shape[1 + axis] = tf.shape(values)[1]
    return tf.reshape(values, shape)


def _there(field: Field, plan: Plan, columns: Mapping[str, Tensor]) -> Tensor:
    kinds = {f.name: f.kind for f in plan.features.features}
    there = tf.constant(True)
    for i, part in enumerate(field.parts):
        if kinds[part] == "strings":
            there = tf.logical_and(there, _spread(tf.not_equal(columns[part], ""), i, len(field.parts)))
    return there


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


def logits(
    plan: Plan,
    rows: Sequence[Tensor],
    there: Sequence[Tensor],
    widths: Sequence[Tensor],
    number: Tensor,
    dense: Mapping[str, Tensor],
    positions: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Score examples: the logit float32[n] and what the heads add to it, float32[n, heads].

    `rows`: per table float32[n, C, served]; `there`: bool[n, C], false where a multi-valued feature has no value.
    Several values of one field count as their sum over the square root of their number.
    """
    n = tf.shape(number)[0]
    linear = tf.zeros([n]) + dense["bias"]
    heads = tf.zeros([n, plan.settings.heads])
    embeddings = []
    for table, row, mask, width in zip(plan.tables, rows, there, widths, strict=True):
        pooled = _pooled(table, row, mask, width)
        linear += tf.add_n([tf.reduce_sum(p[:, :, 0], axis=1) for p in pooled])
        if table.heads:
            heads += tf.add_n([tf.reduce_sum(p[:, :, 1 + table.dim :], axis=1) for p in pooled])
        if table.dim:
            embeddings += [p[:, :, 1 : 1 + table.dim] for p in pooled]
    if plan.numbers:
        linear += tf.linalg.matvec(number, dense["numbers"])
    if plan.settings.positions:
        linear += _position(plan, dense["positions"], positions)
    if embeddings:
        fields = embeddings[0] if len(embeddings) == 1 else tf.concat(embeddings, axis=1)
        linear += _deep(plan, fields, number, dense)
    return linear, heads


def _pooled(table: Table, rows: Tensor, there: Tensor, widths: Tensor) -> list[Tensor]:
    first = len(table.single)
    groups = [rows[:, :first]] if first else []
    start: Any = first
    for i in range(len(table.several)):
        part, mask = rows[:, start : start + widths[i]], there[:, start : start + widths[i]]
        count = tf.reduce_sum(tf.cast(mask, tf.float32), axis=1, keepdims=True)
        groups.append((tf.reduce_sum(part, axis=1) * tf.math.rsqrt(tf.maximum(count, 1.0)))[:, None, :])
        start += widths[i]
    return groups


def _position(plan: Plan, biases: Tensor, positions: Tensor | None) -> Tensor:
    if positions is None:
        return biases[plan.settings.reference_position]
    return tf.gather(biases, tf.clip_by_value(positions, 0, plan.settings.positions - 1))


def _deep(plan: Plan, fields: Tensor, number: Tensor, dense: Mapping[str, Tensor]) -> Tensor:
    """What the embeddings add to the logit: pairs (fm, deepfm), crosses (dcn), network (deepfm, dcn)."""
    kind = plan.settings.kind
    total: Tensor = 0.0
    if kind in ("fm", "deepfm"):
        sums = tf.reduce_sum(fields, axis=1)
        total += 0.5 * tf.reduce_sum(tf.square(sums) - tf.reduce_sum(tf.square(fields), axis=1), axis=1)
    if kind == "fm":
        return total
    flat = tf.reshape(fields, [-1, len(plan.embedded) * plan.settings.dim])
    start = tf.concat([flat, number], axis=1) if plan.numbers else flat
    if kind == "dcn":
        crossed = start
        for i in range(plan.settings.cross_layers):
            crossed = start * (tf.matmul(crossed, dense[f"cross{i}"]) + dense[f"cross{i}_bias"]) + crossed
        total += tf.matmul(crossed, dense["cross_out"])[:, 0]
    layer = start
    for i in range(len(plan.settings.hidden)):
        layer = tf.nn.relu(tf.matmul(layer, dense[f"hidden{i}"]) + dense[f"hidden{i}_bias"])
    return total + tf.matmul(layer, dense["out"])[:, 0]


def find(table_keys: Tensor, keys: Tensor) -> Tensor:
    """The slots of keys, int32 shaped like `keys`; −1 where a key has none. The hash table takes its keys in one row."""
    found = tf.raw_ops.LookupTableFindV2(
        table_handle=table_keys, keys=tf.reshape(keys, [-1]), default_value=tf.constant(-1, tf.int32)
    )
    return tf.reshape(found, tf.shape(keys))
