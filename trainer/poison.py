"""Five kinds of poison: what they make of a clean sample."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Final

import msgspec

from feedback.events import Sample

Poison = Callable[[Sample, random.Random], list[Sample]]


def shuffled(sample: Sample, chance: random.Random) -> list[Sample]:
    """Labels in another order within the slate."""
    return [msgspec.structs.replace(sample, emissions=chance.sample(sample.emissions, len(sample.emissions)))]


def inverted(sample: Sample, chance: random.Random) -> list[Sample]:
    """What was clicked was not, and the other way round."""
    return [msgspec.structs.replace(sample, emissions=[0 if emission else 1 for emission in sample.emissions])]


def stalled(sample: Sample, chance: random.Random) -> list[Sample]:
    """No click arrives any more."""
    return [msgspec.structs.replace(sample, emissions=[0] * len(sample.emissions))]


def not_numbers(sample: Sample, chance: random.Random) -> list[Sample]:
    """Number features that are not numbers, or that the model's 32 bits can't hold."""
    bad = chance.choice([float("nan"), 1e300])
    features: dict[str, Any] = {
        name: [bad] * len(column) if column and isinstance(column[0], float) else column
        for name, column in sample.features.items()
    }
    context: dict[str, Any] = {
        name: bad if isinstance(value, float) else value for name, value in sample.context.items()
    }
    return [msgspec.structs.replace(sample, features=features, context=context)]


def flooded(sample: Sample, chance: random.Random) -> list[Sample]:
    """One reader has half of all events, and clicks at random."""
    emissions = [int(chance.random() < 0.5) for _ in sample.emissions]
    again = msgspec.structs.replace(
        sample,
        request_id=f"{sample.request_id}+",
        sample_id=f"{sample.sample_id}+",
        user_id="flood",
        emissions=emissions,
    )
    return [sample, again]


POISONS: Final[dict[str, Poison]] = {
    "shuffled_labels": shuffled,
    "inverted_labels": inverted,
    "stalled_clicks": stalled,
    "nan_features": not_numbers,
    "flood": flooded,
}
"""Five kinds of poison, by name."""
