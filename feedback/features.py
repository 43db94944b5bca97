"""The feature specification: which values the model sees, where each comes from, and how an event becomes columns.

The gateway builds the model's inputs with it and the trainer builds its batches with it, from the same event fields, so
that serving cannot differ from training. What happens to a value after that (fingerprint, cross, bucket) lives in the
model's own graph.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from feedback.errors import EventError
from feedback.events import Value

Source = Literal["user", "item", "context", "candidate", "user_state", "item_state", "hour", "weekday"]
FeatureKind = Literal["string", "strings", "number"]

_HOUR_US = 3_600_000_000
_PLAIN: dict[str, set[type]] = {"string": {str}, "number": {float}, "strings": {list}}
_PER_SLATE = frozenset({"user", "context", "user_state", "hour", "weekday"})


class Feature(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One input column of the model."""

    name: Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
    """The column's name, also the name of the model's input tensor."""
    source: Source
    """Where the value comes from. `user`, `item`: the ids. `context`, `candidate`: the request. `user_state`, `item_state`: the
    real-time features kept in Redis. `hour`, `weekday`: of the prediction's event time, UTC."""
    kind: FeatureKind = "string"
    """`string`: one categorical value; `strings`: several; `number`: a float."""
    default: Value | None = None
    """Stands in when the request has none; by default "", [] or 0.0 by kind."""

    @property
    def per_slate(self) -> bool:
        """Whether all positions of a slate share one value."""
        return self.source in _PER_SLATE

    @property
    def fallback(self) -> Value:
        """The value that stands in for a missing one."""
        if self.default is not None:
            return self.default
        return "" if self.kind == "string" else [] if self.kind == "strings" else 0.0

    def of_slate(self, *, user_id: str, event_time: int, context: Mapping[str, Value]) -> Value:
        """The value that all positions of a slate share; only where `per_slate`. Raises EventError for one of another kind."""
        if self.source == "user":
            return user_id
        if self.source in ("hour", "weekday"):
            hours = event_time // _HOUR_US
            number = hours % 24 if self.source == "hour" else (hours // 24 + 3) % 7
            return str(number) if self.kind == "string" else float(number)
        value = context.get(self.name)
        return self.fallback if value is None else _checked(self, value)

    def checked(self, column: Sequence[Value]) -> list[Value]:
        """A column's values as they are, numbers as floats. Raises EventError where one has another kind than the feature."""
        if set(map(type, column)) <= _PLAIN[self.kind]:
            return list(column)
        return [_checked(self, value) for value in column]


class FeatureSpec(Struct, frozen=True, kw_only=True):
    """The ordered features of a model. A different specification is a different model line."""

    features: tuple[Feature, ...]
    """In the order in which the graph takes them."""

    def digest(self) -> str:
        """12 hex digits that name this specification (of its canonical JSON)."""
        return hashlib.sha256(msgspec.json.encode(self.features, order="deterministic")).hexdigest()[:12]

    def names(self) -> tuple[str, ...]:
        """The columns' names, in order."""
        return tuple(feature.name for feature in self.features)

    def columns(
        self,
        *,
        user_id: str,
        items: Sequence[str],
        event_time: int,
        context: Mapping[str, Value],
        features: Mapping[str, Sequence[Value]],
    ) -> dict[str, list[Value]]:
        """Build the model's columns for some positions of one slate, each as long as `items`.

        `context` and `features` are those of the prediction event (or sample): state features are in them too, as used.

        Raises:
            EventError: a value has another kind than the specification says.
        """
        n = len(items)
        return {f.name: _column(f, n, user_id, items, event_time, context, features) for f in self.features}


def _column(
    feature: Feature,
    n: int,
    user_id: str,
    items: Sequence[str],
    event_time: int,
    context: Mapping[str, Value],
    features: Mapping[str, Sequence[Value]],
) -> list[Value]:
    if feature.source == "item":
        return list(items)
    if feature.per_slate:
        return [feature.of_slate(user_id=user_id, event_time=event_time, context=context)] * n
    column = features.get(feature.name)
    if column is None:
        return [feature.fallback] * n
    return feature.checked(column)


def _checked(feature: Feature, value: Value) -> Value:
    kind = feature.kind
    if kind == "string" and type(value) is str:
        return value
    if kind == "number" and isinstance(value, (int, float)):
        return float(value)
    if kind == "strings" and isinstance(value, list):
        return value
    raise EventError("wrong_kind", field=feature.name, value=value, allowed=f"a value of kind {kind}")
