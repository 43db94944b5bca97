"""Export: a SavedModel that stock TensorFlow Serving loads, with `serving_default`, `sync` and `checksum`.

The graph depends on the plan and the capacities alone, so it is built once and its bytes are written again and again; only the
variables' checkpoint is new. That keeps an export in the background cheap for the training beside it. The hash tables are saved
as keys and slots, and hashed where they are loaded: their buckets are four times as large, and memory and files that are written anew with
each export cost the training beside it more than the hashing costs a server, which does it before the version is served.
"""

from __future__ import annotations

import functools
import math
import threading
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2, saver_pb2

from trainer import model, warmup
from trainer.batch import Batch
from trainer.fields import Plan, plan_of
from trainer.snapshot import Snapshot
from trainer.sync import Model, checksum, read, sync

Array = NDArray[Any]
Tensor = Any

PREDICT = "tensorflow/serving/predict"
_LOAD = 0.8
"""Share of a hash table's buckets that may be full before it grows, which it never should in a base's life."""
_ALIGNED = 64
"""Bytes: a tensor begins at a multiple of so many."""
_CHUNK = 1 << 18
"""Keys that are gathered at once."""


def export(snapshot: Snapshot, folder: Path, batch: Batch | None) -> None:
    """Write `snapshot` as a SavedModel into `folder`, with warm-up requests made from `batch`. Safe in any thread."""
    capacities = tuple(snapshot.capacities().values())
    (folder / "variables").mkdir(parents=True, exist_ok=True)
    _save_variables(snapshot, capacities, folder / "variables" / "variables")
    (folder / "saved_model.pb").write_bytes(graph_bytes(snapshot.plan.shape(), capacities))
    if batch is not None and len(batch):
        extra = folder / "assets.extra"
        extra.mkdir(exist_ok=True)
        requests = warmup.requests(snapshot.plan, batch)
        (extra / "tf_serving_warmup_requests").write_bytes(b"".join(map(warmup.record, requests)))


def buckets(capacity: int) -> int:
    """Buckets of a hash table with room for twice the keys of so many rows: it never grows in a base's life."""
    return 1 << (2 * capacity - 1).bit_length()


@functools.lru_cache(maxsize=4)
def graph_bytes(shape: bytes, capacities: tuple[int, ...]) -> bytes:
    """saved_model.pb for models of that shape (`Plan.shape`) and those capacities."""
    planned = plan_of(shape)
    graph = tf.Graph()
    with graph.as_default(), tf.device("/CPU:0"):
        served = _resources(planned, capacities)
        signatures = {
            "serving_default": _predict(served),
            "sync": _signature(
                "delta", lambda deltas: dict(zip(("sequence", "epoch"), sync(served, deltas), strict=True))
            ),
            "checksum": _signature(
                "probe", lambda probes: dict(zip(("checksum", "sequence"), checksum(served, probes), strict=True))
            ),
        }
        meta: meta_graph_pb2.MetaGraphDef = tf.compat.v1.train.export_meta_graph(saver_def=_restore(served))
    meta.meta_info_def.tags.append("serve")
    for name, (given, answered) in signatures.items():
        signature = meta.signature_def[name]
        signature.method_name = PREDICT
        for alias, tensor in given.items():
            signature.inputs[alias].CopyFrom(_info(tensor))
        for alias, tensor in answered.items():
            signature.outputs[alias].CopyFrom(_info(tensor))
    saved = saved_model_pb2.SavedModel(saved_model_schema_version=1, meta_graphs=[meta])
    return bytes(saved.SerializeToString(deterministic=True))


Ends = tuple[dict[str, Tensor], dict[str, Tensor]]


def _resources(planned: Plan, capacities: tuple[int, ...]) -> Model:
    def variable(name: str, dtype: Any, shape: list[int]) -> Tensor:
        return tf.raw_ops.VarHandleOp(dtype=dtype, shape=tf.TensorShape(shape), shared_name=name, name=name)

    keys = [
        tf.raw_ops.MutableDenseHashTableV2(
            empty_key=tf.constant(model.EMPTY, tf.int64),
            deleted_key=tf.constant(model.DELETED, tf.int64),
            value_dtype=tf.int32,
            value_shape=[],
            initial_num_buckets=buckets(capacity),
            max_load_factor=_LOAD,
            shared_name=f"keys_{table.name}",
            name=f"keys_{table.name}",
        )
        for table, capacity in zip(planned.tables, capacities, strict=True)
    ]
    rows = [
        variable(f"rows_{t.name}", tf.float32, [c + 1, t.served])
        for t, c in zip(planned.tables, capacities, strict=True)
    ]
    dense = variable("dense", tf.float32, [planned.dense_size])
    return Model(planned, capacities, keys, rows, dense, variable("place", tf.int64, [2]))


def _predict(served: Model) -> Ends:
    """`serving_default`. The sequence is read before the first look-up: the answer had learned from at least that."""
    planned = served.plan
    columns = model.inputs(planned)
    place = read(served.place, tf.int64)
    spreads = []
    prints = model.fingerprints(planned, columns)
    for i, table in enumerate(planned.tables):
        keys, widths = model.keys(table, prints)
        with tf.control_dependencies([place]):
            slots = model.find(served.keys[i], keys)
        slots = tf.where(slots < 0, model.default_rows(table, widths)[None, :], slots)
        if table.several:
            slots = tf.where(tf.equal(keys, model.NOTHING), tf.zeros_like(slots), slots)
        rows = tf.raw_ops.ResourceGather(resource=served.rows[i], indices=slots, dtype=tf.float32)
        spreads.append(model.spread(table, rows, slots, widths))
    with tf.control_dependencies([place]):
        dense = model.dense_weights(planned, read(served.dense, tf.float32))
    logit, heads = model.logits(planned, spreads, model.numbers(planned, columns), dense)
    answers = {"score": tf.sigmoid(logit), "sequence": tf.fill(tf.shape(logit), place[1])}
    if planned.settings.heads:
        answers["heads"] = tf.sigmoid(logit[:, None] + heads)
    return columns, answers


def _info(tensor: Tensor) -> meta_graph_pb2.TensorInfo:
    return meta_graph_pb2.TensorInfo(
        name=tensor.name, dtype=tensor.dtype.as_datatype_enum, tensor_shape=tensor.shape.as_proto()
    )


def _signature(name: str, answer: Any) -> Ends:
    given = tf.compat.v1.placeholder(tf.string, [None], name=name)
    return {name: given}, answer(given)


def _restore(served: Model) -> saver_pb2.SaverDef:
    """The operations that a loader runs, and their names."""
    prefix = tf.compat.v1.placeholder_with_default(tf.constant("variables"), [], name="save/prefix")
    names, dtypes = _names(served.plan)
    values = tf.raw_ops.RestoreV2(prefix=prefix, tensor_names=names, shape_and_slices=[""] * len(names), dtypes=dtypes)
    writes: list[Any] = []
    for i in range(len(served.plan.tables)):
        rows, keys, slots = values[3 * i : 3 * i + 3]
        rows = tf.ensure_shape(rows, [served.capacities[i] + 1, served.plan.tables[i].served])
        writes.append(tf.raw_ops.AssignVariableOp(resource=served.rows[i], value=rows))
        writes.append(tf.raw_ops.LookupTableInsertV2(table_handle=served.keys[i], keys=keys, values=slots))
    writes.append(tf.raw_ops.AssignVariableOp(resource=served.dense, value=values[-2]))
    writes.append(tf.raw_ops.AssignVariableOp(resource=served.place, value=values[-1]))
    restore = tf.group(*writes, name="save/restore_all")
    return saver_pb2.SaverDef(
        filename_tensor_name=prefix.name,
        save_tensor_name=prefix.name,
        restore_op_name=restore.name,
        max_to_keep=1,
        version=saver_pb2.SaverDef.V2,
    )


def _names(planned: Plan) -> tuple[list[str], list[Any]]:
    names: list[str] = []
    dtypes: list[Any] = []
    for table in planned.tables:
        names += [f"rows_{table.name}", f"keys_{table.name}", f"slots_{table.name}"]
        dtypes += [tf.float32, tf.int64, tf.int32]
    return [*names, "dense", "place"], [*dtypes, tf.float32, tf.int64]


def _save_variables(snapshot: Snapshot, capacities: tuple[int, ...], prefix: Path) -> None:
    tensors: list[Any] = []
    for i in range(len(snapshot.plan.tables)):
        tensors += [_rows(snapshot, i, capacities[i]), *_keys(snapshot, i)]
    tensors += [snapshot.dense[0], np.array([snapshot.epoch, snapshot.sequence], np.int64)]
    names, _ = _names(snapshot.plan)
    with tf.device("/CPU:0"):
        values = [tf.convert_to_tensor(x) for x in tensors]
        tf.raw_ops.SaveV2(prefix=str(prefix), tensor_names=names, shape_and_slices=[""] * len(names), tensors=values)


def _rows(snapshot: Snapshot, i: int, capacity: int) -> Tensor:
    """A table's rows as serving has them, and room."""
    used, table = snapshot.used(i), snapshot.plan.tables[i]
    behind = 1 + table.heads
    rows = _scratch.zeros(f"rows {i}", (capacity + 1, table.served), used)
    rows[:used, :behind] = snapshot.scalars[i][:used, :behind]
    rows[:used, behind:] = snapshot.vectors[i][:used]
    return _tensor(rows)


def _keys(snapshot: Snapshot, i: int) -> tuple[Tensor, Tensor]:
    """The keys of a table, int64, and their slots, int32. Keys that the next delta will admit are not among them yet."""
    state = snapshot.slots[i]
    there = (state["keys"] != model.EMPTY) & ~state["born"]
    count, end = int(np.count_nonzero(there)), 0
    keys, slots = _scratch.empty(f"keys {i}", (count,), np.int64), _scratch.empty(f"slots {i}", (count,), np.int32)
    for start in range(0, len(there), _CHUNK):
        at = start + np.flatnonzero(there[start : start + _CHUNK])
        keys[end : end + len(at)], slots[end : end + len(at)] = state["keys"][at], at
        end += len(at)
    return _tensor(keys), _tensor(slots)


def _tensor(array: Array) -> Tensor:
    """An array that TensorFlow takes over as it is: to copy it would hold the interpreter, and with it training, for seconds."""
    return tf.experimental.dlpack.from_dlpack(array.__dlpack__())


class _Scratch(threading.local):
    """Memory that each thread keeps for its next export: new memory costs the system, and with it training, more than filling it does."""

    def __init__(self) -> None:
        self._memory: dict[str, Array] = {}
        self._written: dict[str, int] = {}

    def empty(self, name: str, shape: tuple[int, ...], dtype: Any) -> Array:
        """An array that begins where TensorFlow wants a tensor to begin, with anything in it; of its name's one use at a time."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        memory = self._memory.get(name)
        if memory is None or len(memory) < size + _ALIGNED:
            # Zeros that are not written take no memory.
            memory = self._memory[name] = np.zeros(size + size // 8 + _ALIGNED, np.uint8)
            self._written.pop(name, None)
        start = -memory.ctypes.data % _ALIGNED
        found: Array = memory[start : start + size].view(dtype).reshape(shape)
        return found

    def zeros(self, name: str, shape: tuple[int, int], used: int) -> Array:
        """Rows of float32, of which those from `used` on are zeros, and the others are the caller's to write."""
        rows = self.empty(name, shape, np.float32)
        size = used * shape[1]
        flat = rows.reshape(-1)
        flat[size : self._written.get(name, 0)] = 0.0
        self._written[name] = size
        return rows


_scratch = _Scratch()
