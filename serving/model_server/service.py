"""The answers of both services, without a port: a request message in, a response message out.

gRPC and REST share everything from here down. Each answer finds its servable once and runs on that one, so that the
signature and the run of one request are of one version.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tensorflow_serving.apis import model_management_pb2

from serving.model_server.bundle import Runner
from serving.model_server.classify import classify
from serving.model_server.core import Core
from serving.model_server.faults import Code, ServingError, invalid
from serving.model_server.metadata import check_request, metadata
from serving.model_server.metrics import Histogram, Metrics
from serving.model_server.multi import infer
from serving.model_server.predict import predict
from serving.model_server.regress import regress
from serving.model_server.servables import Servable
from serving.model_server.status import model_status
from serving.model_server.tensors import Array


@dataclass(frozen=True, kw_only=True)
class ServiceSettings:
    """How requests are answered."""

    as_content: bool = False
    """Answer Predict with `tensor_content` instead of typed fields."""
    check_method: bool = False
    """Refuse Classify and Regress on signatures of another method name."""


class Service:
    """PredictionService and ModelService as plain functions."""

    def __init__(self, core: Core, metrics: Metrics, settings: ServiceSettings | None = None) -> None:
        self.core, self.metrics, self.settings = core, metrics, settings or ServiceSettings()

    def predict(self, request: Any) -> Any:
        """Predict."""
        with self._servable(request) as servable:
            return predict(
                servable.bundle,
                request,
                version=servable.version,
                runner=self.timed(servable, "Predict"),
                as_content=self.settings.as_content,
            )

    def classify(self, request: Any) -> Any:
        """Classify."""
        with self._servable(request) as servable:
            return classify(
                servable.bundle,
                request,
                version=servable.version,
                runner=self.timed(servable, "Classify"),
                check_method=self.settings.check_method,
            )

    def regress(self, request: Any) -> Any:
        """Regress."""
        with self._servable(request) as servable:
            return regress(
                servable.bundle,
                request,
                version=servable.version,
                runner=self.timed(servable, "Regress"),
                check_method=self.settings.check_method,
            )

    def multi_inference(self, request: Any) -> Any:
        """MultiInference: the first task's model answers all."""
        if not request.tasks:
            raise invalid("ModelSpec has no name specified.")
        spec = request.tasks[0].model_spec
        with Entered(self.core.find(spec)) as servable:
            self.metrics.example_count_total.add(spec.name, by=0)
            response = infer(
                servable.bundle, request, version=servable.version, runner=self.timed(servable, "MultiInference")
            )
        examples = _examples(response)
        self.metrics.example_counts.observe(examples, spec.name)
        self.metrics.example_count_total.add(spec.name, by=examples)
        return response

    def model_metadata(self, request: Any) -> Any:
        """GetModelMetadata."""
        check_request(request)
        with self._servable(request) as servable:
            return metadata(servable.bundle, model=request.model_spec.name, version=servable.version)

    def model_status(self, request: Any) -> Any:
        """GetModelStatus."""
        return model_status(self.core.board, request)

    def reload(self, request: Any, *, given_up: Callable[[], bool] = lambda: False) -> Any:
        """HandleReloadConfigRequest; the response repeats the status and says by how much the asked metrics grew."""
        before = {name: self.metrics.counter_value(name) for name in request.metric_names}
        self.core.reload(request.config, given_up=given_up)
        response = model_management_pb2.ReloadConfigResponse()
        response.status.error_code = int(Code.OK)
        for name, value in before.items():
            if value is None:
                raise invalid(f"Metric with name : {name} not found.")
            grown = (self.metrics.counter_value(name) or 0) - value
            response.metric.add(name=name, int64_value_increase=grown)
        return response

    def timed(self, servable: Servable, api: str) -> Runner:
        """What runs a servable's graph, with its time counted."""
        return TimedRunner(servable.runner, self.metrics.runtime_latency, (servable.model, api, "TF1"))

    def _servable(self, request: Any) -> Entered:
        if not request.HasField("model_spec"):
            raise invalid("Missing ModelSpec")
        return Entered(self.core.find(request.model_spec))


class TimedRunner:
    """A runner whose runs are counted by their time."""

    __slots__ = ("_histogram", "_labels", "_runner")

    def __init__(self, runner: Runner, histogram: Histogram, labels: tuple[str, ...]) -> None:
        self._runner, self._histogram, self._labels = runner, histogram, labels

    def run(self, feeds: tuple[str, ...], arrays: Sequence[Array], fetches: tuple[str, ...]) -> list[Array]:
        """Run, and note how many microseconds it took."""
        began = time.perf_counter()
        outputs = self._runner.run(feeds, arrays, fetches)
        self._histogram.observe((time.perf_counter() - began) * 1e6, *self._labels)
        return outputs


class Entered:
    """A servable that `Core.find` has entered already: `with` only leaves it."""

    def __init__(self, servable: Servable) -> None:
        self._servable = servable

    def __enter__(self) -> Servable:
        return self._servable

    def __exit__(self, *exc: object) -> None:
        self._servable.__exit__(*exc)


def _examples(response: Any) -> int:
    for result in response.results:
        if result.HasField("classification_result"):
            return len(result.classification_result.classifications)
        return len(result.regression_result.regressions)
    return 0


def code_of(error: BaseException) -> tuple[Code, str]:
    """The code and the text of whatever a request ended with."""
    if isinstance(error, ServingError):
        return error.code, error.message
    if isinstance(error, MemoryError):
        return Code.RESOURCE_EXHAUSTED, "Out of memory"
    return Code.INTERNAL, f"{type(error).__name__}: {error}"
