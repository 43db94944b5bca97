"""A loaded SavedModel: its signatures and a way to run its graph from many threads at once.

Loaded as the official server's C++ loader does it, step by step: import the graph, restore, initialise, in a TensorFlow 1
session of its own. Not by `tf.saved_model.load`, which refuses models that the official server serves, and not by the v1
Python loader either, which makes a Python object of every operation: that holds the interpreter's lock for as long as a
large graph takes, while requests wait. Run through session callables, never `Session.run` with a feed, which refuses shapes
that the official server accepts.

Operations run in the caller's thread unless told otherwise: the server's request threads are the parallelism, a request is
not handed from thread to thread, and loading a version beside does not queue behind or before requests in one shared pool.
"""

from __future__ import annotations

import contextlib
import ctypes
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

from serving.model_server.faults import Code, ServingError, missing
from serving.model_server.session import Call, Parallelism, session_for
from serving.model_server.tensors import Array

DEFAULT_SIGNATURE = "serving_default"
INIT_SIGNATURE = "__saved_model_init_op"
_INIT_COLLECTIONS = ("saved_model_main_op", "legacy_init_op")
_ASSETS_COLLECTION = "saved_model_assets"


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

    def __init__(
        self,
        path: str,
        *,
        tags: Sequence[str] = ("serve",),
        parallelism: Parallelism | None = None,
        optimize: bool = False,
    ) -> None:
        """Load the SavedModel at `path`; `optimize`: let TensorFlow's Grappler rewrite its graphs.

        Raises:
            ServingError: the directory is incomplete or damaged, or its initialisation fails.
        """
        self.path = path
        meta_graph = check_complete(path, tags)
        try:
            self._session = session_for(meta_graph.graph_def, parallelism or Parallelism(), optimize=optimize)
        except tf.errors.OpError as error:
            raise translated(error) from error
        try:
            self._restore(meta_graph)
        except tf.errors.OpError as error:
            self._session.close()
            raise translated(error) from error
        self._calls = self._session.calls
        self.signatures: dict[str, Signature] = {
            name: _signature(name, definition) for name, definition in meta_graph.signature_def.items()
        }
        self._prepare()

    def _restore(self, meta_graph: Any) -> None:
        """Restore the variables, then run the initialisation, as far as the model has them."""
        assets = asset_feeds(meta_graph, self.path)
        if meta_graph.HasField("saver_def"):
            prefix = tf.io.gfile.join(self.path, "variables", "variables")
            saver = meta_graph.saver_def
            self._session.run(saver.restore_op_name, {saver.filename_tensor_name: prefix, **assets})
        init = init_operation(meta_graph)
        if init:
            self._session.run(init, assets)

    def _prepare(self) -> None:
        """Make every signature ready now, so that its first request does not wait for that."""
        for signature in self.signatures.values():
            if not signature.outputs or signature.name == INIT_SIGNATURE:
                continue
            with contextlib.suppress(ServingError):  # a signature that cannot be run says so when it is asked
                self._make(tuple(signature.inputs.values()), tuple(signature.outputs.values()))

    def run(self, feeds: tuple[str, ...], arrays: Sequence[Array], fetches: tuple[str, ...]) -> list[Array]:
        """Run the graph once.

        Raises:
            ServingError: with the code and text of the operation that failed.
        """
        call = self._calls.get((feeds, fetches)) or self._make(feeds, fetches)
        try:
            outputs = call(*arrays)
        except tf.errors.OpError as error:
            raise translated(error) from error
        return [out if isinstance(out, np.ndarray) else _scalar(out) for out in outputs]

    def _make(self, feeds: tuple[str, ...], fetches: tuple[str, ...]) -> Call:
        try:
            return self._session.call((feeds, fetches))
        except tf.errors.OpError as error:
            raise translated(error) from error

    def close(self) -> None:
        """Give its memory back to the operating system where the C library can, and the session to the next version."""
        self._calls = {}
        self._session.leave()
        del self._session
        _trim()


def init_operation(meta_graph: Any) -> str:
    """The operation that initialises tables and the like; empty where there is none."""
    if INIT_SIGNATURE in meta_graph.signature_def:
        return str(meta_graph.signature_def[INIT_SIGNATURE].outputs[INIT_SIGNATURE].name)
    for collection in _INIT_COLLECTIONS:
        names = meta_graph.collection_def[collection].node_list.value if collection in meta_graph.collection_def else []
        if names:
            return str(names[0])
    return ""


def asset_feeds(meta_graph: Any, path: str) -> dict[str, str]:
    """Tensor name → file, for the files that the model brings."""
    assets = list(meta_graph.asset_file_def)
    if not assets and _ASSETS_COLLECTION in meta_graph.collection_def:
        for packed in meta_graph.collection_def[_ASSETS_COLLECTION].any_list.value:
            asset = meta_graph_pb2.AssetFileDef()
            packed.Unpack(asset)
            assets.append(asset)
    return {asset.tensor_info.name: tf.io.gfile.join(path, "assets", asset.filename) for asset in assets}


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


def check_complete(path: str, tags: Sequence[str]) -> Any:
    """The MetaGraphDef with those tags; a directory that is still being written is refused.

    The official loader serves a model whose variables have not arrived yet, and unloads the good version before it. Here
    the graph, the index and every shard must be there.

    Raises:
        ServingError: what is missing, in the official loader's words where it has some.
    """
    meta_graph = _meta_graph(path, tags)
    prefix = tf.io.gfile.join(path, "variables", "variables")
    if not meta_graph.HasField("saver_def"):
        return meta_graph
    if not tf.io.gfile.exists(prefix + ".index"):
        raise missing(f"Could not find the variables of the SavedModel: {prefix}.index; No such file or directory")
    shards = {name.rsplit("/", 1)[-1] for name in tf.io.gfile.glob(prefix + ".data-*")}
    counts = {int(match[1]) for name in shards if (match := re.fullmatch(r"variables\.data-\d{5}-of-(\d{5})", name))}
    for shard in range(max(counts, default=1)):
        name = f"variables.data-{shard:05d}-of-{max(counts, default=1):05d}"
        if name not in shards:
            raise missing(f"{tf.io.gfile.join(path, 'variables', name)}; No such file or directory")
    return meta_graph


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
