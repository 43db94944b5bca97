"""A TensorFlow session for a version's graph, and what is kept of it when the version goes.

Placing a graph and making its signatures ready takes tens of milliseconds of a processor, and on a busy machine readers wait for them.
Versions of one model have the same graph: what differs is what its variables and tables hold. So a version that goes leaves its session,
emptied of both, to the next one with that graph, for which loading is restoring. Only where it is known that nothing else could be left
behind: a graph with any other operation that keeps a state (a random generator, a counter) gets a session of its own each time.
"""

from __future__ import annotations

import hashlib
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import graph_pb2
from tensorflow.core.protobuf import config_pb2
from tensorflow.python.client import pywrap_tf_session as c_api
from tensorflow.python.framework import op_def_registry

HELD: Final = frozenset({"VarHandleOp", "HashTableV2", "MutableHashTableV2", "MutableDenseHashTableV2"})
"""Operations that hold what a version is made of. All of it is destroyed when the version goes."""
STATELESS: Final = frozenset(
    {
        *("ReadVariableOp", "AssignVariableOp", "AssignAddVariableOp", "AssignSubVariableOp", "VarIsInitializedOp"),
        *(
            "ResourceGather",
            "ResourceGatherNd",
            "ResourceScatterUpdate",
            "ResourceScatterNdUpdate",
            "ResourceScatterAdd",
        ),
        *("LookupTableFindV2", "LookupTableInsertV2", "LookupTableRemoveV2", "LookupTableSizeV2"),
        *("LookupTableExportV2", "LookupTableImportV2", "InitializeTableV2", "InitializeTableFromTextFileV2"),
        *("MutexV2", "MutexLock", "ConsumeMutexLock", "SaveV2", "RestoreV2", "MergeV2Checkpoints"),
        *("StatefulPartitionedCall", "If", "While", "Case", "Assert", "PrintV2"),
    }
)
"""Operations that TensorFlow calls stateful, and that keep nothing beyond a run but what is HELD."""
SPARES: Final = 4
"""Emptied sessions that are kept, of different graphs; those longest unused are closed first."""
_EMPTY: Final = "everloop_empty"

Call = Callable[..., list[Any]]
Ends = tuple[tuple[str, ...], tuple[str, ...]]
"""The names of the tensors that are fed, and of those that are fetched."""


@dataclass(frozen=True, kw_only=True)
class Parallelism:
    """How many threads TensorFlow may use inside one run."""

    inter_op: int = -1
    """Threads that run operations beside one another; -1 = the caller's own thread, 0 = one per core."""
    intra_op: int = 1
    """Threads that one operation may use; 0 = one per core."""


@dataclass(frozen=True)
class _Key:
    """What two versions must have in common to use one session, one after the other."""

    graph: bytes
    """Digest of its definition."""
    parallelism: Parallelism
    optimize: bool


class _Graph:
    """An imported graph."""

    def __init__(self, serialized: bytes, definition: Any) -> None:
        self.reusable = _reusable(definition)
        self.graph = tf.Graph()
        # Two messages one after the other are one with the repeated fields of both.
        _import(self.graph, serialized + _emptying(definition) if self.reusable else serialized)


_graphs: weakref.WeakValueDictionary[bytes, _Graph] = weakref.WeakValueDictionary()
"""The graphs of the loaded versions, by the digests of their definitions: an import holds the interpreter's lock."""
_spares: OrderedDict[_Key, Session] = OrderedDict()
_lock = threading.Lock()


class Session:
    """A graph that can be run, for one version at a time. Thread-safe but for `leave` and `close`, which come after the last run."""

    def __init__(self, key: _Key, graph: _Graph) -> None:
        """Use `session_for`."""
        self._key, self._graph = key, graph
        self._session = tf.compat.v1.Session(graph=graph.graph, config=_config(key.parallelism, key.optimize))
        self._making = threading.Lock()
        self._targets: dict[tuple[str, tuple[str, ...]], Call] = {}
        self.calls: dict[Ends, Call] = {}
        """Made so far."""

    def call(self, ends: Ends) -> Call:
        """What takes arrays for the one and answers arrays of the other.

        Raises:
            tf.errors.OpError: the graph can't be run so.
        """
        made = self.calls.get(ends)
        if made is None:
            with self._making:
                made = self.calls[ends] = self._made(config_pb2.CallableOptions(feed=ends[0], fetch=ends[1]))
        return made

    def run(self, operation: str, feeds: Mapping[str, str]) -> None:
        """Run an operation that answers nothing; `feeds`: tensor name → text.

        Raises:
            tf.errors.OpError: it failed.
        """
        ends = operation, tuple(feeds)
        if ends not in self._targets:
            self._targets[ends] = self._made(config_pb2.CallableOptions(feed=ends[1], target=[operation]))
        self._targets[ends](*(np.array(value.encode(), dtype=object) for value in feeds.values()))

    def leave(self) -> None:
        """The version goes: leave the session to the next one with this graph, or close it."""
        if not self._graph.reusable:
            self.close()
            return
        try:
            self.run(_EMPTY, {})
        except tf.errors.OpError:
            self.close()
            return
        with _lock:
            left = [_spares.pop(self._key)] if self._key in _spares else []
            _spares[self._key] = self
            left += [_spares.popitem(last=False)[1] for _ in range(len(_spares) - SPARES)]
        for spare in left:
            spare.close()

    def close(self) -> None:
        """Free everything."""
        self.calls.clear()
        self._targets.clear()
        self._session.close()

    def _made(self, options: Any) -> Call:
        made: Call = self._session._make_callable_from_options(options)
        return made


def session_for(definition: Any, parallelism: Parallelism, *, optimize: bool) -> Session:
    """A session without any state for this GraphDef; `optimize`: let TensorFlow's Grappler rewrite what it runs.

    Raises:
        tf.errors.OpError: TensorFlow refuses the graph.
    """
    serialized = definition.SerializeToString(deterministic=True)
    key = _Key(hashlib.sha256(serialized).digest(), parallelism, optimize)
    with _lock:
        spare = _spares.pop(key, None)
    if spare is not None:
        return spare
    graph = _graphs.get(key.graph)
    if graph is None:
        graph = _graphs[key.graph] = _Graph(serialized, definition)
    return Session(key, graph)


def _config(parallelism: Parallelism, optimize: bool) -> Any:
    config = config_pb2.ConfigProto(
        inter_op_parallelism_threads=parallelism.inter_op,
        intra_op_parallelism_threads=parallelism.intra_op,
        use_per_session_threads=parallelism.inter_op > 0,
        allow_soft_placement=True,
    )
    config.device_count["GPU"] = 0
    # Two thirds of the processor time of a load, which readers wait for, and no faster a graph where it was exported to serve.
    config.graph_options.rewrite_options.disable_meta_optimizer = not optimize
    return config


def _reusable(definition: Any) -> bool:
    """Whether a graph keeps nothing beyond a run but what can be destroyed."""
    functions = definition.library.function
    known = {function.signature.name for function in functions} | HELD | STATELESS
    inside = (node for function in functions for node in function.node_def)
    return (
        all(node.name != _EMPTY for node in definition.node)
        and all(_keeps_nothing(node.op) or node.op in known for node in definition.node)
        # What a function holds could not be reached from outside.
        and all(_keeps_nothing(node.op) or node.op in known - HELD for node in inside)
    )


def _keeps_nothing(operation: str) -> bool:
    definition = op_def_registry.get(operation)
    return definition is not None and not definition.is_stateful


def _emptying(definition: Any) -> bytes:
    """A GraphDef with the operation _EMPTY, which destroys all that the graph holds."""
    more = graph_pb2.GraphDef()
    names = [node.name for node in definition.node if node.op in HELD]
    for number, name in enumerate(names):
        more.node.add(name=f"{_EMPTY}/{number}", op="DestroyResourceOp", input=[name])
    more.node.add(name=_EMPTY, op="NoOp", input=[f"^{_EMPTY}/{number}" for number in range(len(names))])
    found: bytes = more.SerializeToString()
    return found


def _import(graph: tf.Graph, definition: bytes) -> None:
    """Import a GraphDef without making Python objects of its operations."""
    options = c_api.TF_NewImportGraphDefOptions()
    serialized = c_api.TF_NewBufferFromString(definition)
    try:
        with graph._c_graph.get() as c_graph:
            c_api.TF_DeleteImportGraphDefResults(c_api.TF_GraphImportGraphDefWithResults(c_graph, serialized, options))
    finally:
        c_api.TF_DeleteBuffer(serialized)
        c_api.TF_DeleteImportGraphDefOptions(options)
