"""A classify or regress request in JSON to an Input of Examples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from serving.model_server.faults import invalid
from serving.model_server.jsontensor import decode_base64, is_base64
from serving.model_server.render import render, type_name

_KINDS = {"bytes_list": "bytes", "float_list": "float", "int64_list": "int64"}


def fill_input(document: Mapping[str, Any], request_input: Any) -> None:
    """Write the examples of a request, and its context if it has one, into an Input.

    Raises:
        ServingError: an example or a feature is not what it must be.
    """
    into = request_input.example_list
    if "context" in document:
        into = request_input.example_list_with_context
        _fill_example(document["context"], into.context)
    if "examples" not in document:
        raise invalid(
            f"JSON Value: {render(document)} When method is classify, key 'examples' is expected and was not found"
        )
    examples = document["examples"]
    if not isinstance(examples, list):
        raise invalid(f"JSON Value: {render(document)} Expecting 'examples' value to be an list/array")
    if not examples:
        raise invalid(f"JSON Value: {render(document)} 'examples' value is an empty array")
    for example in examples:
        _fill_example(example, into.examples.add())


def _fill_example(value: Any, example: Any) -> None:
    if not isinstance(value, dict):
        raise invalid(f"Example must be JSON object but got JSON {type_name(value)}")
    for name, content in value.items():
        feature = example.features.feature[name]
        for element in content if isinstance(content, list) else [content]:
            _add(element, name, feature)


def _add(value: Any, name: str, feature: Any) -> None:
    kind, converted = _convert(value, name)
    present = feature.WhichOneof("kind")
    if present is not None and present != kind:
        raise invalid(f"Unexpected element type in feature: {name} expecting type: {_KINDS[present]}")
    getattr(feature, kind).value.append(converted)


def _convert(value: Any, name: str) -> tuple[str, Any]:
    """The list a JSON value belongs in, and the value as it goes in."""
    if isinstance(value, bool):
        return "int64_list", int(value)
    if isinstance(value, str):
        return "bytes_list", value.encode("utf-8", "surrogateescape")
    if is_base64(value):
        return "bytes_list", decode_base64(value)
    if value is None or isinstance(value, (list, dict)):
        raise invalid(f"Feature: {name} has element with unexpected JSON type: {type_name(value)}")
    if isinstance(value, int) and -(2**63) <= value < 2**64:
        if value >= 2**63:
            raise invalid(f"Feature: {name} has uint64_t element. Only int64_t is supported.")
        return "int64_list", value
    return "float_list", float(value)
