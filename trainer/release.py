"""What leaves the trainer beside deltas: checkpoints and versions, made in the background from a snapshot while training goes on."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from feedback.clock import now_us
from feedback.errors import CorruptError, EverloopError, UnavailableError
from feedback.versions import Control, Manifest, ModelEvent
from trainer.batch import Batch
from trainer.checkpoint import Checkpoints, Mark, pack
from trainer.contract import Frozen
from trainer.loop import Loop
from trainer.observe import log
from trainer.publish import DeltaLog
from trainer.settings import TrainerSettings
from trainer.versions import VersionStore, code_version, removable


@dataclass(frozen=True, kw_only=True)
class Still:
    """The whole state at one moment, which nobody changes: what a checkpoint and a version are made of."""

    snapshot: Frozen
    loop: bytes
    offsets: dict[int, int]
    watermark: int
    chain: str
    metrics: dict[str, float]
    warmup: Batch | None
    control_time: int
    slates: int
    """Settled slates that the gate had seen."""


def still(loop: Loop, offsets: dict[int, int], *, control_time: int) -> Still:
    """Copy the state; right behind a cut, so that it holds nothing that no delta carries."""
    state = pack(loop.state())
    return Still(
        snapshot=loop.learner.snapshot(),
        loop=state,
        offsets=dict(offsets),
        watermark=loop.validation.watermark,
        chain=loop.learner.chain(),
        metrics=flat_metrics(loop),
        warmup=loop.warmup,
        control_time=control_time,
        slates=loop.gate.slates,
    )


def flat_metrics(loop: Loop) -> dict[str, float]:
    """The finite progressive figures: the total's by their names, the window's with `window_` before them."""
    figures = loop.validation.metrics.figures()
    found = dict(figures["total"]) | {f"window_{name}": value for name, value in figures["window"].items()}
    return {name: value for name, value in found.items() if np.isfinite(value)}


class Releases:
    """One background thread, one job at a time. What is released never overtakes the deltas that led to it."""

    def __init__(
        self,
        *,
        line: str,
        settings: TrainerSettings,
        features: list[Any],
        checkpoints: Checkpoints,
        store: VersionStore,
        deltas: DeltaLog | None = None,
    ) -> None:
        self._deltas = deltas
        self._line, self._settings, self._features = line, settings, features
        self.checkpoints, self.store = checkpoints, store
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="release")
        self._job: Future[Any] | None = None
        self._rested = 0.0
        """When the next may begin that nobody waits for, by the monotonic clock."""

    @property
    def busy(self) -> bool:
        """Whether a job runs."""
        return self._job is not None and not self._job.done()

    @property
    def resting(self) -> bool:
        """Whether the last job took so much that the next one should wait: learning needs the processor too."""
        return time.monotonic() < self._rested

    def submit(self, work: Any) -> Future[Any]:
        """Run a job behind the one that runs; its failure is raised by `check`."""
        self.check()
        self._job = self._pool.submit(self._timed, work)
        return self._job

    def _timed(self, work: Any) -> Any:
        begun, before = time.monotonic(), time.thread_time()
        try:
            return work()
        finally:
            rested = begun + (time.thread_time() - before) / self._settings.versions.share
            self._rested = max(self._rested, rested)

    def wait(self) -> None:
        """Wait for the job that runs."""
        if self._job is not None:
            self._job.exception()

    def check(self) -> None:
        """Raise what ended the last job, if it failed."""
        if self._job is not None and self._job.done():
            job, self._job = self._job, None
            job.result()

    def checkpoint(self, state: Still) -> str:
        """Write a checkpoint, and retire old ones; answers its name."""
        snapshot = state.snapshot
        log_offset = 0
        if self._deltas is not None:
            self._deltas.wait(snapshot.sequence)
            log_offset = self._deltas.offset_of(snapshot.sequence) or 0
        mark = Mark(
            line=self._line,
            epoch=snapshot.epoch,
            sequence=snapshot.sequence,
            step=snapshot.step,
            offsets=state.offsets,
            created=now_us(),
            chain=state.chain,
            control_time=state.control_time,
            log_offset=log_offset,
        )
        name = self.checkpoints.write(mark, learner=snapshot.save, loop=state.loop)
        needed = {manifest.checkpoint for manifest in self.store.manifests()}
        try:
            self.checkpoints.store(needed | {name})
            self.checkpoints.retire(keep=self._settings.checkpoints.keep, needed=needed | {name})
        except UnavailableError as error:
            # It is safe here; learning does not wait for the store, and the next checkpoint is stored again.
            log("checkpoint_not_stored", level="error", checkpoint=name, reason=str(error))
        return name

    def version(self, state: Still, number: int) -> Manifest:
        """Write a version and the checkpoint that it can be rebuilt from."""
        name = self.checkpoint(state)
        snapshot = state.snapshot
        manifest = Manifest(
            model=self._settings.model.name,
            line=self._line,
            version=number,
            epoch=snapshot.epoch,
            sequence=snapshot.sequence,
            step=snapshot.step,
            created=now_us(),
            offsets=state.offsets,
            watermark=state.watermark,
            metrics=state.metrics,
            digest=snapshot.digest(),
            features=self._features,
            files={},
            code_version=code_version(),
            checkpoint=name,
            capacities=snapshot.capacities(),
        )
        warmup = state.warmup if state.warmup is not None and len(state.warmup) else None
        return self.store.export(snapshot, manifest, warmup)

    def retire(self, *, good: set[int], control: Control, replicas: list[Any], now: int) -> list[int]:
        """Remove the versions that nobody needs; answers their numbers."""
        versions = self._settings.versions
        old = removable(
            self.store.numbers(),
            keep=versions.keep,
            good=good,
            control=control,
            replicas=replicas,
            now=now,
            replica_s=versions.replica_s,
        )
        for number in old:
            try:
                self.store.remove(number)
            except UnavailableError as error:
                log("version_not_removed", level="warning", version=number, reason=str(error))
                continue
            log("version_removed", version=number)
        return old

    def needed_sequence(self, epoch: int) -> int:
        """The least sequence from which somebody may still want deltas: of the kept checkpoints and this epoch's versions."""
        found = [m.sequence for m in self.store.manifests() if m.line == self._line and m.epoch == epoch]
        try:
            names = self.checkpoints.stored()
        except UnavailableError:
            return 0
        for name in names[-self._settings.checkpoints.keep :]:
            try:
                found.append(self.checkpoints.mark(name).sequence)
            except CorruptError:
                continue
        return min(found, default=0)

    def close(self) -> None:
        """Let the running job end."""
        self._pool.shutdown(wait=True)
        try:
            self.check()
        except EverloopError as error:
            log("release_failed", level="error", reason=str(error))


def event_of(manifest: Manifest, event: Any, uri: str, **fields: Any) -> ModelEvent:
    """An event in a version's life."""
    return ModelEvent(
        model=manifest.model,
        line=manifest.line,
        version=manifest.version,
        event=event,
        time=now_us(),
        epoch=manifest.epoch,
        sequence=manifest.sequence,
        uri=uri,
        by=fields.pop("by", "trainer"),
        **fields,
    )
