"""The tensors that the follower sends and reads: strings, 64-bit integers and floats, without numpy."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import TypeVar

from feedback.errors import CorruptError
from feedback.features import Feature
from serving.protocol import serving_pb2 as wire

T = TypeVar("T", int, float)


def strings(values: Sequence[bytes]) -> wire.TensorProto:
    """A string[n] tensor."""
    tensor = wire.TensorProto(dtype=wire.DT_STRING, string_val=list(values))
    tensor.tensor_shape.dim.add(size=len(values))
    return tensor


def integers(tensor: wire.TensorProto) -> list[int]:
    """The values of an int64 tensor, however it was written.

    Raises:
        CorruptError: it is no int64 tensor.
    """
    if tensor.dtype != wire.DT_INT64:
        raise CorruptError(f"the model server answered a tensor of type {tensor.dtype}, int64 was expected")
    if tensor.tensor_content:
        return array("q", tensor.tensor_content).tolist()
    return _spread(list(tensor.int64_val), tensor)


def floats(tensor: wire.TensorProto) -> list[float]:
    """The values of a float tensor, row by row, however it was written.

    Raises:
        CorruptError: it is no float tensor.
    """
    if tensor.dtype != wire.DT_FLOAT:
        raise CorruptError(f"the model server answered a tensor of type {tensor.dtype}, float was expected")
    if tensor.tensor_content:
        return array("f", tensor.tensor_content).tolist()
    return _spread(list(tensor.float_val), tensor)


def _spread(values: list[T], tensor: wire.TensorProto) -> list[T]:
    """A typed field may end early: the last value then stands for all that follow."""
    size = 1
    for dim in tensor.tensor_shape.dim:
        size *= dim.size
    return values + values[-1:] * (size - len(values))


def column(feature: Feature, rows: int) -> wire.TensorProto:
    """A probe's values for one feature: the default in the first row, then others, the same in every probe."""
    tensor = wire.TensorProto()
    tensor.tensor_shape.dim.add(size=rows)
    fallback = feature.fallback
    if feature.kind == "number":
        tensor.dtype = wire.DT_FLOAT
        start = float(fallback) if isinstance(fallback, (int, float)) else 0.0
        tensor.float_val.extend([start, *(float(row % 7) / 3 for row in range(1, rows))])
        return tensor
    tensor.dtype = wire.DT_STRING
    texts = [f"probe-{feature.name}-{row}".encode() for row in range(1, rows)]
    if feature.kind == "string":
        tensor.string_val.extend([str(fallback).encode(), *texts])
        return tensor
    first = [value.encode() for value in fallback] if isinstance(fallback, list) else []
    width = max(2, len(first))
    tensor.tensor_shape.dim.add(size=width)
    for values in (first, *([text] for text in texts)):
        tensor.string_val.extend(values + [b""] * (width - len(values)))
    return tensor
