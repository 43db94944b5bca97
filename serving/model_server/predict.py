"""Predict: named tensors in, named tensors out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tensorflow_serving.apis import predict_pb2

from serving.model_server.bundle import DEFAULT_SIGNATURE, Bundle, Runner, Signature
from serving.model_server.faults import invalid, precondition
from serving.model_server.tensors import Array, TensorError, decode, encode_into


def predict(
    bundle: Bundle, request: Any, *, version: int, runner: Runner | None = None, as_content: bool = False
) -> Any:
    """Answer a PredictRequest.

    Raises:
        ServingError: the signature, an input or an output filter does not fit, or an operation failed.
    """
    spec = request.model_spec
    signature = find_signature(bundle, spec.signature_name)
    arrays = input_arrays(signature, request.inputs)
    aliases = output_aliases(signature, request.output_filter)
    fetches = tuple([signature.outputs[alias] for alias in aliases])
    outputs = (runner or bundle).run(tuple(signature.inputs.values()), arrays, fetches)
    response = predict_pb2.PredictResponse()
    fill_spec(response.model_spec, name=spec.name, signature=signature.name, version=version)
    for alias, array in zip(aliases, outputs, strict=True):
        encode_into(response.outputs[alias], array, as_content=as_content)
    return response


def run_signature(runner: Runner, signature: Signature, arrays: list[Array]) -> dict[str, Array]:
    """Run a signature whole: arrays in the order of its inputs in, all its outputs by alias out."""
    outputs = runner.run(tuple(signature.inputs.values()), arrays, tuple(signature.outputs.values()))
    return dict(zip(signature.outputs, outputs, strict=True))


def find_signature(bundle: Bundle, name: str) -> Signature:
    """The signature of that name; the default one for no name."""
    name = name or DEFAULT_SIGNATURE
    signature = bundle.signatures.get(name)
    if signature is None:
        raise precondition(f'Serving signature key "{name}" not found.')
    return signature


def input_arrays(signature: Signature, inputs: Any) -> list[Array]:
    """One array per input of the signature, in its order; the signature's defaults fill what was not sent."""
    defaults = signature.definition.defaults
    wanted = signature.inputs
    if len(inputs) > len(wanted) or (len(inputs) < len(wanted) and not defaults):
        raise invalid(_size_mismatch(set(inputs), set(wanted)))
    arrays = []
    for alias, tensor_name in wanted.items():
        if alias in inputs:
            proto = inputs[alias]
        elif alias in defaults:
            proto = defaults[alias]
        else:
            raise invalid(
                f"Signature input alias: {alias}(feed name: {tensor_name}) not found in request and no default value "
                f"provided. Inputs expected to be in the request {{{_joined(inputs)}}}, or default input alias set: "
                f"{_joined(defaults)}"
            )
        try:
            arrays.append(decode(proto))
        except TensorError as error:
            raise invalid(f"tensor parsing error: {alias}") from error
    return arrays


def output_aliases(signature: Signature, output_filter: Iterable[str]) -> tuple[str, ...]:
    """Which outputs to answer: those asked for, in that order, or all of them."""
    seen: dict[str, None] = {}
    for alias in output_filter:
        if alias not in signature.outputs:
            raise invalid(
                f"output tensor alias not found in signature: {alias} Outputs expected to be in the set "
                f"{{{_joined(signature.outputs)}}}."
            )
        if alias in seen:
            raise invalid(f"duplicate output tensor alias: {alias}")
        seen[alias] = None
    return tuple(seen) or tuple(signature.outputs)


def fill_spec(spec: Any, *, name: str, signature: str, version: int) -> None:
    """Say in an answer who answered. A label is never echoed."""
    spec.name = name
    spec.signature_name = signature
    spec.version.value = version


def _size_mismatch(sent: set[str], wanted: set[str]) -> str:
    return (
        f"input size does not match signature: {len(sent)}!={len(wanted)} len({{{_joined(sent)}}}) != "
        f"len({{{_joined(wanted)}}}). Sent extra: {{{_joined(sent - wanted)}}}. "
        f"Missing but required: {{{_joined(wanted - sent)}}}."
    )


def _joined(names: Iterable[str]) -> str:
    return ",".join(sorted(names))
