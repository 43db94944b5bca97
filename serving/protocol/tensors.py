"""Python values to tensors and back, with as little work per value as protobuf allows.

Strings travel as `string_val`, numbers as `tensor_content` (little-endian bytes, one copy); what a server answers may be
either form, or a `*_val` shortened to its last repeated value, which `floats_of` and `integers_of` undo.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import chain
from math import prod

from feedback.errors import CorruptError
from serving.protocol.serving_pb2 import (
    DT_DOUBLE,
    DT_FLOAT,
    DT_INT32,
    DT_INT64,
    DT_STRING,
    DataType,
    TensorProto,
    TensorShapeProto,
)

_TYPES = {DT_FLOAT: "f", DT_DOUBLE: "d", DT_INT32: "i", DT_INT64: "q"}
_SWAP = sys.byteorder == "big"


def strings(values: Sequence[str]) -> TensorProto:
    """A tensor string[n]."""
    return octets(list(map(str.encode, values)))


def octets(values: Sequence[bytes]) -> TensorProto:
    """A tensor string[n] of bytes."""
    return TensorProto(dtype=DT_STRING, tensor_shape=_shape(len(values)), string_val=values)


def string_lists(rows: Sequence[Sequence[str]]) -> TensorProto:
    """A tensor string[n, k], k the longest row's length (at least 1), shorter rows padded with ""."""
    width = max(1, max(map(len, rows), default=0))
    padding = [b""] * width
    padded = ([value.encode() for value in row] + padding[len(row) :] for row in rows)
    flat = list(chain.from_iterable(padded))
    return TensorProto(dtype=DT_STRING, tensor_shape=_shape(len(rows), width), string_val=flat)


def floats(values: Iterable[float]) -> TensorProto:
    """A tensor float32[n]."""
    return _numbers(DT_FLOAT, array("f", values))


def integers(values: Iterable[int]) -> TensorProto:
    """A tensor int64[n]."""
    return _numbers(DT_INT64, array("q", values))


def floats_of(tensor: TensorProto) -> list[float]:
    """The tensor's numbers, flat, as Python floats.

    Raises:
        CorruptError: it is not of a floating type, or holds more or fewer values than its shape says.
    """
    if tensor.dtype not in (DT_FLOAT, DT_DOUBLE):
        raise CorruptError(f"tensor of type {tensor.dtype}: a floating type is expected")
    found: list[float] = _content(tensor) if tensor.tensor_content else list(tensor.float_val or tensor.double_val)
    return _filled(found, tensor)


def integers_of(tensor: TensorProto) -> list[int]:
    """The tensor's whole numbers, flat. Raises CorruptError as `floats_of` does."""
    if tensor.dtype not in (DT_INT32, DT_INT64):
        raise CorruptError(f"tensor of type {tensor.dtype}: int32 or int64 is expected")
    found: list[float] = _content(tensor) if tensor.tensor_content else [*(tensor.int64_val or tensor.int_val)]
    return [int(value) for value in _filled(found, tensor)]


def octets_of(tensor: TensorProto) -> list[bytes]:
    """The tensor's byte strings, flat. Raises CorruptError as `floats_of` does."""
    if tensor.dtype != DT_STRING:
        raise CorruptError(f"tensor of type {tensor.dtype}: string is expected")
    size = size_of(tensor)
    values = list(tensor.string_val)
    if len(values) < size:
        values += [values[-1] if values else b""] * (size - len(values))
    return values


def size_of(tensor: TensorProto) -> int:
    """How many values its shape says the tensor has."""
    return prod(dim.size for dim in tensor.tensor_shape.dim)


def _numbers(dtype: DataType, values: array[float] | array[int]) -> TensorProto:
    if _SWAP:  # pragma: no cover - no big-endian machine runs TensorFlow Serving
        values.byteswap()
    return TensorProto(dtype=dtype, tensor_shape=_shape(len(values)), tensor_content=values.tobytes())


def _content(tensor: TensorProto) -> list[float]:
    values: array[float] = array(_TYPES[tensor.dtype])
    try:
        values.frombytes(tensor.tensor_content)
    except ValueError as error:
        raise CorruptError(f"tensor content of {len(tensor.tensor_content)} bytes: {error}") from error
    if _SWAP:  # pragma: no cover
        values.byteswap()
    return values.tolist()


def _filled(values: list[float], tensor: TensorProto) -> list[float]:
    size = size_of(tensor)
    missing = size - len(values)
    if missing > 0 and not tensor.tensor_content:
        return values + [values[-1] if values else 0] * missing
    if missing:
        raise CorruptError(f"tensor of {len(values)} values: its shape says {size}")
    return values


@lru_cache(256)
def _shape(*sizes: int) -> TensorShapeProto:
    return TensorShapeProto(dim=[TensorShapeProto.Dim(size=size) for size in sizes])
