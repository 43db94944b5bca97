"""Batches for the tests: a small world whose clicks depend on user and item."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from feedback.features import Feature, FeatureSpec
from trainer.batch import Batch, padded
from trainer.learner import Learner
from trainer.settings import ModelSettings

SPEC = FeatureSpec(
    features=(
        Feature(name="user", source="user"),
        Feature(name="item", source="item"),
        Feature(name="tags", source="candidate", kind="strings"),
        Feature(name="age", source="candidate", kind="number"),
    )
)
SECOND = 1_000_000


def strings(values: Any) -> NDArray[Any]:
    """An object array of strings."""
    array = np.empty(len(values), dtype=object)
    array[:] = [str(value) for value in values]
    return array


def batch(seed: int, n: int = 64, *, time_s: int = 0, users: int = 40, items: int = 25) -> Batch:
    """n rows that depend on `seed` alone."""
    random = np.random.default_rng(seed)
    user, item = random.integers(0, users, n), random.integers(0, items, n)
    tags = padded([[str(tag) for tag in random.integers(0, 6, random.integers(0, 4))] for _ in range(n)])
    return Batch(
        columns={
            "user": strings(user),
            "item": strings(item),
            "tags": tags,
            "age": random.exponential(5.0, n).astype(np.float32),
        },
        emissions=((user * 7 + item * 3) % 5 == 0).astype(np.int8),
        weights=np.ones(n, np.float32),
        positions=random.integers(0, 5, n).astype(np.int32),
        event_time=time_s * SECOND,
    )


def learner(**settings: Any) -> Learner:
    """A learner of SPEC with a cross, so that both tables exist."""
    return Learner(SPEC, ModelSettings(**({"crosses": ("user*item", "user*tags")} | settings)), line="test")
