"""A batch: examples of some slates as columns, the only form in which the learner takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feedback.events import Sample, Value
from feedback.features import Feature, FeatureSpec

Array = NDArray[Any]


@dataclass(frozen=True)
class Batch:
    """n examples, in order."""

    columns: Mapping[str, Array]
    """Per feature: object[n] of strings (kind `string`), object[n, k] padded with "" (`strings`), float32[n] (`number`)."""
    emissions: Array
    """int8[n]: NEGATIVE, POSITIVE or REVISION of `feedback.events`."""
    weights: Array
    """float32[n]: sample weights."""
    positions: Array
    """int32[n]: position in the slate, 0-based."""
    event_time: int
    """Greatest event time in the batch, µs: drives expiry and the ageing of sightings, never the wall clock."""

    starts: Array | None = None
    """int32: the row at which each slate begins. Features with one value per slate are then read, and hashed, there only."""

    def __len__(self) -> int:
        return len(self.emissions)

    def take(self, rows: slice) -> Batch:
        """Some of the rows, as a batch with the same event time."""
        return Batch(
            columns={name: column[rows] for name, column in self.columns.items()},
            emissions=self.emissions[rows],
            weights=self.weights[rows],
            positions=self.positions[rows],
            event_time=self.event_time,
        )


def batch_of(spec: FeatureSpec, samples: Sequence[Sample]) -> Batch:
    """Put the examples of some samples together, in order.

    Raises:
        EventError: a value has another kind than the specification says, or a column another length than `items`.
    """
    parts = [
        spec.columns(
            user_id=sample.user_id,
            items=sample.items,
            event_time=sample.event_time,
            context=sample.context,
            features=sample.features,
        )
        for sample in samples
    ]
    lengths = np.array([len(sample.emissions) for sample in samples], np.int64)
    columns = {}
    for feature in spec.features:
        values = [part[feature.name] for part in parts]
        if feature.per_slate:
            columns[feature.name] = np.repeat(column(feature, [v[:1] for v in values]), lengths[lengths > 0], axis=0)
        else:
            columns[feature.name] = column(feature, values)
    return Batch(
        columns=columns,
        emissions=_joined([sample.emissions for sample in samples], np.int8),
        weights=_joined([sample.weights or [1.0] * len(sample.emissions) for sample in samples], np.float32),
        positions=_joined([sample.positions for sample in samples], np.int32),
        event_time=max((sample.event_time for sample in samples), default=0),
        starts=(np.cumsum(lengths) - lengths)[lengths > 0].astype(np.int32),
    )


def column(feature: Feature, parts: Sequence[Sequence[Value]]) -> Array:
    """One feature's values of several slates, joined in order into the array that the model takes."""
    values: list[Any] = list(chain.from_iterable(parts))
    if feature.kind == "number":
        return np.array(values, dtype=np.float32)
    if feature.kind == "string":
        array = np.empty(len(values), dtype=object)
        array[:] = values
        return array
    return padded(values)


def padded(lists: Sequence[Sequence[str]]) -> Array:
    """Lists of strings as object[n, k], k the longest (at least 1), shorter ones padded with ""."""
    width = max((len(values) for values in lists), default=0) or 1
    array = np.full((len(lists), width), "", dtype=object)
    for row, values in enumerate(lists):
        array[row, : len(values)] = values
    return array


def _joined(parts: Sequence[Sequence[float]], dtype: Any) -> Array:
    return np.array(list(chain.from_iterable(parts)), dtype=dtype)
