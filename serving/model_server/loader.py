"""From a version's directory to a servable: load, batch, warm up, count."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

import tensorflow as tf

from serving.model_server import batches
from serving.model_server.batches import BatchSettings
from serving.model_server.batching import Batcher
from serving.model_server.bundle import Bundle
from serving.model_server.faults import ServingError
from serving.model_server.metrics import Metrics
from serving.model_server.protos import BatchingParameters, read_text
from serving.model_server.servables import Servable
from serving.model_server.session import Parallelism
from serving.model_server.warmup import warm_up

PARAMETERS_FILE = "batching_params.pbtxt"


@dataclass(frozen=True, kw_only=True)
class LoaderSettings:
    """How a version becomes a servable."""

    tags: Sequence[str] = ("serve",)
    """Tags of the meta graph to load."""
    parallelism: Parallelism = Parallelism()
    """Threads inside one run."""
    optimize: bool = False
    """Whether TensorFlow's Grappler rewrites the graphs."""
    warmup: bool = True
    """Whether recorded requests are replayed before the version answers."""
    warmup_iterations: int = 1
    """How often each."""
    batching: BatchSettings | None = None
    """How requests are run together; None = each by itself."""
    per_model_batching: bool = False
    """Whether a version's own `batching_params.pbtxt` goes before `batching`."""


class Loader:
    """Loads versions; one object for all models, called from several threads."""

    def __init__(self, settings: LoaderSettings, metrics: Metrics) -> None:
        self._settings, self._metrics = settings, metrics

    def __call__(self, model: str, version: int, path: str) -> Servable:
        """Load one version.

        Raises:
            ServingError: it cannot be loaded or does not answer its own recorded requests.
        """
        began = time.perf_counter()
        try:
            bundle = Bundle(
                path, tags=self._settings.tags, parallelism=self._settings.parallelism, optimize=self._settings.optimize
            )
        except ServingError:
            self._metrics.load_attempts.add(path, "fail")
            raise
        self._metrics.load_attempts.add(path, "success")
        self._metrics.load_latency.add(path, by=int((time.perf_counter() - began) * 1e6))
        try:
            batching = self._batching(path)
        except ServingError:
            bundle.close()
            raise
        runner = Batcher(bundle, batching, self._metrics, name=model) if batching else bundle
        servable = Servable(model, version, bundle, runner)
        try:
            if self._settings.warmup:
                warm_up(bundle, iterations=self._settings.warmup_iterations, runner=runner, metrics=self._metrics)
        except ServingError:
            servable.close()
            raise
        return servable

    def _batching(self, path: str) -> BatchSettings | None:
        file = tf.io.gfile.join(path, PARAMETERS_FILE)
        if self._settings.batching is None or not self._settings.per_model_batching or not tf.io.gfile.exists(file):
            return self._settings.batching
        with tf.io.gfile.GFile(file) as opened:
            return read_batching(opened.read(), file=file)


def read_batching(text: str, *, file: str) -> BatchSettings:
    """BatchingParameters in text form; as many threads as there are cores unless it says.

    Raises:
        ServingError: the text is no such message, or contradicts itself.
    """
    return batches.from_proto(read_text(BatchingParameters, text, file=file), threads=os.cpu_count() or 1)
