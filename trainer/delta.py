"""The bytes of a delta and of a probe, as the learner writes them. `sync` has the graph that reads them.

A delta is a row of 32-bit little-endian words, decoded in one go (64-bit numbers are two words, low first):

    magic · epoch (2) · previous (2) · dense length · per table: removed, rows, admitted
    per table: removed keys (2 each) · row slots · rows · admitted keys (2 each) · admitted slots
    dense weights

The order inside is the order in which they are applied: keys out, rows, keys in, then the dense weights, and last the
sequence, which is `previous` + 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

DELTA_MAGIC = 0x314C4445
"""`EDL1`."""
PROBE_MAGIC = 0x31425045
"""`EPB1`."""


@dataclass(frozen=True)
class Part:
    """What changed in one table."""

    removed: Array
    """int64: keys that lost their slot."""
    slots: Array
    """int32[m]: rows that changed."""
    rows: Array
    """float32[m, served]: what they are now."""
    keys: Array
    """int64: keys that got a slot."""
    at: Array
    """int32: those slots."""


def encode(*, epoch: int, previous: int, parts: Sequence[Part], dense: Array) -> bytes:
    """A delta that follows on sequence `previous`."""
    counts = np.array([[len(p.removed), len(p.slots), len(p.keys)] for p in parts], np.int32)
    pieces: list[Array] = [
        np.array([DELTA_MAGIC], np.int32),
        np.array([epoch, previous], np.int64),
        np.array([len(dense)], np.int32),
        counts,
    ]
    for part in parts:
        pieces += [part.removed, part.slots, part.rows, part.keys, part.at]
    pieces.append(dense)
    return b"".join(np.ascontiguousarray(piece).tobytes() for piece in pieces)


def content(value: bytes, served: Sequence[int]) -> int:
    """Bytes of what a delta carries: 4 per float of its rows and dense weights and per slot of a row, 8 per key that goes, 12 per key
    that comes with its slot. `served`: floats of a row, per table."""
    dense, *counts = np.frombuffer(value, np.int32, 1 + 3 * len(served), offset=20).tolist()
    tables = zip(counts[0::3], counts[1::3], counts[2::3], served, strict=True)
    return int(4 * dense + sum(8 * out + 4 * rows * (1 + width) + 12 * into for out, rows, into, width in tables))


def probe(tables: Sequence[tuple[Array, Array]]) -> bytes:
    """A probe: per table which rows and which keys to sum up."""
    counts = np.array([[len(rows), len(keys)] for rows, keys in tables], np.int32)
    pieces: list[Array] = [np.array([PROBE_MAGIC], np.int32), counts]
    for rows, keys in tables:
        pieces += [rows, keys]
    return b"".join(np.ascontiguousarray(piece).tobytes() for piece in pieces)


def answer(tables: Sequence[tuple[Array, Array]], dense: Array) -> int:
    """What `checksum` must answer: `tables` holds the rows probed (float32) and the slots that the keys have."""
    total = words_sum(dense.view(np.int32))
    for i, (rows, slots) in enumerate(tables):
        factor = np.int64(2 * i + 3)
        with np.errstate(over="ignore"):
            total = total + factor * (words_sum(rows.view(np.int32).ravel()) + np.int64(31) * words_sum(slots))
    return int(total)


def words_sum(words: Array) -> np.int64:
    """Σ word × odd number of its place, modulo 2^64."""
    with np.errstate(over="ignore"):
        place = 2 * np.arange(len(words), dtype=np.int64) + 1
        return np.int64((words.astype(np.int64) * place).sum())
