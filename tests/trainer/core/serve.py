"""A SavedModel in a session of its own, loaded the way TensorFlow Serving loads one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.core.protobuf import config_pb2

from tests.trainer.core.rows import strings

Array = NDArray[Any]


class Served:
    """A loaded model."""

    def __init__(self, path: Path) -> None:
        graph = tf.Graph()
        self.session = tf.compat.v1.Session(graph=graph)
        with graph.as_default():
            self.meta = tf.compat.v1.saved_model.loader.load(self.session, ["serve"], str(path))
        self._calls: dict[str, tuple[list[str], list[str], Any]] = {}
        for name in self.meta.signature_def:
            self._calls[name] = self._prepared(name)

    def _prepared(self, name: str) -> tuple[list[str], list[str], Any]:
        signature = self.meta.signature_def[name]
        given, answered = sorted(signature.inputs), sorted(signature.outputs)
        options = config_pb2.CallableOptions(
            feed=[signature.inputs[alias].name for alias in given],
            fetch=[signature.outputs[alias].name for alias in answered],
        )
        return given, answered, self.session._make_callable_from_options(options)

    def call(self, name: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run a signature."""
        given, answered, call = self._calls[name]
        return dict(zip(answered, call(*(inputs[alias] for alias in given)), strict=True))

    def predict(self, columns: Mapping[str, Array]) -> dict[str, Array]:
        """Run serving_default."""
        return self.call("serving_default", columns)

    def sync(self, deltas: Sequence[bytes]) -> dict[str, Array]:
        """Run sync."""
        array = np.empty(len(deltas), dtype=object)
        array[:] = deltas
        return self.call("sync", {"delta": array})

    def checksum(self, probe: bytes) -> int:
        """Run checksum."""
        return int(self.call("checksum", {"probe": np.array([probe], dtype=object)})["checksum"][0])

    def close(self) -> None:
        """Free the session."""
        self.session.close()


__all__ = ["Served", "strings"]
