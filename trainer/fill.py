"""A line that begins with a large table: a checkpoint and a version whose rows were made up, not learned.

    python -m trainer.fill JSON

What a bench needs to know how a loop behaves with millions of keys, in the time that writing them takes. The keys are real: a value
`u7` that comes later is found in its row. The JSON says data folder, features, settings, rows, and the values' prefix by feature.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from feedback.clock import now_us
from feedback.features import Feature, FeatureSpec
from trainer.batch import Batch
from trainer.bootstrap import write_version
from trainer.checkpoint import Checkpoints
from trainer.fields import Table
from trainer.gate import Gate
from trainer.learner import Learner
from trainer.line import Places, line_of
from trainer.loop import Loop
from trainer.settings import ModelSettings, TrainerSettings
from trainer.slots import NO_KEY
from trainer.snapshot import Snapshot
from trainer.validate import Validation

Array = NDArray[Any]

_AT_ONCE = 100_000
"""Values whose keys are worked out at once."""


class Order(Struct, frozen=True, kw_only=True):
    """What is to be filled."""

    data: str
    features: tuple[Feature, ...]
    settings: TrainerSettings
    rows: int
    """Rows in all, the same number for each prefix."""
    prefixes: dict[str, str]
    """By string feature: its values are prefix0, prefix1, …"""


def fill(order: Order) -> int:
    """Write checkpoint and version; answers the version's number.

    Raises:
        ConfigError: the settings name features that are not there.
    """
    settings, spec = order.settings, FeatureSpec(features=order.features)
    line = line_of(spec, settings.model)
    places = Places(Path(order.data), settings.model.name, line)
    loop = Loop(
        spec,
        filled(spec, settings.model, rows=order.rows, prefixes=order.prefixes, line=line),
        Validation(settings.validation, None),
        Gate(settings.gate),
        line=line,
        checksum_every=settings.deltas.checksum_every,
        warmup_rows=0,
    )
    number, _ = write_version(loop, settings, order.features, places, Checkpoints(places.checkpoints))
    loop.learner.close()
    return number


def filled(spec: FeatureSpec, settings: ModelSettings, *, rows: int, prefixes: dict[str, str], line: str) -> Learner:
    """A learner with a row, drawn at random, for each of the first rows ÷ len(prefixes) values of every feature named."""
    first = Learner(spec, settings, line=line)
    state, each = first.snapshot(), rows // len(prefixes)
    keys = _keys(first, each, prefixes)
    first.close()
    random = np.random.Generator(np.random.Philox(key=settings.seed))
    parts = [_grown(state, i, table, keys, random) for i, table in enumerate(state.plan.tables)]
    scalars, vectors, slots = zip(*parts, strict=True)
    return Learner.of(replace(state, clock=now_us(), scalars=scalars, vectors=vectors, slots=slots))


def _keys(learner: Learner, values: int, prefixes: dict[str, str]) -> dict[str, Array]:
    """The keys of every named feature's values, int64."""
    found: dict[str, list[Array]] = {name: [] for name in prefixes}
    for start in range(0, values, _AT_ONCE):
        batch = _batch(learner.plan.features, range(start, min(start + _AT_ONCE, values)), prefixes)
        for table, keys in zip(learner.plan.tables, learner.prepare(batch).keys, strict=True):
            for column, field in enumerate(table.single):
                if field.name in found:
                    found[field.name].append(keys[:, column])
    return {name: np.concatenate(parts) for name, parts in found.items()}


def _batch(spec: FeatureSpec, numbers: range, prefixes: dict[str, str]) -> Batch:
    n, columns = len(numbers), {}
    for feature in spec.features:
        width = (n, 1) if feature.kind == "strings" else (n,)
        columns[feature.name] = np.full(
            width, 0.0 if feature.kind == "number" else "", np.float32 if feature.kind == "number" else object
        )
        if feature.name in prefixes:
            columns[feature.name][:] = [f"{prefixes[feature.name]}{number}" for number in numbers]
    return Batch(
        columns=columns,
        emissions=np.zeros(n, np.int8),
        weights=np.ones(n, np.float32),
        positions=np.zeros(n, np.int32),
        event_time=0,
    )


def _grown(
    state: Snapshot, i: int, table: Table, keys: dict[str, Array], random: np.random.Generator
) -> tuple[Array, Array, dict[str, Array]]:
    """A table's rows and slots with these keys behind the reserved ones."""
    mine = [(number, keys[field.name]) for number, field in enumerate(table.fields) if field.name in keys]
    owned = np.concatenate([np.full(table.reserved, NO_KEY, np.int64), *(each for _, each in mine)])
    fields = np.concatenate([np.zeros(table.reserved, np.int16), *(np.full(len(k), n, np.int16) for n, k in mine)])
    settings, next_row = state.plan.settings, len(owned)
    capacity = int(state.slots[i]["next"][2])
    while capacity < next_row:
        capacity *= 2
    scalars = np.zeros((next_row, table.scalars), np.float32)
    scalars[:, 3 + table.heads :] = settings.adagrad.start
    scalars[: table.reserved] = state.scalars[i][: table.reserved]
    vectors = random.standard_normal((next_row, table.dim), np.float32)
    vectors *= np.float32(settings.adagrad.scale)
    vectors[: table.reserved] = state.vectors[i][: table.reserved]
    slots = state.slots[i] | {
        "next": np.array([next_row, table.reserved, capacity], np.int64),
        "keys": owned,
        "seen": np.full(next_row, now_us(), np.int64),
        "fields": fields,
        "born": np.zeros(next_row, np.bool_),
    }
    return scalars, vectors, slots


if __name__ == "__main__":
    print(fill(msgspec.json.decode(sys.argv[1], type=Order)))
