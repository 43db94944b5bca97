"""From a request and what Redis knows to the event's features, and from those to the model's inputs.

The inputs are made of the event's own fields by `FeatureSpec.columns`, which the trainer calls too: what the model is asked
with is what it is taught with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from feedback.errors import ConfigError, EventError
from feedback.events import Value
from feedback.features import Feature, FeatureSpec, Source
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
        self._context = _of(features, "context")
        self._user = _of(features, "user_state")
        self._candidate = _of(features, "candidate")
        self._item = _of(features, "item_state")
        _check_state(features, "user_state", user_features(UserState(), 0))
        _check_state(features, "item_state", item_features(ItemState(), 0))

    def make(
        self,
        *,
        user: str,
        event_time: int,
        context: Mapping[str, Value],
        candidates: Sequence[Candidate],
        ids: Sequence[str],
        known: Features,
        listed: str = "candidates",
    ) -> Inputs:
        """Put a request's features together. `listed`: the request's field that lists the items.

        Raises:
            ProblemError: 422, a value has another kind than the specification says.
        """
        shared = {name: context.get(name, fallback) for name, fallback in self._context}
        for name, fallback in self._user:
            shared[name] = known.user.get(name, fallback)
        sent = [candidate.features for candidate in candidates]
        rows = {name: [row.get(name, fallback) for row in sent] for name, fallback in self._candidate}
        for name, fallback in self._item:
            rows[name] = [row[name] for row in known.items] or [fallback] * len(ids)
        try:
            columns = self.spec.columns(user_id=user, items=ids, event_time=event_time, context=shared, features=rows)
        except EventError as error:
            where = "context" if error.field in shared else f"{listed}[].features"
            raise ProblemError(422, str(error), field=f"{where}.{error.field}") from error
        return Inputs(shared, rows, columns)


def _of(features: Sequence[Feature], source: Source) -> list[tuple[str, Value]]:
    """Name and default of the features from one source."""
    return [(feature.name, feature.fallback) for feature in features if feature.source == source]


def _check_state(features: Sequence[Feature], source: Source, example: Mapping[str, Value]) -> None:
    kinds = {str: "string", float: "number", list: "strings"}
    for feature in features:
        if feature.source != source:
            continue
        if feature.name not in example:
            allowed = f"with source = {feature.source!r} one of {', '.join(example)}"
            raise ConfigError(key="features.name", value=feature.name, allowed=allowed)
        kind = kinds[type(example[feature.name])]
        if feature.kind != kind:
            raise ConfigError(
                key=f"features.{feature.name}.kind", value=feature.kind, allowed=f"{kind!r}: so it is in Redis"
            )
