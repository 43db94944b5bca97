"""Warm-up requests: a TFRecord file of PredictionLog that TensorFlow Serving replays before a version serves.

The three messages around a TensorProto are written by hand, so that the trainer does without tensorflow-serving-api; a test
reads them back with its classes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import crc32c
import numpy as np
import tensorflow as tf

from trainer.batch import Batch
from trainer.fields import Plan

SIZES = (1, 20, 100, 200, 500)
"""Rows per request: what serving sees, so that every size's first run is over before the first reader comes."""


def requests(plan: Plan, batch: Batch) -> Iterator[bytes]:
    """PredictionLog messages that ask `serving_default` for rows of `batch`, repeated as often as a size needs."""
    for size in SIZES:
        rows = np.arange(size) % len(batch)
        inputs = b""
        for feature in plan.features.features:
            values = batch.columns[feature.name][rows]
            tensor = tf.make_tensor_proto(
                values, tf.float32 if feature.kind == "number" else tf.string, shape=values.shape
            )
            inputs += _field(2, _field(1, feature.name.encode()) + _field(2, tensor.SerializeToString()))
        spec = _field(1, plan.settings.name.encode()) + _field(3, b"serving_default")
        yield _field(6, _field(1, _field(1, spec) + inputs))


def record(message: bytes) -> bytes:
    """A message as a TFRecord."""
    length = struct.pack("<Q", len(message))
    return length + _masked(length) + message + _masked(message)


def _masked(data: bytes) -> bytes:
    crc = crc32c.crc32c(data)
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)


def _field(number: int, content: bytes) -> bytes:
    """A length-delimited field of a protocol buffer."""
    return bytes([number << 3 | 2]) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
