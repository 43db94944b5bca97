"""SavedModels that the tests make: one function per model, each the smallest that shows its case."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2

tf.get_logger().setLevel("ERROR")
tf1 = tf.compat.v1

PREDICT, CLASSIFY, REGRESS = (f"tensorflow/serving/{name}" for name in ("predict", "classify", "regress"))
Signatures = Mapping[str, Any]


def signature(inputs: Mapping[str, Any], outputs: Mapping[str, Any], method: str = PREDICT) -> Any:
    """A SignatureDef from tensors by alias."""
    definition = meta_graph_pb2.SignatureDef()
    definition.method_name = method
    for aliases, into in ((inputs, definition.inputs), (outputs, definition.outputs)):
        for alias, tensor in aliases.items():
            into[alias].name = tensor.name
            into[alias].dtype = tensor.dtype.as_datatype_enum
            into[alias].tensor_shape.CopyFrom(tensor.shape.as_proto())
    return definition


def save(path: Path, build: Callable[[], Signatures], *, init: str = "") -> Path:
    """Write what `build` makes in an empty graph as a SavedModel; returns its path."""
    graph = tf.Graph()
    with graph.as_default(), tf1.Session(graph=graph) as session:
        signatures = build()
        session.run(tf1.global_variables_initializer())
        builder = tf1.saved_model.Builder(str(path))
        builder.add_meta_graph_and_variables(
            session, ["serve"], dict(signatures), main_op=graph.get_operation_by_name(init) if init else None
        )
        builder.save()
    return path


def half_plus_two() -> Signatures:
    """y = 0.5 x + 2, and the classic regress and classify signatures over tf.Example."""
    a = tf1.get_variable("a", initializer=0.5, use_resource=True)
    b = tf1.get_variable("b", initializer=2.0, use_resource=True)
    c = tf1.get_variable("c", initializer=3.0, use_resource=True)
    serialized = tf1.placeholder(tf.string, [None], "tf_example")
    spec = {"x": tf.io.FixedLenFeature([1], tf.float32), "x2": tf.io.FixedLenFeature([1], tf.float32, [0.0])}
    parsed = tf.io.parse_example(serialized, spec)
    x = tf1.placeholder_with_default(parsed["x"], [None, 1], "x_parsed")
    y = tf.add(tf.multiply(a, x), b, "y_parsed")
    fed = tf1.placeholder(tf.float32, [None, 1], "x")
    out = tf.add(tf.multiply(a, fed), b, "y")
    x2 = tf1.placeholder(tf.float32, [None, 1], "x2")
    y3 = tf.add(tf.multiply(a, x2), c, "y3")
    return {
        "serving_default": signature({"x": fed}, {"y": out}),
        "regress_x_to_y": signature({"inputs": serialized}, {"outputs": y}, REGRESS),
        "regress_x2_to_y3": signature({"inputs": x2}, {"outputs": y3}, REGRESS),
        "classify_x_to_y": signature({"inputs": serialized}, {"scores": y}, CLASSIFY),
        "wide": signature({"inputs": serialized}, {"outputs": tf.tile(y, [1, 3])}, REGRESS),
        "labelled": signature(
            {"inputs": serialized},
            {"scores": tf.concat([y, -y], 1), "classes": tf.tile(tf.constant([["a", "b"]]), [tf.shape(y)[0], 1])},
            "anything",
        ),
    }


def many() -> Signatures:
    """MULTI: two inputs of different types, two outputs; and outputs whose batch sizes differ."""
    a = tf1.placeholder(tf.float32, [None], "a")
    s = tf1.placeholder(tf.string, [None], "s")
    both = {"a": a, "s": s}
    with_default = signature(both, {"double": a * 2, "text": tf.strings.join([s, "!"])})
    with_default.defaults["a"].CopyFrom(tf.make_tensor_proto([7.0], tf.float32))
    return {
        "serving_default": signature(both, {"double": a * 2, "text": tf.strings.join([s, "!"])}),
        "uneven": signature({"a": a}, {"all": a * 1, "one": a[:1]}),
        "defaulted": with_default,
    }


def types() -> Signatures:
    """One signature per dtype that JSON can carry, and some that it cannot; each gives back what it got."""
    kinds = ["float32", "float64", "int32", "int16", "int8", "uint8", "int64", "bool", "uint32", "uint64", "string"]
    signatures = {}
    for kind in [*kinds, "float16", "bfloat16", "complex64"]:
        x = tf1.placeholder(tf.dtypes.as_dtype(kind), None, kind)
        signatures[kind] = signature({"x": x}, {"y": tf.identity(x)})
    text = tf1.placeholder(tf.string, None, "text")
    signatures["bytes"] = signature({"x": text}, {"y_bytes": tf.identity(text)})
    return signatures


def odd() -> Signatures:
    """NANS, SCALAR, EMPTY and an operation that fails when it runs."""
    x = tf1.placeholder(tf.float32, None, "x")
    broken = tf.ensure_shape(tf1.placeholder(tf.float32, None, "z"), [7])
    return {
        "serving_default": signature({"x": x}, {"y": x / tf.zeros_like(x)}),
        "scalar": signature({"x": x}, {"y": tf.reduce_sum(x)}),
        "empty": signature({"x": x}, {"y": x[:0]}),
        "fails": signature({"z": tf1.get_default_graph().get_tensor_by_name("z:0")}, {"y": broken}),
    }


def counter() -> Signatures:
    """CNT: signatures without inputs over a reference variable, as upstream's saved_model_counter has them."""
    count = tf1.get_variable("count", initializer=0.0, use_resource=False)
    step = tf1.placeholder(tf.float32, [], "step")
    return {
        "get_counter": signature({}, {"output": count.read_value()}),
        "incr_counter": signature({}, {"output": tf1.assign_add(count, 1.0)}),
        "incr_counter_by": signature({"delta": step}, {"output": tf1.assign_add(count, step)}),
    }


def version(number: int) -> Callable[[], Signatures]:
    """VER(n): answers its number; keeps it in a variable, so that a directory without variables is noticed."""

    def build() -> Signatures:
        kept = tf1.get_variable("n", initializer=tf.constant(number, tf.int64), use_resource=True)
        x = tf1.placeholder(tf.float32, [None], "x")
        return {"serving_default": signature({"x": x}, {"n": kept + tf.cast(x, tf.int64) * 0})}

    return build


def slow() -> Signatures:
    """SLOW: `serving_default` waits until somebody calls `release`. No test needs to sleep."""
    queue = tf.queue.FIFOQueue(1000, [tf.float32], [[]], shared_name="gate")
    x = tf1.placeholder(tf.float32, [None], "x")
    with tf.control_dependencies([queue.dequeue()]):
        waited = tf.identity(x)
    with tf.control_dependencies([queue.enqueue(tf.reduce_sum(x))]):
        released = tf.identity(x)
    return {
        "serving_default": signature({"x": x}, {"y": waited}),
        "release": signature({"x": x}, {"y": released}),
        "quick": signature({"x": x}, {"y": x + 1}),
    }


def living() -> Signatures:
    """A model that writes its own weights: `sync` takes opaque deltas, `serving_default` says how far it has come."""
    weight = tf1.get_variable("weight", initializer=tf.zeros([4, 8]), use_resource=True)
    reached = tf1.get_variable("sequence", initializer=tf.constant(0, tf.int64), use_resource=True)
    lock = tf.raw_ops.MutexV2(container="", shared_name="sync")
    delta = tf1.placeholder(tf.string, [None], "delta")
    held = tf.raw_ops.MutexLock(mutex=lock)
    with tf.control_dependencies([held]):
        there = reached.read_value()
        rows = tf.io.parse_tensor(tf1.placeholder_with_default(delta[0], [], "first"), tf.int64)
        follows = tf.equal(rows[0], there)
        new = tf.where(follows, there + 1, there)
        value = tf.cast(new, tf.float32)
        with (
            tf.control_dependencies([weight.assign(tf.fill([4, 8], value))]),
            tf.control_dependencies([reached.assign(new)]),
        ):
            answer = tf.fill(tf.shape(delta), new)
            with tf.control_dependencies([tf.raw_ops.ConsumeMutexLock(mutex_lock=held)]):
                answer = tf.identity(answer)
    x = tf1.placeholder(tf.string, [None, 2], "x")
    before = reached.read_value()
    with tf.control_dependencies([before]):
        hashed = tf.strings.to_hash_bucket_fast(x[:, 0], 4)
        score = tf.reduce_mean(tf.gather(weight.read_value(), hashed), 1)
    sequence = tf.fill(tf.shape(score), before)
    return {
        "serving_default": signature({"x": x}, {"score": score, "sequence": sequence}),
        "sync": signature({"delta": delta}, {"sequence": answer}),
    }


def tall() -> Signatures:
    """For batching: says how many rows its run had."""
    x = tf1.placeholder(tf.float32, [None, None], "x")
    rows = tf.fill(tf.shape(x)[:1], tf.shape(x)[0])
    return {"serving_default": signature({"x": x}, {"sum": tf.reduce_sum(x, 1), "rows": rows, "wide": x * 1})}
