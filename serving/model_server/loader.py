"""From a version's directory to a servable: load, batch, warm up, count."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from serving.model_server.bundle import Bundle, Parallelism
from serving.model_server.faults import ServingError
from serving.model_server.metrics import Metrics
from serving.model_server.servables import Servable
from serving.model_server.warmup import warm_up


@dataclass(frozen=True, kw_only=True)
class LoaderSettings:
    """How a version becomes a servable."""

    tags: Sequence[str] = ("serve",)
    """Tags of the meta graph to load."""
    parallelism: Parallelism = Parallelism()
    """Threads inside one run."""
    warmup: bool = True
    """Whether recorded requests are replayed before the version answers."""
    warmup_iterations: int = 1
    """How often each."""


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
            bundle = Bundle(path, tags=self._settings.tags, parallelism=self._settings.parallelism)
        except ServingError:
            self._metrics.load_attempts.add(path, "fail")
            raise
        self._metrics.load_attempts.add(path, "success")
        self._metrics.load_latency.add(path, by=int((time.perf_counter() - began) * 1e6))
        try:
            if self._settings.warmup:
                warm_up(bundle, iterations=self._settings.warmup_iterations, metrics=self._metrics)
        except ServingError:
            bundle.close()
            raise
        return Servable(model, version, bundle)
