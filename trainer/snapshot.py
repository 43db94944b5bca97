"""A snapshot: a learner's whole state at one step, as arrays that nobody changes. Saved, loaded, digested, exported."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from feedback.errors import ConfigError, CorruptError
from feedback.features import FeatureSpec
from trainer.batch import Batch
from trainer.fields import Plan, plan
from trainer.settings import ModelSettings
from trainer.slots import base_capacity

Array = NDArray[Any]

_HEAD = "state.json"


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """What is not an array."""

    features: FeatureSpec
    settings: ModelSettings
    line: str
    epoch: int
    step: int
    sequence: int
    clock: int
    taken: int
    chain: str


@dataclass(frozen=True)
class Snapshot:
    """A consistent copy of a learner. Safe in any thread."""

    plan: Plan
    line: str
    epoch: int
    step: int
    sequence: int
    clock: int
    """Greatest event time seen, µs."""
    taken: int
    """The step at which the last delta was taken."""
    chain: str
    """Digest of all deltas."""
    dense: Array
    """float32[3, size]: dense weights and their optimizer state."""
    scalars: tuple[Array, ...]
    """Per table float32[≥ used, scalars]: linear weights, heads, optimizer state."""
    vectors: tuple[Array, ...]
    """Per table float32[≥ used, dim]: embeddings."""
    slots: tuple[dict[str, Array], ...]
    """Per table the state of its slots."""
    dirty: tuple[Array, ...]
    """Per table the rows that the next delta carries."""

    @property
    def head(self) -> Head:
        """What is not an array."""
        return Head(
            features=self.plan.features,
            settings=self.plan.settings,
            line=self.line,
            epoch=self.epoch,
            step=self.step,
            sequence=self.sequence,
            clock=self.clock,
            taken=self.taken,
            chain=self.chain,
        )

    def arrays(self) -> dict[str, Array]:
        """Every array of the state, by a name that is also its file's, the used part only."""
        found = {"dense": self.dense}
        for i, table in enumerate(self.plan.tables):
            found[f"{table.name}_scalars"] = self.scalars[i][: self.used(i)]
            found[f"{table.name}_vectors"] = self.vectors[i][: self.used(i)]
            found[f"{table.name}_dirty"] = self.dirty[i]
            found |= {f"{table.name}_{name}": array for name, array in self.slots[i].items()}
        return found

    def used(self, table: int) -> int:
        """Rows in use."""
        return int(self.slots[table]["next"][0])

    def capacity(self, table: int) -> int:
        """Rows that a base made of this has room for."""
        had = int(self.slots[table]["next"][2])
        return base_capacity(self.used(table), capacity=had, room=self.plan.settings.slots.room)

    def capacities(self) -> dict[str, int]:
        """`capacity` by the name of the table."""
        return {table.name: self.capacity(i) for i, table in enumerate(self.plan.tables)}

    def served(self, table: int) -> Array:
        """The rows in use as serving has them, float32[used, served]."""
        used, behind = self.used(table), 1 + self.plan.tables[table].heads
        return np.concatenate([self.scalars[table][:used, :behind], self.vectors[table][:used]], axis=1)

    def digest(self) -> str:
        """SHA-256 of weights, optimizer state, slots and counters."""
        total = hashlib.sha256(msgspec.json.encode(self.head))
        for name, array in sorted(self.arrays().items()):
            total.update(f"{name} {array.dtype} {array.shape}".encode())
            total.update(np.ascontiguousarray(array).data)
        return total.hexdigest()

    def save(self, folder: Path) -> None:
        """Write the state into `folder`, one file per array. Whoever calls makes it atomic and durable."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, array in self.arrays().items():
            np.save(folder / f"{name}.npy", array)
        (folder / _HEAD).write_bytes(msgspec.json.encode(self.head))

    @classmethod
    def load(cls, folder: Path) -> Snapshot:
        """Read what `save` wrote.

        Raises:
            CorruptError: files are missing or do not fit together.
        """
        try:
            head = msgspec.json.decode((folder / _HEAD).read_bytes(), type=Head)
            found = {path.stem: np.load(path, allow_pickle=False) for path in sorted(folder.glob("*.npy"))}
            return cls._of(head, plan(head.features, head.settings), found)
        except (OSError, ValueError, EOFError, KeyError, msgspec.MsgspecError, ConfigError) as error:
            raise CorruptError(f"checkpoint {folder}: {error}") from error

    @classmethod
    def _of(cls, head: Head, planned: Plan, found: dict[str, Array]) -> Snapshot:
        slots = []
        for table in planned.tables:
            own = {
                name.removeprefix(f"{table.name}_"): a for name, a in found.items() if name.startswith(f"{table.name}_")
            }
            used = int(own["next"][0])
            shapes = own["scalars"].shape, own["vectors"].shape, own["keys"].shape
            allowed = (used, table.scalars), (used, table.dim), (used,)
            if shapes != allowed:
                raise CorruptError(f"table {table.name}: shapes {shapes}, allowed {allowed}")
            slots.append(own)
        if found["dense"].shape != (3, planned.dense_size):
            raise CorruptError(f"dense weights: {found['dense'].shape}, allowed (3, {planned.dense_size})")
        return cls(
            plan=planned,
            line=head.line,
            epoch=head.epoch,
            step=head.step,
            sequence=head.sequence,
            clock=head.clock,
            taken=head.taken,
            chain=head.chain,
            dense=found["dense"],
            scalars=tuple(own.pop("scalars") for own in slots),
            vectors=tuple(own.pop("vectors") for own in slots),
            dirty=tuple(own.pop("dirty") for own in slots),
            slots=tuple(slots),
        )

    def export(self, folder: Path, warmup: Batch | None = None) -> None:
        """Write a SavedModel with `serving_default`, `sync`, `checksum` and, from `warmup`, the requests that warm it up.

        The model contains the state at `sequence`: take the delta before the snapshot.
        """
        from trainer.export import export

        export(self, folder, warmup)
