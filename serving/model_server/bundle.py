"""A loaded SavedModel: its signatures and a way to run its graph from many threads at once.

Loaded with the v1 loader into a session of its own and run through session callables, never through
`tf.saved_model.load` (refuses models that the official server serves) nor `Session.run` with a feed (refuses shapes that
the official server accepts). Operations run in the caller's thread unless told otherwise: the server's request threads
are the parallelism, a request is not handed from thread to thread, and loading a version beside does not queue behind or
before requests in one shared pool.
"""

from __future__ import annotations

import ctypes
import gc
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2, saved_model_pb2

from serving.model_server.faults import Code, ServingError, missing
from serving.model_server.tensors import Array

DEFAULT_SIGNATURE = "serving_default"


@dataclass(frozen=True, kw_only=True)
class Parallelism:
    """How many threads TensorFlow may use inside one run."""

    inter_op: int = -1
    """Threads that run operations beside one another; -1 = the caller's own thread, 0 = one per core."""
    intra_op: int = 1
    """Threads that one operation may use; 0 = one per core."""


@dataclass(frozen=True)
class Signature:
    """One signature of a SavedModel, as the request path needs it."""

    name: str
    definition: Any
    """The SignatureDef."""
    inputs: Mapping[str, str] = field(default_factory=dict)
    """Alias → tensor name, sorted by alias."""
    outputs: Mapping[str, str] = field(default_factory=dict)
    """Alias → tensor name, sorted by alias."""


class Runner(Protocol):
    """What turns arrays into arrays: a bundle, or a batcher before one."""

    def run(self, feeds: tuple[str, ...], arrays: Sequence[Array], fetches: tuple[str, ...]) -> list[Array]:
        """Feed the named tensors, fetch the named tensors."""
        ...


class Bundle:
    """One version of a model in memory. Thread-safe; `close` only after the last run has ended."""

    def __init__(self, path: str, *, tags: Sequence[str] = ("serve",), parallelism: Parallelism | None = None) -> None:
        """Load the SavedModel at `path`.

        Raises:
            ServingError: the directory is incomplete or damaged, or its initialisation fails.
        """
        check_complete(path, tags)
        graph = tf.Graph()
        self.path = path
        self._session = tf.compat.v1.Session(graph=graph, config=_session_config(parallelism or Parallelism()))
        try:
            with graph.as_default():
                self.meta_graph = tf.compat.v1.saved_model.loader.load(self._session, list(tags), path)
        except tf.errors.OpError as error:
            self._session.close()
            raise translated(error) from error
        except (ValueError, OSError, KeyError, TypeError) as error:
            self._session.close()
            raise ServingError(Code.INVALID_ARGUMENT, f"Cannot load the SavedModel at {path}: {error}") from error
        self.signatures: dict[str, Signature] = {
            name: _signature(name, definition) for name, definition in self.meta_graph.signature_def.items()
        }
        self._callables: dict[tuple[tuple[str, ...], tuple[str, ...]], Any] = {}
        self._making = threading.Lock()

    def run(self, feeds: tuple[str, ...], arrays: Sequence[Array], fetches: tuple[str, ...]) -> list[Array]:
        """Run the graph once.

        Raises:
            ServingError: with the code and text of the operation that failed.
        """
        call = self._callables.get((feeds, fetches)) or self._make(feeds, fetches)
        try:
            outputs = call(*arrays)
        except tf.errors.OpError as error:
            raise translated(error) from error
        return [out if isinstance(out, np.ndarray) else _scalar(out) for out in outputs]

    def _make(self, feeds: tuple[str, ...], fetches: tuple[str, ...]) -> Any:
        options = config_pb2.CallableOptions(feed=feeds, fetch=fetches)
        with self._making:
            try:
                made = self._session._make_callable_from_options(options)
            except tf.errors.OpError as error:
                raise translated(error) from error
            self._callables[(feeds, fetches)] = made
        return made

    def close(self) -> None:
        """Free the session and give its memory back to the operating system where the C library can."""
        self._callables.clear()
        self._session.close()
        del self._session
        gc.collect()
        _trim()


def _session_config(parallelism: Parallelism) -> Any:
    config = config_pb2.ConfigProto(
        inter_op_parallelism_threads=parallelism.inter_op,
        intra_op_parallelism_threads=parallelism.intra_op,
        use_per_session_threads=parallelism.inter_op > 0,
        allow_soft_placement=True,
    )
    config.device_count["GPU"] = 0
    return config


def _signature(name: str, definition: Any) -> Signature:
    return Signature(
        name,
        definition,
        inputs={alias: definition.inputs[alias].name for alias in sorted(definition.inputs)},
        outputs={alias: definition.outputs[alias].name for alias in sorted(definition.outputs)},
    )


def _scalar(value: Any) -> Array:
    return np.array(value, dtype=object) if isinstance(value, (bytes, str)) else np.asarray(value)


_MISMATCH = re.compile(r"Type mismatch: actual (\w+) vs\. expect (\w+).*_arg_.*_(\d+)\}\}", re.DOTALL)


def translated(error: tf.errors.OpError) -> ServingError:
    """TensorFlow's exception as ours: same code, same text.

    Except where a callable words it otherwise than the run that the official server makes.
    """
    code, text = error.error_code, error.message or ""
    if mismatch := _MISMATCH.search(text):
        text = f"Expects arg[{mismatch[3]}] to be {mismatch[2]} but {mismatch[1]} is provided"
    return ServingError(Code(code) if 0 < code <= Code.UNAUTHENTICATED else Code.UNKNOWN, text)


def check_complete(path: str, tags: Sequence[str]) -> None:
    """Refuse a directory that is still being written.

    The official loader serves a model whose variables have not arrived yet, and unloads the good version before it. Here
    the graph, the index and every shard must be there.

    Raises:
        ServingError: what is missing, in the official loader's words where it has some.
    """
    meta_graph = _meta_graph(path, tags)
    prefix = tf.io.gfile.join(path, "variables", "variables")
    if not meta_graph.HasField("saver_def"):
        return
    if not tf.io.gfile.exists(prefix + ".index"):
        raise missing(f"Could not find the variables of the SavedModel: {prefix}.index; No such file or directory")
    shards = {
        tf.io.gfile.basename(name) if hasattr(tf.io.gfile, "basename") else name.rsplit("/", 1)[-1]
        for name in tf.io.gfile.glob(prefix + ".data-*")
    }
    counts = {int(match[1]) for name in shards if (match := re.fullmatch(r"variables\.data-\d{5}-of-(\d{5})", name))}
    for shard in range(max(counts, default=1)):
        name = f"variables.data-{shard:05d}-of-{max(counts, default=1):05d}"
        if name not in shards:
            raise missing(f"{tf.io.gfile.join(path, 'variables', name)}; No such file or directory")


def _meta_graph(path: str, tags: Sequence[str]) -> Any:
    binary, text = tf.io.gfile.join(path, "saved_model.pb"), tf.io.gfile.join(path, "saved_model.pbtxt")
    if not tf.io.gfile.exists(binary):
        if tf.io.gfile.exists(text):
            return _text_meta_graph(text, path, tags)
        raise missing(f"Could not find SavedModel .pb or .pbtxt at supplied export directory path: {path}")
    model = saved_model_pb2.SavedModel()
    try:
        with tf.io.gfile.GFile(binary, "rb") as file:
            model.ParseFromString(file.read())
    except Exception as error:
        raise ServingError(Code.OUT_OF_RANGE, f"Read less bytes than requested: {binary}") from error
    return _tagged(model, path, tags)


def _text_meta_graph(text: str, path: str, tags: Sequence[str]) -> Any:
    from google.protobuf import text_format

    model = saved_model_pb2.SavedModel()
    try:
        with tf.io.gfile.GFile(text, "r") as file:
            text_format.Parse(file.read(), model)
    except text_format.ParseError as error:
        raise ServingError(Code.DATA_LOSS, f"Can't parse {text} as text proto") from error
    return _tagged(model, path, tags)


def _tagged(model: Any, path: str, tags: Sequence[str]) -> Any:
    for meta_graph in model.meta_graphs:
        if set(meta_graph.meta_info_def.tags) == set(tags):
            return meta_graph
    wanted = " ".join(sorted(tags))
    raise missing(
        f"Could not find meta graph def matching supplied tags: {{ {wanted} }}. To inspect available tag-sets in the "
        f"SavedModel, please use the SavedModel CLI: `saved_model_cli` ({path})"
    )


def _trim() -> None:
    """glibc keeps freed memory; `malloc_trim` hands it back. Other C libraries have no such call."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):
        return
