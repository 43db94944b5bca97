"""TensorProto to ndarray and back, by TensorFlow's rules and nothing slower than they need.

Reading: `tensor_content` wins over typed values; fewer values than the shape needs repeat the last one, none are zeros,
surplus ones are dropped; content of the wrong size is an error. Writing: typed fields (`float_val`, …), as the official
server does; packed fields of fixed width go in as one block of bytes, because a list of a million floats costs 50 ms.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2

Array = npt.NDArray[Any]

_STRING = types_pb2.DT_STRING
_FIELDS: dict[int, str] = {
    types_pb2.DT_FLOAT: "float_val",
    types_pb2.DT_DOUBLE: "double_val",
    types_pb2.DT_INT32: "int_val",
    types_pb2.DT_INT16: "int_val",
    types_pb2.DT_INT8: "int_val",
    types_pb2.DT_UINT8: "int_val",
    types_pb2.DT_UINT16: "int_val",
    types_pb2.DT_INT64: "int64_val",
    types_pb2.DT_UINT32: "uint32_val",
    types_pb2.DT_UINT64: "uint64_val",
    types_pb2.DT_BOOL: "bool_val",
    types_pb2.DT_STRING: "string_val",
    types_pb2.DT_HALF: "half_val",
    types_pb2.DT_BFLOAT16: "half_val",
    types_pb2.DT_COMPLEX64: "scomplex_val",
    types_pb2.DT_COMPLEX128: "dcomplex_val",
}
_FIXED_WIDTH: dict[int, bytes] = {types_pb2.DT_FLOAT: b"\x2a", types_pb2.DT_DOUBLE: b"\x32"}
"""Wire tags of the packed fields whose bytes are the array's own (little-endian)."""
_BITS16 = frozenset({types_pb2.DT_HALF, types_pb2.DT_BFLOAT16})
_COMPLEX = {types_pb2.DT_COMPLEX64: np.float32, types_pb2.DT_COMPLEX128: np.float64}
_WIDE: dict[str, Any] = {"int_val": np.int32}
_NUMPY: dict[int, Any] = {number: tf.dtypes.as_dtype(number).as_numpy_dtype for number in _FIELDS}
_NUMBERS: dict[Any, int] = {np.dtype(kind): number for number, kind in _NUMPY.items()}


class TensorError(ValueError):
    """A TensorProto that describes no tensor."""


def decode(proto: Any) -> Array:
    """The array that a TensorProto describes.

    Raises:
        TensorError: the type is unknown, the shape impossible, or the content has another size than the shape.
    """
    dtype = proto.dtype
    if dtype not in _FIELDS:
        raise TensorError(f"dtype {dtype} is not supported")
    shape = _shape(proto)
    size = prod(shape)
    content = proto.tensor_content
    if content:
        return _from_content(content, dtype, shape, size)
    if dtype == _STRING:
        return _strings(list(proto.string_val), shape, size)
    values = getattr(proto, _FIELDS[dtype])
    if dtype in _BITS16:
        flat = np.fromiter(values, np.uint16, len(values)).view(_NUMPY[dtype])
    elif dtype in _COMPLEX:
        flat = np.array(values, _COMPLEX[dtype]).view(_NUMPY[dtype])
    else:
        flat = np.array(values, _WIDE.get(_FIELDS[dtype], _NUMPY[dtype])).astype(_NUMPY[dtype], copy=False)
    return _fill(flat, size).reshape(shape)


def _shape(proto: Any) -> tuple[int, ...]:
    shape = proto.tensor_shape
    sizes = tuple([dim.size for dim in shape.dim])
    if shape.unknown_rank or any(size < 0 for size in sizes):
        raise TensorError("the shape is not fully defined")
    return sizes


def _strings(values: list[bytes], shape: tuple[int, ...], size: int) -> Array:
    if len(values) != size:
        last = values[-1] if values else b""
        values = (values + [last] * (size - len(values)))[:size]
    flat = np.empty(size, dtype=object)
    flat[:] = values
    return flat.reshape(shape)


def _fill(flat: Array, size: int) -> Array:
    if flat.size == size:
        return flat
    if flat.size > size:
        return flat[:size]
    filled = np.zeros(size, flat.dtype)
    if flat.size:
        filled[: flat.size] = flat
        filled[flat.size :] = flat[-1]
    return filled


def _from_content(content: bytes, dtype: int, shape: tuple[int, ...], size: int) -> Array:
    if dtype == _STRING:
        return _strings(_varint_strings(content, size), shape, size)
    kind = np.dtype(_NUMPY[dtype])
    if len(content) != size * kind.itemsize:
        raise TensorError(f"{len(content)} bytes of content for {size} values of {kind.itemsize} bytes")
    return np.frombuffer(content, kind).reshape(shape)


def _varint_strings(content: bytes, size: int) -> list[bytes]:
    """TensorFlow's encoding of strings in `tensor_content`: all lengths as varints, then all bytes."""
    lengths: list[int] = []
    at = 0
    while len(lengths) < size:
        value = shift = 0
        while True:
            if at >= len(content) or shift > 63:
                raise TensorError("the lengths of the strings do not end")
            byte = content[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        lengths.append(value)
    if at + sum(lengths) != len(content):
        raise TensorError("the strings do not fill the content")
    strings = []
    for length in lengths:
        strings.append(content[at : at + length])
        at += length
    return strings


def encode_into(proto: Any, array: Array, *, as_content: bool = False) -> None:
    """Write an array into an empty TensorProto: typed fields, or `tensor_content` where asked and possible."""
    number = _NUMBERS.get(array.dtype) or tf.dtypes.as_dtype(array.dtype).as_datatype_enum
    shape = proto.tensor_shape
    for size in array.shape:
        shape.dim.add().size = size
    if not array.shape:
        shape.SetInParent()
    if as_content and number != _STRING:
        proto.dtype = number
        proto.tensor_content = array.tobytes()
        return
    tag = _FIXED_WIDTH.get(number)
    if tag is not None:
        raw = array.tobytes()
        proto.MergeFromString(tag + _varint(len(raw)) + raw)
    elif number == _STRING:
        proto.string_val.extend(_as_bytes(array))
    elif number in _BITS16:
        proto.half_val.extend(array.ravel().view(np.uint16).tolist())
    elif number in _COMPLEX:
        getattr(proto, _FIELDS[number]).extend(array.ravel().view(_COMPLEX[number]).tolist())
    else:
        getattr(proto, _FIELDS[number]).extend(array.ravel().tolist())
    proto.dtype = number


def encode(array: Array, *, as_content: bool = False) -> Any:
    """A new TensorProto of the array."""
    proto = tensor_pb2.TensorProto()
    encode_into(proto, array, as_content=as_content)
    return proto


def numpy_type(dtype: int) -> Any:
    """The NumPy type of a DataType number."""
    return _NUMPY[dtype]


def type_name(array: Array) -> str:
    """The type of a fetched array as TensorFlow's enum names it: DT_FLOAT."""
    number = _STRING if array.dtype == object else tf.dtypes.as_dtype(array.dtype).as_datatype_enum
    return str(types_pb2.DataType.Name(number))


def _as_bytes(array: Array) -> list[bytes]:
    return [value if isinstance(value, bytes) else str(value).encode() for value in array.ravel().tolist()]


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
