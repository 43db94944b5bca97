"""A model line's name, and where its files lie."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import msgspec

from feedback.features import FeatureSpec
from feedback.versions import line_name
from trainer.settings import ModelSettings

_SHAPE = (
    "kind",
    "crosses",
    "embed",
    "linear_only",
    "dim",
    "hidden",
    "cross_layers",
    "heads",
    "positions",
    "reference_position",
)


def line_of(spec: FeatureSpec, settings: ModelSettings) -> str:
    """Name the line of a feature specification and a shape of model: what fits together has one name.

    Learning rates, admission and seed may change within a line; what changes the weights' shapes may not.
    """
    shape = {name: getattr(settings, name) for name in _SHAPE}
    text = spec.digest().encode() + msgspec.json.encode(shape, order="deterministic")
    return line_name(settings.name, hashlib.sha256(text).hexdigest()[:12])


@dataclass(frozen=True)
class Places:
    """Where a line's files lie under the data folder."""

    data: Path
    model: str
    line: str

    @property
    def checkpoints(self) -> Path:
        """Its checkpoints."""
        return self.data / "checkpoints" / self.line

    @property
    def models(self) -> Path:
        """The model's exported versions, of whatever line."""
        return self.data / "models" / self.model

    @property
    def settled(self) -> Path:
        """Its settled rows."""
        return self.data / "trainer" / self.line

    def other_lines(self) -> list[str]:
        """Other lines of the model that have checkpoints here."""
        return sorted(
            path.name
            for path in self.checkpoints.parent.glob(f"{self.model}-*")
            if path.is_dir() and path.name != self.line
        )
