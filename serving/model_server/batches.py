"""The arithmetic of batching: what may go into one run, how it is put together and taken apart. Pure.

Rows of several requests become one array; where only some sizes are allowed the batch is filled up by repeating its first
row, so that a graph that counts or writes sees a row it has seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from serving.model_server.faults import invalid, precondition
from serving.model_server.tensors import Array


@dataclass(frozen=True, kw_only=True)
class BatchSettings:
    """The BatchingParameters that are in force."""

    max_batch_size: int = 1000
    """Rows in one run."""
    batch_timeout_s: float = 0.0
    """Seconds that a batch waits for more rows; 0 = until a thread is free."""
    max_enqueued_batches: int = 10
    """Batches that wait, per signature; beyond it requests are refused."""
    batch_threads: int = 2
    """Runs at one time."""
    allowed_batch_sizes: tuple[int, ...] = ()
    """Sizes that a run may have, rising; empty = any."""
    pad_variable_length_inputs: bool = False
    """Fill inputs of several requests up to one shape."""
    split_large_batches: bool = False
    """Spread a request with more rows than a run may have over several runs."""
    max_execution_batch_size: int = 0
    """Rows in one run where large requests are split; 0 = `max_batch_size`."""

    @property
    def run_size(self) -> int:
        """Rows in one run, at most."""
        return (self.max_execution_batch_size if self.split_large_batches else 0) or self.max_batch_size


def from_proto(proto: Any, *, threads: int) -> BatchSettings:
    """Settings from a BatchingParameters message.

    Raises:
        ServingError: they contradict each other.
    """
    default = BatchSettings()

    def value(name: str, otherwise: int) -> int:
        return int(getattr(proto, name).value) if proto.HasField(name) else otherwise

    settings = BatchSettings(
        max_batch_size=value("max_batch_size", default.max_batch_size),
        batch_timeout_s=value("batch_timeout_micros", 0) / 1e6,
        max_enqueued_batches=value("max_enqueued_batches", default.max_enqueued_batches),
        batch_threads=value("num_batch_threads", threads),
        allowed_batch_sizes=tuple(proto.allowed_batch_sizes),
        pad_variable_length_inputs=proto.pad_variable_length_inputs,
        split_large_batches=bool(proto.enable_large_batch_splitting.value),
        max_execution_batch_size=value("max_execution_batch_size", 0),
    )
    check(settings)
    return settings


def check(settings: BatchSettings) -> None:
    """Refuse settings that contradict each other."""
    sizes = settings.allowed_batch_sizes
    for name in ("max_batch_size", "max_enqueued_batches", "batch_threads"):
        if getattr(settings, name) < 1:
            raise invalid(f"{name} must be positive; was {getattr(settings, name)}")
    if not sizes:
        return
    if any(left >= right for left, right in pairwise(sizes)):
        raise invalid("allowed_batch_sizes entries must be monotonically increasing")
    if sizes[-1] != settings.run_size:
        raise invalid(
            "Last entry in allowed_batch_sizes must match max_batch_size; last entry was "
            f"{sizes[-1]}; expected {settings.run_size}"
        )


def batch_size(arrays: Sequence[Array]) -> int:
    """The rows of a request.

    Raises:
        ServingError: it has no inputs, or they have no common number of rows.
    """
    if not arrays:
        raise invalid("Batching Run() must have at least one input tensor")
    if any(not array.shape for array in arrays):
        raise invalid("Batching Run() input tensors must have at least one dimension")
    if len({array.shape[0] for array in arrays}) > 1:
        raise invalid("Batching Run() input tensors must have equal 0th-dimension size")
    return int(arrays[0].shape[0])


def rounded(size: int, allowed: Sequence[int]) -> int:
    """The smallest allowed size that holds `size` rows."""
    return next((entry for entry in allowed if entry >= size), size)


def merge(names: Sequence[str], tasks: Sequence[Sequence[Array]], *, rows: int, pad: bool) -> list[Array]:
    """The inputs of several requests as those of one run of `rows` rows.

    Raises:
        ServingError: their shapes do not fit and may not be filled up.
    """
    return [_merge(name, [arrays[index] for arrays in tasks], rows, pad) for index, name in enumerate(names)]


def _merge(name: str, parts: list[Array], rows: int, pad: bool) -> Array:
    tails = {part.shape[1:] for part in parts}
    if len(tails) > 1:
        parts = _padded(name, parts, pad)
    missing = rows - sum(part.shape[0] for part in parts)
    if missing > 0:
        parts = [*parts, np.repeat(parts[0][:1], missing, axis=0)]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _padded(name: str, parts: list[Array], pad: bool) -> list[Array]:
    if not pad:
        raise precondition(
            f"Tensors with name '{name}' from different tasks have different shapes and padding is turned off."
            "Set pad_variable_length_inputs to true, or ensure that all tensors with the same name have equal dimensions "
            "starting with the first dim."
        )
    if len({part.ndim for part in parts}) > 1:
        raise precondition(f"Tensors with name '{name}' from different tasks have different ranks")
    tail = tuple(max(sizes) for sizes in zip(*(part.shape[1:] for part in parts), strict=True))
    return [_grown(part, tail) for part in parts]


def _grown(part: Array, tail: tuple[int, ...]) -> Array:
    grown: Array = np.full((part.shape[0], *tail), b"" if part.dtype == object else 0, dtype=part.dtype)
    grown[tuple(slice(size) for size in part.shape)] = part
    return grown


def split(outputs: Sequence[Array], sizes: Sequence[int], *, rows: int) -> list[list[Array]]:
    """The outputs of a run of `rows` rows, one list per request.

    Raises:
        ServingError: an output has no row per row of input.
    """
    for output in outputs:
        if not output.shape:
            raise precondition("Batched output tensor has 0 dimensions")
        if output.shape[0] != rows:
            raise precondition(
                "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes of the input "
                "tensors"
            )
    ends = list(accumulate(sizes))
    return [[output[end - size : end] for output in outputs] for size, end in zip(sizes, ends, strict=True)]
