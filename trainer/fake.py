"""A learner without TensorFlow: logistic regression on hashed values, in plain Python. For tests of the loop, and to read.

It keeps every promise of `trainer.contract.Learns` (order, digests, deltas, checkpoints), so that whatever holds for the loop
with it holds for the loop.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from feedback.errors import CorruptError, UsageError
from feedback.events import POSITIVE
from feedback.features import FeatureSpec
from trainer.batch import Array, Batch
from trainer.settings import ModelSettings

_RATE = 0.02


@dataclass(frozen=True)
class FakeSnapshot:
    """The state as one JSON text."""

    text: str
    step: int
    sequence: int
    epoch: int
    room: int = 0
    """Weights that a servable has room for; 0: as many as there may be."""

    def export(self, folder: Path, warmup: Batch | None = None) -> None:
        """Write what stands in for a SavedModel."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "saved_model.pb").write_text(self.text, encoding="utf-8")
        if warmup is not None and len(warmup):
            (folder / "assets.extra").mkdir()
            (folder / "assets.extra" / "warmup").write_text(str(len(warmup)), encoding="utf-8")

    def save(self, folder: Path) -> None:
        """Write the state."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "state.json").write_text(self.text, encoding="utf-8")

    def digest(self) -> str:
        """SHA-256 of the state."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def capacities(self) -> dict[str, int]:
        """Its one table's."""
        return {"weights": self.room} if self.room else {}


class FakeLearner:
    """One weight per feature value."""

    room: ClassVar[int] = 0
    """Weights that its servables have room for, doubled until those are there fit; 0: as many as there may be."""

    def __init__(self, features: FeatureSpec, settings: ModelSettings, *, line: str, epoch: int = 1) -> None:
        self.line, self.epoch, self.step, self.sequence = line, epoch, 0, 0
        self._weights: dict[str, float] = {}
        self._changed: dict[str, float] = {}
        self._taken = 0
        self._chain = hashlib.sha256(line.encode()).hexdigest()

    def learn(self, batch: Batch) -> Array:
        """Score, then take one step of gradient descent, row by row on the scores as they were."""
        if not len(batch):
            return np.empty(0, np.float32)
        scores = self.score(batch)
        errors: list[float] = np.subtract(batch.emissions >= POSITIVE, scores).tolist()
        for keys, error, weight in zip(_keys(batch), errors, batch.weights.tolist(), strict=True):
            for key in keys:
                self._weights[key] = self._changed[key] = self._weights.get(key, 0.0) + _RATE * weight * error
        self.step += 1
        return scores

    def score(self, batch: Batch) -> Array:
        """Score; nothing changes."""
        logits = [sum(self._weights.get(key, 0.0) for key in keys) for keys in _keys(batch)]
        return np.array([_sigmoid(z) for z in logits], np.float32)

    def take_delta(self) -> bytes:
        """The changed weights, as JSON."""
        if self._taken == self.step:
            return b""
        body = {"epoch": self.epoch, "previous": self.sequence, "weights": dict(sorted(self._changed.items()))}
        encoded = json.dumps(body).encode()
        self._changed = {}
        self.sequence += 1
        self._taken = self.step
        self._chain = hashlib.sha256(self._chain.encode() + encoded).hexdigest()
        return encoded

    def checksum(self, seed: int) -> tuple[bytes, int]:
        """A probe for the whole of it."""
        if self._taken != self.step:
            raise UsageError(f"checksum at step {self.step}: take the delta first")
        return str(seed).encode(), int(self.digest()[:12], 16)

    def chain(self) -> str:
        """Digest of all deltas."""
        return self._chain

    def digest(self) -> str:
        """Digest of the whole state."""
        return self.snapshot().digest()

    def outgrows(self, capacities: Mapping[str, int]) -> bool:
        """Whether there are as many weights as the table named `weights` has room for."""
        return "weights" in capacities and capacities["weights"] <= len(self._weights)

    def snapshot(self) -> FakeSnapshot:
        """Copy the state."""
        state: dict[str, Any] = {
            "line": self.line,
            "epoch": self.epoch,
            "step": self.step,
            "sequence": self.sequence,
            "taken": self._taken,
            "chain": self._chain,
            "weights": dict(sorted(self._weights.items())),
            "changed": dict(sorted(self._changed.items())),
        }
        room = self.room
        while 0 < room <= len(self._weights):
            room *= 2
        return FakeSnapshot(json.dumps(state), self.step, self.sequence, self.epoch, room)

    @classmethod
    def load(cls, folder: Path) -> FakeLearner:
        """Read what `save` wrote."""
        try:
            state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
            learner = cls(FeatureSpec(features=()), ModelSettings(), line=state["line"], epoch=state["epoch"])
            learner.step, learner.sequence = state["step"], state["sequence"]
            learner._taken, learner._chain = state["taken"], state["chain"]
            learner._weights, learner._changed = state["weights"], state["changed"]
        except (OSError, ValueError, KeyError) as error:
            raise CorruptError(f"checkpoint {folder}: {error}") from error
        return learner

    def close(self) -> None:
        """Nothing to free."""


def _sigmoid(z: float) -> float:
    return z if math.isnan(z) else 1.0 / (1.0 + math.exp(-max(-30.0, min(30.0, z))))


def _keys(batch: Batch) -> list[list[str]]:
    columns = [(name, column.tolist()) for name, column in batch.columns.items()]
    return [["bias", *(f"{name}={values[row]}" for name, values in columns)] for row in range(len(batch))]
