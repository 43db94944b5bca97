"""What stops the trainer and sets it going again: refusals of the gate, and the word on `control`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from feedback.clock import now_us
from feedback.errors import CorruptError
from feedback.versions import Control, Manifest, ModelEvent
from trainer.checkpoint import Loaded
from trainer.observe import log
from trainer.origin import Alarm

if TYPE_CHECKING:
    from trainer.train import Trainer


def obey(trainer: Trainer) -> bool:
    """Carry out the newest control record; whether it brought another state (so that nothing is to be retaken)."""
    control = trainer.steering.control
    if control.time <= trainer.control_time:
        trainer.paused = trainer.paused or control.paused
        return False
    acted = trainer.control_time
    trainer.control_time = control.time
    changed = control.epoch > trainer.loop.learner.epoch
    if changed:
        return_to(trainer, control, _checkpoint_of(trainer, control))
    if control.paused:
        if not changed and not trainer.paused and trainer.reader is not None:
            trainer.cut()
            trainer.save()
        trainer.paused = True
        trainer.halt()
    elif trainer.paused or changed or (acted and control.resume):
        go_on(trainer, control)
    return changed


def go_on(trainer: Trainer, control: Control) -> None:
    """Learn again: what came since (relearn), or what comes from now on (skip)."""
    trainer.paused = False
    trainer.cut()
    trainer.halt()
    if control.resume == "skip":
        trainer.skip()
    trainer.begin()
    # Saved at once, so that a restart does not skip a second time.
    trainer.save()
    log("resumed", resume=control.resume or "relearn", offsets=trainer.steps.offsets, **trainer.where())


def refuse(trainer: Trainer, alarm: Alarm) -> None:
    """Let nothing leave, make what was last good live again, and wait for `resume`."""
    log("refused", level="error", check=alarm.check, reason=alarm.reason, **trainer.where())
    trainer.show.refusals.labels(alarm.check).inc()
    trainer.paused = True
    trainer.halt()
    trainer.deltas.flush()
    trainer.releases.wait()
    suspect = [manifest for manifest in _own(trainer) if manifest.step >= alarm.since_step]
    good = [manifest for manifest in _cleared(trainer) if manifest.step < alarm.since_step]
    fallback = _cleared(trainer)[:1]
    last = (good or fallback or _own(trainer))[-1]
    detail = {"check": alarm.check, "value": alarm.value, "limit": alarm.limit, "since_step": alarm.since_step}
    for version in [0, *(manifest.version for manifest in suspect)]:
        trainer.steering.tell(_event(trainer, version, "refused", alarm.reason, detail | {"subject": alarm.subject}))
    order = Control(
        model=trainer.settings.model.name,
        version=last.version,
        epoch=trainer.loop.learner.epoch + 1,
        paused=True,
        time=max(now_us(), trainer.steering.control.time + 1),
        by="gate",
        reason=alarm.reason,
    )
    trainer.steering.order(order)
    trainer.control_time = order.time
    base = return_to(trainer, order, _newest_before(trainer, alarm.since_step) or _checkpoint_of(trainer, order))
    if base is not None:
        live = Control(
            model=order.model,
            version=base.version,
            epoch=order.epoch,
            paused=True,
            time=order.time + 1,
            by="gate",
            reason=alarm.reason,
        )
        trainer.steering.order(live)
        trainer.control_time = live.time


def return_to(trainer: Trainer, control: Control, loaded: Loaded | None) -> Manifest | None:
    """Take up an older state in the control record's epoch and export it as a base; the base, or nothing where it can't be had."""
    trainer.halt()
    if loaded is None:
        trainer.paused = True
        reason = f"version {control.version} has no checkpoint that is whole: the state is kept, paused"
        # About the stream of deltas, not the version: followers may well serve it as it was exported.
        trainer.steering.tell(_event(trainer, 0, "refused", reason, {"wanted": control.version}))
        log("rollback_impossible", level="error", version=control.version)
        trainer.raise_epoch(control.epoch, reason)
        return None
    trainer.adopt(loaded)
    trainer.raise_epoch(control.epoch, f"back to step {loaded.mark.step}: {control.reason or 'rollback'}")
    base = trainer.release_version(probation=False)
    detail = {"base": base.version, "checkpoint": loaded.mark.name, "step": loaded.mark.step}
    trainer.steering.tell(_event(trainer, control.version, "rolled_back", control.reason, detail))
    return base


def _checkpoint_of(trainer: Trainer, control: Control) -> Loaded | None:
    """The checkpoint of the version that shall be live; with version 0 the newest one."""
    try:
        if not control.version:
            return trainer.checkpoints.newest(
                lambda name, error: log("checkpoint_refused", name=name, reason=str(error))
            )
        manifest = trainer.store.manifest(control.version)
        if manifest.line != trainer.line:
            return None
        return trainer.checkpoints.load(manifest.checkpoint)
    except CorruptError as error:
        log("checkpoint_refused", level="error", reason=str(error))
        return None


def _newest_before(trainer: Trainer, step: int) -> Loaded | None:
    """The newest checkpoint without any suspect step."""
    for name in trainer.checkpoints.before(step - 1):
        try:
            return trainer.checkpoints.load(name)
        except CorruptError as error:
            log("checkpoint_refused", level="error", checkpoint=name, reason=str(error))
    return None


def _own(trainer: Trainer) -> list[Manifest]:
    return [manifest for manifest in trainer.store.manifests() if manifest.line == trainer.line]


def _cleared(trainer: Trainer) -> list[Manifest]:
    numbers = {event.version for event in trainer.steering.events if event.event == "gated"}
    refused = {event.version for event in trainer.steering.events if event.event == "refused"}
    return [manifest for manifest in _own(trainer) if manifest.version in numbers - refused]


def _event(trainer: Trainer, version: int, kind: str, reason: str, detail: dict[str, object]) -> ModelEvent:
    learner = trainer.loop.learner
    return ModelEvent(
        model=trainer.settings.model.name,
        line=trainer.line,
        version=version,
        event=kind,  # type: ignore[arg-type]
        time=now_us(),
        epoch=learner.epoch,
        sequence=learner.sequence,
        reason=reason,
        by="gate" if kind == "refused" else "trainer",
        detail=detail,
    )
