"""The trainer of one line as a running thing: reads, steps, publishes, checkpoints, exports, obeys `control`.

Everything that learns happens on the thread that calls `turn`; reading, publishing, steering and releasing have theirs.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from feedback.clock import now_us
from feedback.deltas import DeltaHeader
from feedback.errors import CorruptError
from feedback.features import Feature, FeatureSpec
from feedback.settings import KafkaSettings
from feedback.versions import Manifest
from trainer import announce
from trainer.checkpoint import Checkpoints, Loaded
from trainer.consume import Reader, end_offsets, weight
from trainer.contract import Learns, Makes
from trainer.depot import checkpoints_of, versions_of
from trainer.gate import Gate, RefusedError
from trainer.line import Places, line_of
from trainer.loop import Loop
from trainer.observe import Instruments, log
from trainer.publish import DeltaLog, Published, read_published
from trainer.release import Releases, Still, still
from trainer.resume import retake
from trainer.settings import TrainerSettings
from trainer.settled import SettledFile
from trainer.status import status
from trainer.steer import Steering
from trainer.steps import Steps
from trainer.validate import Validation
from trainer.versions import VersionStore

_IDLE = 10
"""Where nothing was learned, checkpoints are so many times rarer: they only save reading progress records again."""


class Trainer:
    """One model line that learns from the samples topic. Construct, `start`, `turn` until told otherwise, `stop`."""

    def __init__(
        self, *, kafka: KafkaSettings, features: tuple[Feature, ...], settings: TrainerSettings, data: Path, make: Makes
    ) -> None:
        self.kafka, self.settings, self.make = kafka, settings, make
        self.spec = FeatureSpec(features=features)
        settings.model.check(self.spec)
        settings.gate.check()
        self.line = line_of(self.spec, settings.model)
        self.places = Places(data, settings.model.name, self.line)
        self.show = Instruments()
        self.woken = threading.Event()
        self.steering = Steering(kafka, model=settings.model.name, changed=self._wake)
        used = max((event.version for event in self.steering.events), default=0)
        self.store = VersionStore(self.places.models, used=used, depot=versions_of(settings.store, settings.model.name))
        self.checkpoints = Checkpoints(self.places.checkpoints, depot=checkpoints_of(settings.store, self.line))
        self.deltas = DeltaLog(
            kafka,
            line=self.line,
            part_bytes=settings.deltas.part_bytes,
            window=settings.deltas.window,
            done=self._committed,
        )
        self.store.share()
        self.checkpoints.share()
        self.releases = Releases(
            line=self.line,
            settings=settings,
            features=list(features),
            checkpoints=self.checkpoints,
            store=self.store,
            deltas=self.deltas,
        )
        self.settled = SettledFile(self.places.settled, keep_rows=settings.validation.rows)
        self.loop: Loop
        self.steps: Steps
        self.reader: Reader | None = None
        self.control_time = 0
        self.paused = False
        self.published = 0
        """Greatest sequence in the topic, of whatever epoch."""
        self._last_cut = self._last_checkpoint = self.last_version = 0.0
        self._arrived: list[int] = []
        self.probation: list[tuple[Manifest, int]] = []
        """Versions that wait for the gate, each with the settled slates that it had seen when they were exported."""
        self._cut_steps = 0
        self.exporting: Future[Any] | None = None
        """The version that is being exported, and the settled slates then."""
        self._saved_step = self.version_step = 0
        self.capacities: dict[str, int] = {}
        """Per table the rows that the newest version has room for."""
        self._looked = 0.0
        self.shown: dict[str, Any] = {}
        """What `/status` shows: made by the thread that learns, about once a second."""

    # ---- beginning and end

    def start(self) -> None:
        """Take up the line where it stands: checkpoint, published deltas, control."""
        from trainer.rollback import obey

        if others := self.places.other_lines():
            log(
                "line_new_or_changed",
                line=self.line,
                others=others,
                meaning="another line's checkpoints are left alone",
            )
        loaded = self.checkpoints.newest(self._refused)
        self.adopt(loaded)
        published = list(read_published(self.kafka, line=self.line, **self._after(loaded)))
        self.published = max([self.loop.learner.sequence, *(each.header.sequence for each in published)])
        control = self.steering.control
        if loaded is None:
            # A new line takes its epoch above everything that was ever said of the model: nothing is to be undone.
            self.loop.learner.epoch = max(self.loop.learner.epoch, control.epoch)
        if control.epoch <= self.loop.learner.epoch:
            self._continue(published)
        obey(self)
        announce.assure(self)
        self._look()
        self._last_cut = self._last_checkpoint = self.last_version = time.monotonic()
        log("started", line=self.line, **self.where())

    def stop(self) -> None:
        """Publish and save what was learned, and let everything end."""
        try:
            if not self.paused and self.reader is not None and self.steps.offsets:
                self.cut()
                self.save()
        except RefusedError as error:
            # Not saved: the next start learns it again, and refuses it with all that belongs to it.
            log("refused_at_stop", level="error", reason=error.alarm.reason)
        self.close()
        log("stopped", **self.where())

    def close(self) -> None:
        """Let go of everything, saving nothing."""
        if self.reader is not None:
            self.reader.close()
        self.releases.close()
        self.deltas.close()
        self.steering.close()
        self.settled.close()

    # ---- one turn

    def turn(self) -> None:
        """Do what is due, or wait for it a moment.

        Raises:
            FencedError: another trainer of this line has begun.
            UnavailableError: the broker is gone.
        """
        from trainer.rollback import refuse

        try:
            self._turn()
        except RefusedError as error:
            refuse(self, error.alarm)

    def _turn(self) -> None:
        from trainer.rollback import obey

        self.steering.check()
        self.deltas.check()
        self.releases.check()
        self._look()
        if self.steering.control.time > self.control_time:
            obey(self)
        if self.paused or self.reader is None:
            self.woken.wait(0.5)
            self.woken.clear()
            return
        self._read()
        if self.steps.due_in(time.monotonic()) <= 0:
            self._step()
        self._leave()

    def cut(self) -> None:
        """Publish what was learned since the last delta. Raises RefusedError."""
        outgoing = self.loop.cut(now_us())
        self._last_cut, self._cut_steps = time.monotonic(), 0
        if outgoing:
            self.published = max(self.published, self.loop.learner.sequence)
            self.show.bytes.inc(sum(len(value) for _, value in outgoing))
            self.deltas.publish(outgoing)
        for arrived in self._arrived:
            self.show.stage.labels("trained").observe(max(0.0, (now_us() - arrived) / 1e6))
        self._arrived = []

    def still(self) -> Still:
        """Copy the state; call right behind `cut`."""
        begun = time.monotonic()
        state = still(self.loop, self.steps.offsets, control_time=self.control_time)
        # Steps that took nothing in are in this state, and need not be carried by a delta.
        self.loop.pending = []
        self._last_checkpoint, self._saved_step = time.monotonic(), self.loop.learner.step
        self.show.pause_s.observe(time.monotonic() - begun)
        return state

    def save(self) -> None:
        """Write a checkpoint of the state as it is, in the background; call right behind `cut`."""
        state = self.still()
        self.releases.submit(lambda: self.releases.checkpoint(state))

    def next_version(self) -> tuple[Still, int]:
        """Copy the state for a version, and take its number; call right behind `cut`."""
        state = self.still()
        self.last_version, self.version_step = time.monotonic(), self.loop.learner.step
        self.capacities = state.snapshot.capacities()
        return state, self.store.next()

    def release_version(self, **event: Any) -> Manifest:
        """Export a version of the state as it is, now, and wait for it."""
        state, number = self.next_version()
        manifest: Manifest = self.releases.submit(lambda: self.releases.version(state, number)).result()
        announce.exported(self, manifest, state.slates, **event)
        return manifest

    def adopt(self, loaded: Loaded | None) -> None:
        """Make the loop from a checkpoint, or from nothing. Nothing is read until `begin`."""
        settings = self.settings
        if hasattr(self, "loop"):
            self.loop.learner.close()
        learner: Learns = (
            self.make.load(loaded.learner) if loaded else self.make(self.spec, settings.model, line=self.line)
        )
        self.loop = Loop(
            self.spec,
            learner,
            Validation(settings.validation, self.settled),
            Gate(settings.gate),
            line=self.line,
            checksum_every=settings.deltas.checksum_every,
            warmup_rows=settings.versions.warmup_rows,
        )
        offsets: dict[int, int] = {}
        if loaded is not None:
            self.loop.restore(loaded.loop)
            offsets = loaded.mark.offsets
            self.control_time = max(self.control_time, loaded.mark.control_time)
            self.deltas.note(loaded.mark.sequence, loaded.mark.log_offset)
        else:
            self.settled.cut(0)
        self.steps = Steps(settings.steps, offsets)
        self._arrived, self.probation, self._cut_steps, self.exporting = [], [], 0, None

    def begin(self) -> None:
        """Begin to read where the steps stand."""
        if self.reader is not None:
            self.reader.close()
        self.reader = Reader(self.kafka, self.steps.offsets, limit=self.settings.steps.buffer_examples)

    def halt(self) -> None:
        """Stop reading; what waits is forgotten, and read again later."""
        if self.reader is not None:
            self.reader.close()
            self.reader = None
        self.steps = Steps(self.settings.steps, self.steps.offsets)

    def skip(self) -> None:
        """Go to the end of the samples without learning what lies between."""
        self.loop.validation.forget_open()
        self.loop.gate.skipped()
        self.steps = Steps(self.settings.steps, end_offsets(self.kafka))

    def where(self) -> dict[str, Any]:
        """Where the line stands."""
        learner = self.loop.learner
        return {"epoch": learner.epoch, "sequence": learner.sequence, "step": learner.step, "paused": self.paused}

    def status(self) -> dict[str, Any]:
        """Everything that `/status` shows; sets the gauges on the way. Of the thread that learns."""
        return status(self)

    # ---- inside

    def _after(self, loaded: Loaded | None) -> dict[str, int]:
        return {"after": loaded.mark.sequence, "since_offset": loaded.mark.log_offset} if loaded is not None else {}

    def _continue(self, published: list[Published]) -> None:
        """Retake what was published since the checkpoint; go on in a new epoch where that is not possible."""
        learner = self.loop.learner
        epochs = {each.header.epoch for each in published if each.header.kind == "rows"}
        self.begin()
        assert self.reader is not None
        reason = ""
        if published and not self.steps.offsets and learner.step == 0 and not self.checkpoints.names():
            reason = "there is no checkpoint, but the topic has deltas of this line"
        elif epochs - {learner.epoch}:
            reason = f"the topic has deltas of epoch {max(epochs)}, the checkpoint is of epoch {learner.epoch}"
        else:
            done = retake(
                published, loop=self.loop, steps=self.steps, reader=self.reader, now=now_us(), note=self.deltas.note
            )
            reason = done.diverged
            log("retaken", deltas=done.deltas, **self.where())
        if reason:
            self.raise_epoch(max([learner.epoch, *epochs]) + 1, reason)

    def raise_epoch(self, epoch: int, reason: str) -> None:
        """Go on from the state as it is in a new epoch, with a base: what was published after it is void."""
        log("epoch_raised", level="warning", epoch=epoch, reason=reason)
        learner = self.loop.learner
        self.loop.cut(now_us())
        learner.epoch, learner.sequence = epoch, max(self.published, learner.sequence)
        self.published = learner.sequence
        self.deltas.note(learner.sequence, self.deltas.offset_of(learner.sequence) or 0)

    def _look(self) -> None:
        now = time.monotonic()
        if now - self._looked >= 1.0:
            self._looked = now
            self.shown = self.status()

    def _read(self) -> None:
        assert self.reader is not None
        now = time.monotonic()
        cut_in = self._last_cut + self.settings.deltas.every_s - now if self.loop.learned else 0.5
        for record in self.reader.drain(min(0.5, max(0.0, min(self.steps.due_in(now), cut_in)))):
            self.steps.offer(record, time.monotonic())

    def _step(self) -> None:
        assert self.reader is not None
        begun = time.monotonic()
        take = self.steps.take(begun)
        alarm = self.loop.step(take)
        self.reader.release(sum(weight(record) for record in take.records))
        self._cut_steps += 1
        self._count(take, time.monotonic() - begun)
        if alarm is not None:
            raise RefusedError(alarm)

    def _count(self, take: Any, seconds: float) -> None:
        if not take.examples:
            return
        show = self.show
        show.refused.inc(self.loop.refused - show.refused_so_far)
        show.refused_so_far = self.loop.refused
        show.steps.inc()
        show.step_s.observe(seconds)
        show.examples.inc(take.examples)
        for record in take.records:
            if record.examples:
                show.samples.inc()
                if len(self._arrived) < 64:
                    self._arrived.append(record.timestamp)
                for sent in record.event.sent_times[:4]:
                    show.freshness.labels("joined").observe(max(0.0, (record.timestamp - sent) / 1e6))

    def _leave(self) -> None:
        now, settings = time.monotonic(), self.settings
        full = settings.deltas.every_steps and self._cut_steps >= settings.deltas.every_steps
        if self.loop.learned and (full or now - self._last_cut >= settings.deltas.every_s):
            self.cut()
        if self.probation:
            announce.clear(self)
        if self.releases.busy:
            return
        if self.exporting is not None:
            exporting, self.exporting = self.exporting, None
            if (made := exporting.result()) is not None:
                announce.exported(self, *made)
            self.releases.submit(lambda: announce.retire(self))
            return
        if self.loop.learner.outgrows(self.capacities):
            # What does not fit in the newest base is not served: its successor waits for neither its time nor a rest.
            log("outgrown", capacities=self.capacities)
            announce.begin_version(self)
            return
        if self.releases.resting:
            return
        step = self.loop.learner.step
        if now - self.last_version >= settings.versions.every_s and step > self.version_step:
            announce.begin_version(self)
        elif now - self._last_checkpoint >= settings.checkpoints.every_s * (1 if step > self._saved_step else _IDLE):
            self.cut()
            self.save()

    def _committed(self, header: DeltaHeader) -> None:
        if header.kind != "rows":
            return
        self.show.deltas.inc()
        now = now_us()
        for sent in header.sent_times:
            self.show.freshness.labels("trained").observe(max(0.0, (now - sent) / 1e6))

    def _wake(self) -> None:
        self.woken.set()

    def _refused(self, name: str, error: CorruptError) -> None:
        log("checkpoint_refused", level="error", checkpoint=name, reason=str(error))
