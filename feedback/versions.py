"""The records that steer and describe a model's versions: manifest, models, control, replicas.

A model is what a recommendation service asks for by name. A line is a model with one feature specification; its sequence
never restarts. A version (a base) is a SavedModel that contains a line's state at one sequence. Version numbers rise within
a model, whatever the line, and are never used again.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import Struct, field

from feedback.features import Feature

MANIFEST: str = "manifest.json"
"""The manifest's file name inside a version's directory; written last before the rename."""


class FileEntry(Struct, frozen=True, kw_only=True):
    """One file of a version."""

    size: int
    """Bytes."""
    sha256: str
    """Hex digest of its content."""


class Manifest(Struct, frozen=True, kw_only=True):
    """What a version contains and where it came from. Stands in the version's directory as `manifest.json`."""

    model: str
    """The model's name."""
    line: str
    """The model line."""
    version: int
    """The version's number, its directory's name."""
    epoch: int
    """The line's epoch when it was exported."""
    sequence: int
    """The sequence of the line that it contains."""
    step: int
    """The last training step that it contains."""
    created: int
    """Wall clock, µs."""
    offsets: dict[int, int]
    """Next offset of each partition of samples."""
    watermark: int
    """Event time up to which the learned labels are complete, µs."""
    metrics: dict[str, float]
    """Progressive metrics at that moment (of settled labels)."""
    digest: str
    """Digest of the trainer's state: weights, optimizer state, slots."""
    features: list[Feature]
    """The feature specification."""
    files: dict[str, FileEntry]
    """Every file of the directory but this one, by its path in it."""
    code_version: str
    """Version of everloop that wrote it."""
    checkpoint: str = ""
    """Name of the checkpoint that it can be rebuilt from."""
    capacities: dict[str, int] = {}
    """Per table the rows that it has room for: rows of later deltas beyond them go nowhere in it."""


class ModelEvent(Struct, frozen=True, kw_only=True):
    """One event in a version's life. Topic `models`, key `model/version/event`."""

    model: str
    """The model's name."""
    line: str
    """The model line."""
    version: int
    """The version; 0 when the event is about the line's stream of deltas rather than one version."""
    event: Literal["exported", "gated", "refused", "live", "retired", "rolled_back", "promoted", "dropped", "removed"]
    """What happened. `gated`: passed the gate; `refused`: did not (by the gate, or by a follower that could not load or verify it)."""
    time: int
    """Wall clock, µs."""
    epoch: int = 0
    """The line's epoch."""
    sequence: int = 0
    """The sequence that the version contains."""
    uri: str = ""
    """Where the version's directory is (fsspec)."""
    reason: str = ""
    """Why, in a sentence: which check, by how much."""
    by: str = ""
    """Who says so: trainer, gate, follower/REPLICA, a command."""
    detail: dict[str, Any] = field(default_factory=dict)
    """Numbers that belong to the reason."""

    @property
    def key(self) -> bytes:
        """The record's Kafka key."""
        return f"{self.model}/{self.version}/{self.event}".encode()


class Canary(Struct, frozen=True, kw_only=True):
    """A second version that a share of the users is sent to."""

    version: int
    """The version with label `canary`."""
    share: float
    """Share of the users, 0–1."""
    started: int
    """Wall clock, µs."""


class Control(Struct, frozen=True, kw_only=True):
    """What shall be live. Topic `control`, key the model's name; written by commands and the gate, obeyed by followers."""

    model: str
    """The model's name."""
    version: int = 0
    """The version that shall be live; 0: the newest that passed the gate."""
    pinned: bool = False
    """Whether `version` stays live until somebody unpins it, whatever is exported."""
    epoch: int = 0
    """Deltas with a lower epoch are not applied; a rollback raises it."""
    paused: bool = False
    """Whether deltas and new versions are held back (after a rollback or a refusal) until `resume`."""
    resume: Literal["", "relearn", "skip"] = ""
    """What the trainer does with the samples since the rollback when `paused` turns false."""
    canary: Canary | None = None
    """A canary, if one runs."""
    time: int = 0
    """Wall clock of the writer, µs."""
    by: str = ""
    """Who wrote it."""
    reason: str = ""
    """Why."""


class Replica(Struct, frozen=True, kw_only=True):
    """How far one follower has come. Topic `replicas`, key `model/replica`."""

    model: str
    """The model's name."""
    replica: str
    """The replica's name."""
    time: int
    """Wall clock, µs."""
    live: int
    """The version with label `live` on its server; 0: none."""
    loaded: dict[int, int]
    """Per loaded version the sequence it has reached."""
    epoch: int = 0
    """The epoch of what it applies."""
    sequence: int = 0
    """The live version's sequence."""
    checksums_passed: int = 0
    """Checksums that held since the follower started."""
    checksums_failed: int = 0
    """Checksums that did not: each one led to a repair."""
    problem: str = ""
    """What stands in its way, if anything."""
    address: str = ""
    """HOST:PORT of the model server's gRPC."""

    @property
    def key(self) -> bytes:
        """The record's Kafka key."""
        return f"{self.model}/{self.replica}".encode()


def line_name(model: str, digest: str) -> str:
    """Name the line of `model` with a feature specification (and shape of model) of that digest."""
    return f"{model}-{digest}"


encode = msgspec.json.encode
"""Encode one of these records as JSON bytes."""
