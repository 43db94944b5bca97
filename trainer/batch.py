"""A batch: examples of some slates as columns, the only form in which the learner takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from feedback.events import OBSERVED, Sample, Value
from feedback.features import Feature, FeatureSpec

Array = NDArray[Any]

ELSEWHERE: Final = -1
"""The position of every example of a slate that something else chose: its places are not those of our slots, so the model's position
bias is neither taught by them nor applied to them."""


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
    """int32[n]: position in the slate, 0-based, or ELSEWHERE."""
    event_time: int
    """Greatest event time in the batch, µs: drives expiry and the ageing of sightings, never the wall clock."""

    starts: Array | None = None
    """int32: the row at which each slate begins. Features with one value per slate are then read, and hashed, there only."""

    def __len__(self) -> int:
        return len(self.emissions)

    def lost(self) -> Array:
        """Whether a row has a number that is not finite in 32 bits, and counts as 0; bool[n]."""
        found = np.zeros(len(self), bool)
        for values in self.columns.values():
            if values.dtype == np.float32:
                found |= ~np.isfinite(values)
        return found

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
    lengths = np.array([len(sample.emissions) for sample in samples], np.int64)
    n = int(lengths.sum())
    weights = [sample.weights or [1.0] * len(sample.emissions) for sample in samples]
    return Batch(
        columns={feature.name: _values(feature, samples, lengths) for feature in spec.features},
        emissions=_joined([sample.emissions for sample in samples], np.int8),
        weights=_joined(weights, np.float32) if any(s.weights for s in samples) else np.ones(n, np.float32),
        positions=positions_of(samples),
        event_time=max((sample.event_time for sample in samples), default=0),
        starts=(np.cumsum(lengths) - lengths)[lengths > 0].astype(np.int32),
    )


def positions_of(samples: Sequence[Sample]) -> Array:
    """The position of each example of some samples, in order, ELSEWHERE for those of observed slates; int32[n]."""
    return _joined([s.positions if s.policy != OBSERVED else [ELSEWHERE] * len(s.positions) for s in samples], np.int32)


def _values(feature: Feature, samples: Sequence[Sample], lengths: Array) -> Array:
    """One feature's values of all samples; what a slate shares is worked out once per slate."""
    if feature.per_slate:
        shared = [
            feature.of_slate(user_id=sample.user_id, event_time=sample.event_time, context=sample.context)
            for sample in samples
        ]
        return np.repeat(column(feature, [shared]), lengths, axis=0)
    if feature.source == "item":
        return column(feature, [sample.items for sample in samples])
    found: list[Value] = []
    for sample in samples:
        given = sample.features.get(feature.name)
        found += [feature.fallback] * len(sample.items) if given is None else given
    return column(feature, [feature.checked(found)])


def column(feature: Feature, parts: Sequence[Sequence[Value]]) -> Array:
    """One feature's values of several slates, joined in order into the array that the model takes."""
    values: list[Any] = list(chain.from_iterable(parts))
    if feature.kind == "number":
        # What 32 bits can't hold becomes infinite, and counts as 0 like everything that is not finite.
        with np.errstate(over="ignore"):
            return np.array(values, dtype=np.float32)
    return _objects(values) if feature.kind == "string" else padded(values)


def padded(lists: Sequence[Sequence[str]]) -> Array:
    """Lists of strings as object[n, k], k the longest (at least 1), shorter ones padded with ""."""
    lengths = np.fromiter(map(len, lists), np.int64, len(lists))
    array = np.full((len(lists), int(lengths.max(initial=0)) or 1), "", dtype=object)
    array[np.arange(array.shape[1]) < lengths[:, None]] = _objects(list(chain.from_iterable(lists)))
    return array


def _objects(values: list[Any]) -> Array:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def _joined(parts: Sequence[Sequence[float]], dtype: Any) -> Array:
    return np.array(list(chain.from_iterable(parts)), dtype=dtype)
