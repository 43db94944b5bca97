"""From a request and what Redis knows to the event's features, and from those to the model's inputs.

The inputs are made of the event's own fields by `FeatureSpec.columns`, which the trainer calls too: what the model is asked
with is what it is taught with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from feedback.errors import ConfigError, EventError
from feedback.events import Value
from feedback.features import Feature, FeatureSpec
from feedback.state import ItemState, UserState, item_features, user_features
from serving.gateway.messages import Candidate
from serving.gateway.problems import ProblemError
from serving.gateway.store import Features


@dataclass(frozen=True, slots=True)
class Inputs:
    """One request's features, as the event logs them and as the model takes them."""

    context: dict[str, Value]
    """One value for the whole slate."""
    features: dict[str, list[Value]]
    """One per candidate."""
    columns: dict[str, list[Value]]
    """The model's columns, one entry per candidate each."""


class Columns:
    """Makes inputs for one feature specification."""

    def __init__(self, features: Sequence[Feature]) -> None:
        self.spec = FeatureSpec(features=tuple(features))
        self._context = [f for f in features if f.source == "context"]
        self._user = [f for f in features if f.source == "user_state"]
        self._candidate = [f for f in features if f.source == "candidate"]
        self._item = [f for f in features if f.source == "item_state"]
        _check_state(self._user, user_features(UserState(), 0))
        _check_state(self._item, item_features(ItemState(), 0))

    def make(
        self,
        *,
        user: str,
        event_time: int,
        context: Mapping[str, Value],
        candidates: Sequence[Candidate],
        ids: Sequence[str],
        known: Features,
    ) -> Inputs:
        """Put a request's features together.

        Raises:
            ProblemError: 422, a value has another kind than the specification says.
        """
        shared = {f.name: context.get(f.name, f.fallback) for f in self._context}
        for f in self._user:
            shared[f.name] = known.user.get(f.name, f.fallback)
        rows = {f.name: [c.features.get(f.name, f.fallback) for c in candidates] for f in self._candidate}
        for f in self._item:
            rows[f.name] = [row[f.name] for row in known.items] or [f.fallback] * len(ids)
        try:
            columns = self.spec.columns(user_id=user, items=ids, event_time=event_time, context=shared, features=rows)
        except EventError as error:
            where = "context" if error.field in shared else "candidates[].features"
            raise ProblemError(422, str(error), field=f"{where}.{error.field}") from error
        return Inputs(shared, rows, columns)


def _check_state(features: Sequence[Feature], example: Mapping[str, Value]) -> None:
    kinds = {str: "string", float: "number", list: "strings"}
    for feature in features:
        if feature.name not in example:
            allowed = f"with source = {feature.source!r} one of {', '.join(example)}"
            raise ConfigError(key="features.name", value=feature.name, allowed=allowed)
        kind = kinds[type(example[feature.name])]
        if feature.kind != kind:
            raise ConfigError(
                key=f"features.{feature.name}.kind", value=feature.kind, allowed=f"{kind!r}: so it is in Redis"
            )
