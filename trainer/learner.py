"""The learner: takes batches one after another, scores each before it learns from it, and says what changed."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from feedback.features import FeatureSpec
from trainer.batch import Array, Batch
from trainer.settings import ModelSettings


class Snapshot(Protocol):
    """A consistent copy of a learner at one step; does not change while the learner goes on."""

    step: int
    sequence: int
    epoch: int

    def export(self, folder: Path, warmup: Batch | None = None) -> None:
        """Write a SavedModel with `serving_default`, `sync`, `checksum` and warm-up requests. May run in another thread."""

    def save(self, folder: Path) -> None:
        """Write the whole state (weights, optimizers, slots) for `Learner.load`. May run in another thread."""

    def digest(self) -> str:
        """SHA-256 of weights, optimizer state and slots."""


class Learner:
    """A model that learns. One thread at a time; `Snapshot` is what other threads may hold."""

    step: int
    """Steps taken since the line began."""
    sequence: int
    """Deltas taken since the line began."""
    epoch: int
    """The line's epoch; settable (a rollback raises it)."""

    def __init__(self, features: FeatureSpec, settings: ModelSettings, *, line: str, epoch: int = 1) -> None:
        raise NotImplementedError

    def learn(self, batch: Batch) -> Array:
        """Score the rows with the weights as they are (float32[n]), then take one step with them."""
        raise NotImplementedError

    def score(self, batch: Batch) -> Array:
        """Score the rows at the reference position; nothing changes."""
        raise NotImplementedError

    def take_delta(self) -> bytes:
        """Everything that serving needs and that changed since the last take, as the next sequence; b"" if nothing did."""
        raise NotImplementedError

    def checksum(self, seed: int) -> tuple[bytes, int]:
        """A probe for signature `checksum` and the answer that a model at this sequence gives.

        Raises:
            UsageError: a step was taken since the last delta.
        """
        raise NotImplementedError

    def chain(self) -> str:
        """Digest of all deltas since the line began and the optimizer state that went with them: cheap, for each delta's header."""
        raise NotImplementedError

    def digest(self) -> str:
        """SHA-256 of weights, optimizer state and slots: costs time in proportion to the table."""
        raise NotImplementedError

    def snapshot(self) -> Snapshot:
        """Copy the state: a pause of at most 200 ms for 1,000,000 rows of 16."""
        raise NotImplementedError

    def save(self, folder: Path) -> None:
        """`snapshot().save(folder)`."""
        raise NotImplementedError

    @classmethod
    def load(cls, folder: Path) -> Learner:
        """Read what `save` wrote. Raises CorruptError where files are missing or do not fit together."""
        raise NotImplementedError

    def close(self) -> None:
        """Free the session and its memory."""
        raise NotImplementedError
