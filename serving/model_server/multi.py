"""MultiInference: several classifications and regressions of one input in one run of the graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tensorflow_serving.apis import inference_pb2

from serving.model_server import classify, regress
from serving.model_server.bundle import DEFAULT_SIGNATURE, Bundle, Runner, Signature
from serving.model_server.examples import serialized_examples
from serving.model_server.faults import Code, ServingError, invalid
from serving.model_server.predict import fill_spec


@dataclass(frozen=True)
class _Task:
    signature: Signature
    method: str
    feed: str
    fetches: tuple[str, ...]


def infer(bundle: Bundle, request: Any, *, version: int, runner: Runner | None = None) -> Any:
    """Answer a MultiInferenceRequest.

    Raises:
        ServingError: a task does not fit the model or the others, or an operation failed.
    """
    tasks = _tasks(bundle, request)
    feed = tasks[0].feed
    if any(task.feed != feed for task in tasks):
        raise invalid("Input tensor must be the same for all Signatures.")
    fetches = tuple(sorted({name for task in tasks for name in task.fetches}))
    examples = serialized_examples(request.input)
    outputs = dict(zip(fetches, (runner or bundle).run((feed,), [examples], fetches), strict=True))
    response = inference_pb2.MultiInferenceResponse()
    for task, asked in zip(tasks, request.tasks, strict=True):
        result = response.results.add()
        if task.method == classify.METHOD:
            classify.fill_result(task.signature, outputs, len(examples), result.classification_result)
        else:
            regress.fill_result(outputs[task.fetches[0]], len(examples), result.regression_result)
        fill_spec(result.model_spec, name=asked.model_spec.name, signature=task.signature.name, version=version)
    return response


def _tasks(bundle: Bundle, request: Any) -> list[_Task]:
    tasks: list[_Task] = []
    model = ""
    for asked in request.tasks:
        spec = asked.model_spec
        if not spec.name:
            raise invalid("Found ModelSpec with an empty model name.")
        model = model or spec.name
        if spec.name != model:
            raise invalid("All ModelSpecs in a MultiInferenceRequest must access the same model name.")
        name = spec.signature_name or DEFAULT_SIGNATURE
        if any(task.signature.name == name for task in tasks):
            raise invalid(f"Duplicate evaluation of signature: {name}")
        if name not in bundle.signatures:
            raise invalid(f"Requested signature not found in model graph: {name}")
        tasks.append(_task(bundle.signatures[name], asked.method_name))
    return tasks


def _task(signature: Signature, method: str) -> _Task:
    if method == classify.METHOD:
        feed, fetches = classify.prepare(signature)
        return _Task(signature, method, feed, fetches)
    if method == regress.METHOD:
        feed, fetch = regress.prepare(signature)
        return _Task(signature, method, feed, (fetch,))
    raise ServingError(Code.UNIMPLEMENTED, f"Unsupported signature method_name: {method}")
