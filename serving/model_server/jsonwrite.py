"""Answers in JSON: predictions, classifications, regressions, status, metadata, errors.

Written by hand where numbers are concerned: floats keep the digits that their own width needs, and NaN and Infinity are
bare words, as the official server writes them.
"""

from __future__ import annotations

import base64
import json
import math
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from google.protobuf import json_format

from serving.model_server.bundle import Bundle
from serving.model_server.faults import invalid
from serving.model_server.jsontensor import Format
from serving.model_server.metadata import signature_map
from serving.model_server.render import decimal
from serving.model_server.tensors import Array, type_name

_F32 = struct.Struct("f")
_BYTES_SUFFIX = "_bytes"
"""A string output whose name ends so is written as base64."""


def predictions(outputs: Mapping[str, Array], layout: Format) -> bytes:
    """The answer to a predict request.

    Raises:
        ServingError: the outputs cannot be laid out that way.
    """
    if not outputs:
        raise invalid("Cannot convert empty tensor map to JSON")
    return _rows(outputs) if layout is Format.ROW else _columns(outputs)


def _rows(outputs: Mapping[str, Array]) -> bytes:
    batch = -1
    for name, array in outputs.items():
        if not array.shape:
            raise invalid(f"Tensor name: {name} has no shape information ")
        if batch >= 0 and array.shape[0] != batch:
            raise invalid(f"Tensor name: {name} has inconsistent batch size: {array.shape[0]} expecting: {batch}")
        batch = array.shape[0]
    columns = {name: [_value(row) for row in _texts(name, array)] for name, array in outputs.items()}
    if len(columns) == 1:
        rows = next(iter(columns.values()))
    else:
        keys = [_quote(name) for name in columns]
        rows = [
            "{" + ", ".join(f"{key}: {text}" for key, text in zip(keys, texts, strict=True)) + "}"
            for texts in zip(*columns.values(), strict=True)
        ]
    return _encode('{\n    "predictions": [' + ",\n        ".join(rows) + "]\n}")


def _columns(outputs: Mapping[str, Array]) -> bytes:
    texts = {name: _value(_texts(name, array)) for name, array in outputs.items()}
    if len(texts) == 1:
        return _encode('{\n    "outputs": ' + next(iter(texts.values())) + "\n}")
    body = ",\n        ".join(f"{_quote(name)}: {text}" for name, text in texts.items())
    return _encode('{\n    "outputs": {\n        ' + body + "\n    }\n}")


def _texts(name: str, array: Array) -> Any:
    """The array as nested lists of JSON texts; a bare text for a scalar."""
    flat: list[str]
    if array.dtype == object:
        as_bytes = name.endswith(_BYTES_SUFFIX)
        flat = [_bytes(value) if as_bytes else _string(value) for value in array.ravel().tolist()]
    elif array.dtype.kind == "b":
        flat = ["true" if value else "false" for value in array.ravel().tolist()]
    elif array.dtype in (np.float32, np.float64):
        flat = _floats(array)
    elif array.dtype.kind in "iu":
        flat = [str(value) for value in array.ravel().tolist()]
    else:
        kind = type_name(array).removeprefix("DT_").lower()
        raise invalid(f"Failed to write JSON value for tensor type: {kind}")
    if not array.shape:
        return flat[0]
    texts = np.empty(array.size, dtype=object)
    texts[:] = flat
    return texts.reshape(array.shape).tolist()


def _floats(array: Array) -> list[str]:
    if array.dtype == np.float64:
        return [decimal(value) for value in array.ravel().tolist()]
    return [single(value) for value in array.ravel().tolist()]


def single(value: float) -> str:
    """A 32-bit float's text: six digits if they give it back in 32 bits, else nine."""
    if not math.isfinite(value):
        return decimal(value)
    text = f"{value:.6g}"
    if _F32.unpack(_F32.pack(float(text)))[0] != value:
        text = f"{value:.9g}"
    return text if "." in text or "e" in text else text + ".0"


def _value(texts: Any) -> str:
    return texts if isinstance(texts, str) else "[" + ", ".join(_value(text) for text in texts) + "]"


def _bytes(value: bytes) -> str:
    return '{"b64": "' + base64.b64encode(value).decode() + '"}'


def _string(value: bytes | str) -> str:
    return _quote(value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value)


def _quote(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def classifications(result: Any) -> bytes:
    """The answer to a classify request."""
    if not result.classifications:
        raise invalid("Cannot convert empty ClassificationResults to JSON")
    rows = [
        "[" + ", ".join(f"[{_quote(made.label)}, {single(made.score)}]" for made in entry.classes) + "]"
        for entry in result.classifications
    ]
    return _results(rows)


def regressions(result: Any) -> bytes:
    """The answer to a regress request."""
    if not result.regressions:
        raise invalid("Cannot convert empty RegressionResults to JSON")
    return _results([single(entry.value) for entry in result.regressions])


def _results(rows: Sequence[str]) -> bytes:
    return _encode('{\n    "results": [' + ", ".join(rows) + "]\n}")


def message(proto: Any, *, proto_names: bool = False) -> Any:
    """A protocol message as JSON values, zeros included."""
    return json_format.MessageToDict(
        proto, preserving_proto_field_name=proto_names, always_print_fields_with_no_presence=True
    )


def status(response: Any) -> bytes:
    """The answer to a status request."""
    return _encode(json.dumps(message(response), indent=1) + "\n")


def metadata(bundle: Bundle, *, model: str, version: int) -> bytes:
    """The answer to a metadata request."""
    signatures = message(signature_map(bundle), proto_names=True)
    spec = {"name": model, "signature_name": "", "version": str(version)}
    return _encode(json.dumps({"model_spec": spec, "metadata": {"signature_def": signatures}}, indent=1) + "\n")


def error(text: str) -> bytes:
    """Any refusal."""
    return _encode(json.dumps({"error": text}, ensure_ascii=False))
