"""The plan of a model: its fields, tables and dense weights, worked out from the feature specification and the settings.

A field is what has a slot per value: a string feature or a cross. Fields with an embedding share the table `wide` (a row is a
linear weight, the heads' weights, then the embedding), the others the table `narrow` (the same without the embedding).
Row 0 of a table stands for "nothing here" and stays zero; rows 1 … F are the fields' default rows, which their values share
until they have a row of their own.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import msgspec

from feedback.features import FeatureSpec
from trainer.settings import Admission, ModelSettings


@dataclass(frozen=True)
class Field:
    """A string feature or a cross of several."""

    name: str
    """The feature's name, or the cross as it is written in the settings."""
    parts: tuple[str, ...]
    """The features that it is made of."""
    several: bool
    """Whether an example may have several values of it."""
    admission: Admission
    """When a value gets a row."""


@dataclass(frozen=True)
class Table:
    """Rows that have the same width, and the fields whose values they belong to."""

    name: str
    single: tuple[Field, ...]
    """Fields with one value per example, the table's first columns."""
    several: tuple[Field, ...]
    """Fields with several, each a group of columns behind them."""
    dim: int
    """Numbers in an embedding; 0: none."""
    heads: int
    """Bootstrap heads."""
    rowwise: bool
    """One accumulator per embedding, or one per coordinate."""

    @property
    def fields(self) -> tuple[Field, ...]:
        """In the order of the columns; field i has default row i + 1."""
        return self.single + self.several

    @property
    def reserved(self) -> int:
        """Rows in front that belong to no key."""
        return 1 + len(self.fields)

    @property
    def first(self) -> int:
        """The first row that a step may touch: row 0 only where a multi-valued field can have no value."""
        return 0 if self.several else 1

    @property
    def served(self) -> int:
        """Floats of a row that serving needs: linear weight, heads, embedding."""
        return 1 + self.heads + self.dim

    @property
    def squares(self) -> int:
        """Accumulators of the embedding."""
        return 0 if not self.dim else 1 if self.rowwise else self.dim

    @property
    def scalars(self) -> int:
        """Floats of a row that are not the embedding: linear weight, heads; then FTRL's z and n and the accumulators of
        embedding and heads."""
        return 1 + self.heads + 2 + self.squares + self.heads


@dataclass(frozen=True)
class Weight:
    """One tensor of the dense weights, which lie in one flat vector."""

    name: str
    shape: tuple[int, ...]
    offset: int
    scale: float
    """Standard deviation at the start."""

    @property
    def size(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class Plan:
    """All that the graphs are built from."""

    features: FeatureSpec
    settings: ModelSettings
    tables: tuple[Table, ...]
    """`wide` and `narrow`, those of the two that have fields."""
    numbers: tuple[str, ...]
    """Number features, in order."""
    dense: tuple[Weight, ...]
    """Dense weights: first those that FTRL updates (bias, positions, numbers), then the network's."""

    @property
    def dense_size(self) -> int:
        return self.dense[-1].offset + self.dense[-1].size

    @property
    def dense_linear(self) -> int:
        """How many of the dense weights, from the front, FTRL updates."""
        return 1 + max(self.settings.positions, 1) + len(self.numbers)

    def shape(self) -> bytes:
        """Features and settings as JSON: what a plan, and a graph, can be made from again."""
        return msgspec.json.encode((self.features, self.settings), order="deterministic")

    @property
    def embedded(self) -> tuple[Field, ...]:
        """Fields with an embedding."""
        return tuple(f for t in self.tables if t.dim for f in t.fields)


def plan(features: FeatureSpec, settings: ModelSettings) -> Plan:
    """Work out fields, tables and weights.

    Raises:
        ConfigError: settings name what is not there, or contradict each other.
    """
    settings.check(features)
    settings = msgspec.json.decode(msgspec.json.encode(settings), type=ModelSettings)
    fields = _fields(features, settings)
    embedded = _embedded(features, settings)
    tables = []
    for name, inside in (("wide", True), ("narrow", False)):
        chosen = [f for f in fields if (f.name in embedded) == inside]
        if chosen:
            tables.append(
                Table(
                    name,
                    tuple(f for f in chosen if not f.several),
                    tuple(f for f in chosen if f.several),
                    settings.dim if inside else 0,
                    settings.heads,
                    settings.adagrad.rowwise,
                )
            )
    numbers = tuple(f.name for f in features.features if f.kind == "number")
    count = sum(len(t.fields) for t in tables if t.dim)
    return Plan(features, settings, tuple(tables), numbers, _weights(settings, len(numbers), count))


def plan_of(shape: bytes) -> Plan:
    """The plan of that `Plan.shape`."""
    features, settings = msgspec.json.decode(shape, type=tuple[FeatureSpec, ModelSettings])
    return plan(features, settings)


def _fields(features: FeatureSpec, settings: ModelSettings) -> list[Field]:
    kinds = {f.name: f.kind for f in features.features}
    slots = settings.slots
    names = [f.name for f in features.features if f.kind != "number"] + list(settings.crosses)
    found = []
    for name in names:
        parts = tuple(name.split("*"))
        several = any(kinds[part] == "strings" for part in parts)
        found.append(Field(name, parts, several, slots.per.get(name, slots.every)))
    return found


def _embedded(features: FeatureSpec, settings: ModelSettings) -> set[str]:
    if settings.kind == "linear":
        return set()
    chosen = set(settings.embed) or {f.name for f in features.features if f.kind != "number"}
    return chosen - set(settings.linear_only)


def _weights(settings: ModelSettings, numbers: int, embedded: int) -> tuple[Weight, ...]:
    shapes: list[tuple[str, tuple[int, ...], float]] = [
        ("bias", (1,), 0.0),
        ("positions", (max(settings.positions, 1),), 0.0),
        ("numbers", (numbers,), 0.0),
    ]
    inputs = embedded * settings.dim + numbers
    if settings.kind in ("deepfm", "dcn"):
        last = inputs
        for i, width in enumerate(settings.hidden):
            shapes += [(f"hidden{i}", (last, width), math.sqrt(2.0 / max(last, 1))), (f"hidden{i}_bias", (width,), 0.0)]
            last = width
        shapes.append(("out", (last, 1), math.sqrt(1.0 / max(last, 1))))
    if settings.kind == "dcn":
        for i in range(settings.cross_layers):
            shapes += [
                (f"cross{i}", (inputs, inputs), math.sqrt(1.0 / max(inputs, 1))),
                (f"cross{i}_bias", (inputs,), 0.0),
            ]
        shapes.append(("cross_out", (inputs, 1), math.sqrt(1.0 / max(inputs, 1))))
    weights, offset = [], 0
    for name, shape, scale in shapes:
        weights.append(Weight(name, shape, offset, scale))
        offset += math.prod(shape)
    return tuple(weights)


def mixing(field: Field) -> tuple[tuple[int, ...], int]:
    """The odd factors and the summand with which the fingerprints of a field's parts become its keys, as signed 64-bit numbers.

    A single feature's map is one-to-one; different fields get different keys for the same string.
    """
    factors = tuple(_word(f"{field.name}/{i}") | 1 for i in range(len(field.parts)))
    return factors, _word(field.name)


def _word(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little", signed=True)
