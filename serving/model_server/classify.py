"""Classify: examples in, labels and scores out."""

from __future__ import annotations

from typing import Any

from tensorflow_serving.apis import classification_pb2

from serving.model_server.bundle import DEFAULT_SIGNATURE, Bundle, Runner, Signature
from serving.model_server.examples import serialized_examples, shape_text
from serving.model_server.faults import invalid, precondition
from serving.model_server.predict import fill_spec
from serving.model_server.tensors import Array, type_name

METHOD = "tensorflow/serving/classify"
INPUTS, CLASSES, SCORES = "inputs", "classes", "scores"


def classify(
    bundle: Bundle, request: Any, *, version: int, runner: Runner | None = None, check_method: bool = False
) -> Any:
    """Answer a ClassificationRequest.

    Raises:
        ServingError: the signature or the examples do not fit, or an operation failed.
    """
    signature = named_signature(bundle, request.model_spec.signature_name)
    if check_method and signature.definition.method_name != METHOD:
        raise invalid(
            f"Expected classification signature method_name to be {METHOD}. Was: {signature.definition.method_name}"
        )
    feed, fetches = prepare(signature)
    examples = serialized_examples(request.input)
    outputs = (runner or bundle).run((feed,), [examples], fetches)
    response = classification_pb2.ClassificationResponse()
    fill_spec(response.model_spec, name=request.model_spec.name, signature=signature.name, version=version)
    fill_result(signature, dict(zip(fetches, outputs, strict=True)), len(examples), response.result)
    return response


def named_signature(bundle: Bundle, name: str) -> Signature:
    """The signature, in the words of Classify and Regress where it is unknown."""
    name = name or DEFAULT_SIGNATURE
    if name not in bundle.signatures:
        raise invalid(f"No signature was found with the name: {name}")
    return bundle.signatures[name]


def prepare(signature: Signature) -> tuple[str, tuple[str, ...]]:
    """What to feed and what to fetch."""
    if len(signature.inputs) != 1:
        raise invalid("Expected one input Tensor.")
    if len(signature.outputs) not in (1, 2):
        raise invalid(f"Expected one or two output Tensors, found {len(signature.outputs)}")
    if INPUTS not in signature.inputs:
        raise precondition(f"No classification inputs found in SignatureDef: {signature.definition}")
    fetches = tuple(signature.outputs[alias] for alias in (CLASSES, SCORES) if alias in signature.outputs)
    if not fetches:
        raise precondition(
            f'Expected classification signature outputs to contain at least one of "{CLASSES}" or "{SCORES}". '
            f"Signature was: {signature.definition}"
        )
    return signature.inputs[INPUTS], fetches


def fill_result(signature: Signature, outputs: dict[str, Array], examples: int, result: Any) -> None:
    """Turn the fetched tensors into classifications, one per example."""
    classes = outputs.get(signature.outputs.get(CLASSES, ""))
    scores = outputs.get(signature.outputs.get(SCORES, ""))
    if classes is not None:
        _check(classes, CLASSES, "DT_STRING", examples)
    if scores is not None:
        _check(scores, SCORES, "DT_FLOAT", examples)
    if classes is not None and scores is not None and classes.shape[1] != scores.shape[1]:
        raise invalid(
            f"Tensors class and score should match in dim_size(1). Got {classes.shape[1]} vs. {scores.shape[1]}"
        )
    present = classes if classes is not None else scores
    for row in range(examples):
        entry = result.classifications.add()
        for column in range(0 if present is None else present.shape[1]):
            made = entry.classes.add()
            if classes is not None:
                made.label = classes[row, column].decode("utf-8", "replace")
            if scores is not None:
                made.score = float(scores[row, column])


def _check(array: Array, alias: str, dtype: str, examples: int) -> None:
    if array.ndim != 2:
        raise invalid(f"Expected Tensor shape: [batch_size num_classes] but got {shape_text(array)}")
    if type_name(array) != dtype:
        raise invalid(f"Expected {alias} Tensor of {dtype}. Got: {type_name(array)}")
    if array.shape[0] != examples:
        raise invalid(f"Expected {alias} output batch size of {examples}. Got: {array.shape[0]}")
