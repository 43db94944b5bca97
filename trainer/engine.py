"""The training graph in a session: look keys up, take one step, read rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.core.protobuf import config_pb2

from trainer.batch import Batch
from trainer.fields import Plan
from trainer.graph import training_graph
from trainer.pages import LEAST, enlarge
from trainer.rows import Keyed, Touched

Array = NDArray[Any]


class Engine:
    """The graph and its session. One thread at a time, but for `keys`."""

    def __init__(self, plan: Plan, capacities: Sequence[int]) -> None:
        self.plan = plan
        self._graph = training_graph(plan.shape(), tuple(capacities))
        config = config_pb2.ConfigProto(
            intra_op_parallelism_threads=plan.settings.threads,
            inter_op_parallelism_threads=plan.settings.threads,
            use_per_session_threads=True,
            allow_soft_placement=True,
        )
        if not plan.embedded and not tf.config.list_physical_devices("GPU"):
            # Without embeddings a step's operations take microseconds: to hand them to another thread takes longer than to run them.
            # With them, what runs side by side is worth it. Copies to and from a GPU need the other executor.
            config.experimental.executor_type = "SINGLE_THREADED_EXECUTOR"
        self._session = tf.compat.v1.Session(graph=self._graph.graph, config=config)
        self._session.run(self._graph.start)
        # Made now: making one takes TensorFlow up to 0.1 s, which a step, a delta or a checkpoint would else stand still for.
        self._callables: dict[str, Any] = {name: self._callable(name) for name in self._graph.ends}

    def close(self) -> None:
        """Free the session."""
        self._callables.clear()
        self._session.close()

    # ---- what the learner calls

    def keys(self, batch: Batch) -> Keyed:
        """Fingerprint and cross the strings. Depends on nothing that is learned: any thread may do it ahead of time."""
        feeds, n = [], len(batch)
        starts = batch.starts if batch.starts is not None else np.arange(n, dtype=np.int32)
        for feature in self.plan.features.features:
            column = batch.columns[feature.name]
            if feature.kind != "number":
                feeds.append(column[starts] if feature.per_slate and batch.starts is not None else column)
        slate = np.repeat(np.arange(len(starts), dtype=np.int32), np.diff(starts, append=n))
        made = self._run("keys", *feeds, slate)
        return Keyed(tuple(made[0::2]), tuple(made[1::2]))

    def find(self, keyed: Keyed) -> list[Array]:
        """Per table the slots, int32[n, C]: −1 where a key has none, 0 where there is nothing to look up."""
        return self._run("find", *keyed.keys)

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
                t.order,
                t.ordered,
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
        keyed = self.keys(batch)
        numbers = (batch.columns[name] for name in self.plan.numbers)
        score, heads = self._run("score", *keyed.keys, *keyed.widths, *numbers)
        return score, heads

    def rows(self, table: int, slots: Array) -> Array:
        """The served part of some rows."""
        served: Array = self._run(f"rows{table}", slots)[0]
        return served

    def scalars(self, table: int, rows: Array) -> Array:
        """Linear weights, heads and optimizer state of some rows, int32[m]: a copy."""
        copied: Array = self._run(f"scalars{table}", rows)[0]
        return copied

    def vectors(self, table: int, rows: Array) -> Array:
        """Embeddings of some rows, int32[m]: a copy."""
        copied: Array = self._run(f"vectors{table}", rows)[0]
        return copied

    def dense(self) -> Array:
        """Dense weights and their two state vectors, float32[3, size]: a copy."""
        stacked: Array = self._run("dense")[0]
        return stacked

    def set_table(self, table: int, scalars: Array, vectors: Array) -> None:
        """Replace all rows; their number may change."""
        self._run(f"write{table}", scalars, vectors)
        if scalars.nbytes + vectors.nbytes >= LEAST:
            enlarge()

    def set_dense(self, dense: Array) -> None:
        """Replace dense weights and state."""
        self._run("set_dense", dense)

    def insert(self, table: int, keys: Array, slots: Array) -> None:
        """Put keys into a table's hash table."""
        self._run(f"insert{table}", keys, slots)

    def _run(self, name: str, *feeds: Array) -> list[Array]:
        result: list[Array] = self._callables[name](*feeds)
        return result

    def _callable(self, name: str) -> Any:
        given, fetched, targets = self._graph.ends[name]
        options = config_pb2.CallableOptions(feed=given, fetch=fetched, target=targets)
        return self._session._make_callable_from_options(options)
