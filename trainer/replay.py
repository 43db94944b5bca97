"""Reproduce a version: from the checkpoint it began at, by the steps recorded with the deltas, over the samples as they stand.

The same wheel, threads and CPU features give the same bytes. Elsewhere the digests may differ: then scores are compared.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from feedback.clock import now_us
from feedback.errors import CorruptError, UsageError
from feedback.features import Feature, FeatureSpec
from feedback.settings import KafkaSettings
from feedback.versions import Manifest
from trainer.batch import batch_of
from trainer.checkpoint import Checkpoints, Loaded
from trainer.consume import Reader
from trainer.contract import Makes
from trainer.depot import checkpoints_of, versions_of
from trainer.gate import Gate
from trainer.line import Places, line_of
from trainer.loop import Loop
from trainer.publish import Published, read_published
from trainer.resume import retake
from trainer.settings import TrainerSettings
from trainer.steps import Steps
from trainer.validate import Validation
from trainer.versions import VersionStore

_CLOSE = 1e-5


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """What a replay of a version came to."""

    version: int
    start: str
    """The checkpoint it began at; empty: the line's beginning."""
    deltas: int
    """Deltas whose steps were taken again."""
    digest: str
    """Digest of the state that the replay reached."""
    expected: str
    """Digest in the manifest."""
    same: bool
    """Whether they are equal."""
    difference: float
    """Greatest difference between scores of the replayed state and of the version's checkpoint; 0 where they are the same."""
    verdict: str
    """In words."""

    @property
    def status(self) -> int:
        """Exit status: 0 when it is the version, by digest or by its scores."""
        return 0 if self.same or self.difference <= _CLOSE else 1

    def figures(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def replay_version(
    version: int,
    *,
    kafka: KafkaSettings,
    features: tuple[Feature, ...],
    settings: TrainerSettings,
    data: Path,
    make: Makes | None = None,
) -> Replayed:
    """Rebuild a version and compare. Changes nothing; may run beside the trainer.

    Raises:
        UsageError: the version is of another line, or what it was made from is not kept any more.
        CorruptError: there is no such version, or it can't be read.
    """
    made = make or _tensorflow()
    spec = FeatureSpec(features=features)
    places = Places(data, settings.model.name, line_of(spec, settings.model))
    depot = versions_of(settings.store, settings.model.name)
    manifest = VersionStore(places.models, depot=depot).manifest(version)
    if manifest.line != places.line:
        raise UsageError(f"version {version} is of line {manifest.line}, the configuration describes {places.line}")
    checkpoints = Checkpoints(places.checkpoints, depot=checkpoints_of(settings.store, places.line))
    published = [
        each
        for each in read_published(kafka, line=places.line)
        if each.header.kind == "rows"
        and each.header.epoch == manifest.epoch
        and each.header.sequence <= manifest.sequence
    ]
    loaded, published = _start(checkpoints, manifest, published)
    learner = made.load(loaded.learner) if loaded else made(spec, settings.model, line=places.line)
    if loaded is None:
        learner.epoch = manifest.epoch
    loop = Loop(
        spec, learner, Validation(settings.validation, None), Gate(settings.gate),
        line=places.line, checksum_every=1 << 60, warmup_rows=0,
    )  # fmt: skip
    if loaded is not None:
        loop.restore(loaded.loop)
    steps = Steps(settings.steps, loaded.mark.offsets if loaded else {})
    reader = Reader(kafka, steps.offsets, limit=settings.steps.buffer_examples)
    try:
        done = retake(published, loop=loop, steps=steps, reader=reader, now=now_us())
        if done.diverged.startswith("step"):
            raise UsageError(f"version {version} can't be rebuilt: {done.diverged}")
        return _verdict(loop, manifest, loaded, len(published), checkpoints, made)
    finally:
        reader.close()
        learner.close()


def _start(
    checkpoints: Checkpoints, manifest: Manifest, published: list[Published]
) -> tuple[Loaded | None, list[Published]]:
    """The oldest state from which the deltas lead to the version without a gap, and those deltas."""
    for name in checkpoints.names():
        try:
            mark = checkpoints.mark(name)
        except CorruptError:
            continue
        if mark.epoch == manifest.epoch and name != manifest.checkpoint and _leads(mark.sequence, manifest, published):
            return checkpoints.load(name), [each for each in published if each.header.sequence > mark.sequence]
    if _leads(0, manifest, published):
        return None, published
    raise UsageError(
        f"version {manifest.version} can't be rebuilt: no checkpoint before it is kept from which the deltas lead to it"
    )


def _leads(sequence: int, manifest: Manifest, published: list[Published]) -> bool:
    numbers = [each.header.sequence for each in published if each.header.sequence > sequence]
    return sequence < manifest.sequence and numbers == list(range(sequence + 1, manifest.sequence + 1))


def _verdict(
    loop: Loop, manifest: Manifest, loaded: Loaded | None, deltas: int, checkpoints: Checkpoints, make: Makes
) -> Replayed:
    digest = loop.learner.digest()
    same, difference = digest == manifest.digest, 0.0
    verdict = "the same bytes"
    if not same:
        original = make.load(checkpoints.load(manifest.checkpoint).learner)
        batch = batch_of(loop.spec, loop.gate.probe_samples)
        difference = float(np.abs(loop.learner.score(batch) - original.score(batch)).max()) if len(batch) else 0.0
        original.close()
        near = "scores agree" if difference <= _CLOSE else "scores DIFFER"
        verdict = (
            f"not comparable by digest (another wheel, number of threads or CPU?): {near}, by {difference:.2g} at most"
        )
    return Replayed(
        version=manifest.version,
        start=loaded.mark.name if loaded else "",
        deltas=deltas,
        digest=digest,
        expected=manifest.digest,
        same=same,
        difference=difference,
        verdict=verdict,
    )


def _tensorflow() -> Makes:
    from trainer.learner import Learner

    return Learner
