"""What the loop needs of a learner: implemented by `trainer.learner` in TensorFlow, by `trainer.fake` in plain Python."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from feedback.features import FeatureSpec
from trainer.batch import Array, Batch
from trainer.settings import ModelSettings


class Frozen(Protocol):
    """A consistent copy of a learner at one step. Safe in any thread."""

    @property
    def step(self) -> int:
        """Steps taken."""

    @property
    def sequence(self) -> int:
        """Deltas taken."""

    @property
    def epoch(self) -> int:
        """The line's epoch."""

    def export(self, folder: Path, warmup: Batch | None = None) -> None:
        """Write a servable."""

    def save(self, folder: Path) -> None:
        """Write the whole state."""

    def digest(self) -> str:
        """Digest of the whole state."""

    def capacities(self) -> dict[str, int]:
        """Per table the rows that a servable made of this has room for; empty: as many as there may be."""


class Learns(Protocol):
    """A model that learns; see `trainer.learner.Learner`."""

    step: int
    sequence: int
    epoch: int

    def learn(self, batch: Batch) -> Array:
        """Score, then take one step."""

    def score(self, batch: Batch) -> Array:
        """Score; nothing changes."""

    def take_delta(self) -> bytes:
        """What changed since the last take."""

    def checksum(self, seed: int) -> tuple[bytes, int]:
        """A probe and what a model at this sequence answers."""

    def chain(self) -> str:
        """Digest of all deltas so far."""

    def digest(self) -> str:
        """Digest of the whole state."""

    def outgrows(self, capacities: Mapping[str, int]) -> bool:
        """Whether a servable with these capacities is nearly full, and one that is made now has more room."""

    def snapshot(self) -> Frozen:
        """Copy the state."""

    def close(self) -> None:
        """Free what it holds."""


class Makes(Protocol):
    """The class of a learner."""

    def __call__(self, features: FeatureSpec, settings: ModelSettings, *, line: str, epoch: int = 1) -> Learns:
        """Start a line from nothing."""

    def load(self, folder: Path) -> Learns:
        """Read what `save` wrote. Raises CorruptError."""
