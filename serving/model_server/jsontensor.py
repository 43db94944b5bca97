"""A predict request in JSON to arrays, with the official server's refusals."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from tensorflow.core.framework import types_pb2

from serving.model_server.faults import Code, ServingError, invalid
from serving.model_server.render import render, type_name
from serving.model_server.tensors import Array, numpy_type


class Format(Enum):
    """How a request is laid out, and so its answer."""

    ROW = "instances"
    COLUMNAR = "inputs"


@dataclass(frozen=True)
class Leaves:
    """The values of one tensor and its shape."""

    values: list[Any]
    shape: tuple[int, ...]


_NAMES: dict[int, str] = {
    types_pb2.DT_FLOAT: "float",
    types_pb2.DT_DOUBLE: "double",
    types_pb2.DT_INT32: "int32",
    types_pb2.DT_INT16: "int16",
    types_pb2.DT_INT8: "int8",
    types_pb2.DT_UINT8: "uint8",
    types_pb2.DT_STRING: "string",
    types_pb2.DT_INT64: "int64",
    types_pb2.DT_BOOL: "bool",
    types_pb2.DT_UINT32: "uint32",
    types_pb2.DT_UINT64: "uint64",
}
"""The types that JSON can carry, as error texts name them."""
_OTHER_NAMES: dict[int, str] = {types_pb2.DT_HALF: "half", types_pb2.DT_BFLOAT16: "bfloat16"}


def _integer(low: int, high: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and low <= value < high


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


_INT32 = _integer(-(2**31), 2**31)
_FITS: dict[int, Callable[[Any], bool]] = {
    types_pb2.DT_FLOAT: _number,
    types_pb2.DT_DOUBLE: _number,
    types_pb2.DT_INT32: _INT32,
    types_pb2.DT_INT16: _INT32,
    types_pb2.DT_INT8: _INT32,
    types_pb2.DT_UINT8: _INT32,
    types_pb2.DT_STRING: lambda value: isinstance(value, str),
    types_pb2.DT_INT64: _integer(-(2**63), 2**63),
    types_pb2.DT_BOOL: lambda value: isinstance(value, bool),
    types_pb2.DT_UINT32: _integer(0, 2**32),
    types_pb2.DT_UINT64: _integer(0, 2**64),
}


def signature_name(document: Mapping[str, Any]) -> str:
    """The signature that a request asks for; empty for the default one."""
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise invalid(
            f"JSON Value: {render(document)} not formatted correctly. 'signature_name' key must be a string value."
        )
    return name


def read_request(
    document: Mapping[str, Any], inputs: Mapping[str, int], signature: str
) -> tuple[dict[str, Array], Format]:
    """The arrays of a predict request by input alias; `inputs` is alias → dtype of the signature.

    Raises:
        ServingError: the request does not fit the signature.
    """
    if not inputs:
        raise invalid(f"Failed to get input map for signature: {signature or 'DEFAULT'}")
    has_rows, has_columns = "instances" in document, "inputs" in document
    if has_rows and has_columns:
        raise invalid(
            f"JSON Value: {render(document)} Not formatted correctly expecting only one of 'inputs' or 'instances' keys "
            "to exist "
        )
    if has_columns:
        leaves, layout = _columns(document["inputs"], inputs), Format.COLUMNAR
    elif has_rows:
        rows = document["instances"]
        if not isinstance(rows, list):
            raise invalid(f"JSON Value: {render(document)} Expecting 'instances' to be an list/array")
        if not rows:
            raise invalid(f"JSON Value: {render(document)} No values in 'instances' array")
        leaves, layout = _rows(rows, inputs), Format.ROW
    else:
        raise invalid("Missing 'inputs' or 'instances' key")
    return {alias: _array(found, inputs[alias]) for alias, found in leaves.items()}, layout


def is_base64(value: Any) -> bool:
    """Whether a JSON value is the object that stands for bytes."""
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get("b64"), str)


def decode_base64(value: Any) -> bytes:
    """The bytes that such an object stands for; padding may be missing, the alphabet is the standard one.

    Raises:
        ServingError: it is no such object, or no base64.
    """
    if not is_base64(value):
        raise invalid(f"JSON Value: {render(value)} not formatted correctly for base64 data")
    text = re.sub(r"[ \t\r\n\v\f]", "", value["b64"]).rstrip("=.")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise invalid("Unable to base64 decode") from error


def _columns(value: Any, inputs: Mapping[str, int]) -> dict[str, Leaves]:
    if not isinstance(value, dict) or is_base64(value):
        if len(inputs) > 1:
            raise invalid(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
                "tensorinfo_map"
            )
        alias, dtype = next(iter(inputs.items()))
        return {alias: read_leaves(value, dtype)}
    leaves = {}
    for alias, dtype in inputs.items():
        if alias not in value:
            raise invalid(f"Missing named input: {alias} in 'inputs' object.")
        leaves[alias] = read_leaves(value[alias], dtype)
    return leaves


def _is_object(value: Any) -> bool:
    return isinstance(value, dict) and not is_base64(value)


class _Rows:
    """Rows of one shape per input, gathered."""

    def __init__(self, inputs: Mapping[str, int]) -> None:
        self._inputs = inputs
        self.values: dict[str, list[Any]] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}

    def add(self, alias: str, value: Any) -> None:
        if alias not in self._inputs:
            raise invalid(f"JSON object: does not have named input: {alias}")
        row = read_leaves(value, self._inputs[alias])
        shape = self.shapes.setdefault(alias, row.shape)
        size = _size(shape)
        if len(row.values) != size:
            raise invalid(f"Expecting tensor size: {size} but got: {len(row.values)}")
        if row.shape != shape:
            raise invalid(f"Expecting shape {_text(shape)} but got: {_text(row.shape)}")
        self.values.setdefault(alias, []).extend(row.values)


def _rows(rows: list[Any], inputs: Mapping[str, int]) -> dict[str, Leaves]:
    if not isinstance(rows[0], dict) and len(inputs) > 1:
        raise invalid(
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
            "tensorinfo_map"
        )
    gathered = _Rows(inputs)
    read = _named_row if _is_object(rows[0]) else _plain_row
    for index, row in enumerate(rows):
        read(gathered, index, row, inputs)
    return {alias: Leaves(values, (len(rows), *gathered.shapes[alias])) for alias, values in gathered.values.items()}


def _named_row(gathered: _Rows, index: int, row: Any, inputs: Mapping[str, int]) -> None:
    if not _is_object(row):
        raise invalid(f"Expecting object but got list at item {index} of input list")
    for alias, value in row.items():
        try:
            gathered.add(alias, value)
        except ServingError as error:
            raise invalid(
                f"Failed to process element: {index} key: {alias} of 'instances' list. Error: {error.status}"
            ) from error
    if set(row) != set(inputs):
        raise invalid(
            f"Failed to process element: {index} of 'instances' list. JSON object: {render(row)} keys must be equal to: "
            f"{','.join(sorted(inputs))}"
        )


def _plain_row(gathered: _Rows, index: int, row: Any, inputs: Mapping[str, int]) -> None:
    if _is_object(row):
        raise invalid(f"Expecting value/list but got object at item {index} of input list")
    try:
        gathered.add(next(iter(inputs)), row)
    except ServingError as error:
        raise invalid(f"Failed to process element: {index} of 'instances' list. Error: {error.status}") from error


MAX_RANK = 254
"""TensorFlow's limit."""


def read_leaves(value: Any, dtype: int) -> Leaves:
    """The values of a nested list, which must be rectangular and hold nothing that is not of the type.

    Raises:
        ServingError: it is not, or does.
    """
    shape: list[int] = []
    level: Any = value
    while isinstance(level, list):
        shape.append(len(level))
        level = level[0] if level else None
    if len(shape) > MAX_RANK:
        raise invalid(f"Shape must be at most rank {MAX_RANK} but is rank {len(shape)}")
    out: list[Any] = []
    if dtype == types_pb2.DT_STRING or not _fast(value, dtype, shape, out):
        out.clear()
        _fill(value, 0, tuple(shape), dtype, out)
    return Leaves(out, tuple(shape))


def _fast(value: Any, dtype: int, shape: list[int], out: list[Any]) -> bool:
    """One pass over a flat list of plain numbers, the usual case; whether it was one."""
    if len(shape) != 1 or dtype not in (types_pb2.DT_FLOAT, types_pb2.DT_DOUBLE):
        return False
    out.extend(value)
    return set(map(type, value)) <= {int, float}


def _fill(value: Any, level: int, shape: tuple[int, ...], dtype: int, out: list[Any]) -> None:
    if not isinstance(value, list):
        if level != len(shape):
            raise invalid(
                f"JSON Value: {render(value)} found at incorrect level: {level + 1} in the JSON DOM. "
                f"Expected at level: {len(shape)}"
            )
        out.append(_leaf(value, dtype))
        return
    if level >= len(shape):
        raise invalid(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
    if len(value) != shape[level]:
        raise invalid(
            f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: {shape[level]}"
        )
    for inner in value:
        _fill(inner, level + 1, shape, dtype, out)


def _leaf(value: Any, dtype: int) -> Any:
    if isinstance(value, dict):
        if dtype == types_pb2.DT_STRING:
            return decode_base64(value)
        raise _type_error(value, dtype)
    fits = _FITS.get(dtype)
    if fits is None:
        raise ServingError(Code.UNIMPLEMENTED, f"Conversion of JSON Value: {render(value)} to type: {_name(dtype)}")
    if not fits(value):
        raise _type_error(value, dtype)
    return value.encode("utf-8", "surrogateescape") if dtype == types_pb2.DT_STRING else value


def _type_error(value: Any, dtype: int) -> ServingError:
    return invalid(f"JSON Value: {render(value)} Type: {type_name(value)} is not of expected type: {_name(dtype)}")


def _name(dtype: int) -> str:
    known = _NAMES.get(dtype) or _OTHER_NAMES.get(dtype)
    return known or str(types_pb2.DataType.Name(dtype)).removeprefix("DT_").lower()


def _array(leaves: Leaves, dtype: int) -> Array:
    kind = numpy_type(dtype)
    if dtype == types_pb2.DT_STRING:
        flat: Array = np.empty(len(leaves.values), dtype=object)
        flat[:] = leaves.values
    elif dtype in (types_pb2.DT_FLOAT, types_pb2.DT_DOUBLE):
        with np.errstate(over="ignore"):
            flat = np.array([float(value) for value in leaves.values], np.float64).astype(kind)
    else:
        wide = np.uint64 if dtype == types_pb2.DT_UINT64 else np.int64
        flat = np.array(leaves.values, wide).astype(kind)
    return flat.reshape(leaves.shape)


def _size(shape: tuple[int, ...]) -> int:
    size = 1
    for dim in shape:
        size *= dim
    return size


def _text(shape: tuple[int, ...]) -> str:
    return f"[{','.join(map(str, shape))}]"
