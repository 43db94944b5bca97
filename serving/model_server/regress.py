"""Regress: examples in, one number per example out."""

from __future__ import annotations

from typing import Any

from tensorflow_serving.apis import regression_pb2

from serving.model_server.bundle import Bundle, Runner, Signature
from serving.model_server.classify import INPUTS, named_signature
from serving.model_server.examples import serialized_examples, shape_text
from serving.model_server.faults import invalid, precondition
from serving.model_server.predict import fill_spec
from serving.model_server.tensors import Array, type_name

METHOD = "tensorflow/serving/regress"
OUTPUTS = "outputs"


def regress(
    bundle: Bundle, request: Any, *, version: int, runner: Runner | None = None, check_method: bool = False
) -> Any:
    """Answer a RegressionRequest.

    Raises:
        ServingError: the signature or the examples do not fit, or an operation failed.
    """
    signature = named_signature(bundle, request.model_spec.signature_name)
    if check_method and signature.definition.method_name != METHOD:
        raise invalid(
            f"Expected regression signature method_name to be {METHOD}. Was: {signature.definition.method_name}"
        )
    feed, fetch = prepare(signature)
    examples = serialized_examples(request.input)
    outputs = (runner or bundle).run((feed,), [examples], (fetch,))
    response = regression_pb2.RegressionResponse()
    fill_spec(response.model_spec, name=request.model_spec.name, signature=signature.name, version=version)
    fill_result(outputs[0], len(examples), response.result)
    return response


def prepare(signature: Signature) -> tuple[str, str]:
    """What to feed and what to fetch."""
    if len(signature.inputs) != 1:
        raise invalid("Expected one input Tensor.")
    if len(signature.outputs) != 1:
        raise invalid("Expected one output Tensor.")
    if INPUTS not in signature.inputs:
        raise precondition(f"No regression inputs found in SignatureDef: {signature.definition}")
    if OUTPUTS not in signature.outputs:
        raise precondition(f"No regression outputs found in SignatureDef: {signature.definition}")
    return signature.inputs[INPUTS], signature.outputs[OUTPUTS]


def fill_result(output: Array, examples: int, result: Any) -> None:
    """Turn the fetched tensor into regressions, one per example."""
    if not (output.ndim == 1 or (output.ndim == 2 and output.shape[1] == 1)):
        raise invalid(
            f"Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got {shape_text(output)}"
        )
    if output.shape[0] != examples:
        raise invalid(f"Input batch size did not match output batch size: {examples} vs. {output.shape[0]}")
    if type_name(output) != "DT_FLOAT":
        raise invalid(f"Expected output Tensor of DT_FLOAT.  Got: {type_name(output)}")
    for value in output.ravel().tolist():
        result.regressions.add(value=value)
