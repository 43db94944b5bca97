"""Versions as the world hears of them: told when exported, cleared by the gate, retired when nobody needs them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from feedback.clock import now_us
from feedback.errors import UnavailableError
from feedback.versions import Manifest
from trainer.observe import log
from trainer.publish import delete_before
from trainer.release import Still, event_of

if TYPE_CHECKING:
    from trainer.train import Trainer


def assure(trainer: Trainer) -> None:
    """See to it that there is a version of this line and epoch, and that everybody heard of it."""
    learner = trainer.loop.learner
    heard = {event.version for event in trainer.steering.events if event.event == "exported"}
    cleared = {event.version for event in trainer.steering.events if event.event == "gated"}
    mine = [m for m in trainer.store.manifests() if m.line == trainer.line and m.epoch == learner.epoch]
    for manifest in mine:
        if manifest.version not in heard:
            exported(trainer, manifest, 0, probation=False)
            cleared.add(manifest.version)
    if mine:
        trainer.capacities = mine[-1].capacities
    if not any(manifest.version in cleared for manifest in mine):
        trainer.release_version(probation=False)


def begin_version(trainer: Trainer) -> None:
    """Begin to export a version of the state as it is, in the background."""
    trainer.cut()
    state, number = trainer.next_version()
    trainer.exporting = trainer.releases.submit(lambda: _made(trainer, state, number))


def _made(trainer: Trainer, state: Still, number: int) -> tuple[Manifest, int] | None:
    """Write a version, answer it with the settled slates then; None: the store does not take it, and learning goes on without."""
    try:
        return trainer.releases.version(state, number), state.slates
    except UnavailableError as error:
        if not trainer.settings.store.uri:
            raise
        log("version_not_stored", level="error", version=number, reason=str(error))
        return None


def exported(trainer: Trainer, manifest: Manifest, slates: int, *, probation: bool = True) -> None:
    """Tell of a version; it may go live at once, or when the gate clears it."""
    trainer.show.version.set(manifest.version)
    tell(trainer, manifest, "exported")
    if probation:
        trainer.probation.append((manifest, slates))
        clear(trainer)
    else:
        tell(trainer, manifest, "gated")


def clear(trainer: Trainer) -> None:
    """Let versions on probation go live when the gate has nothing against them."""
    waiting, trainer.probation = trainer.probation, []
    for manifest, slates in waiting:
        if trainer.loop.gate.clear_since(slates):
            tell(trainer, manifest, "gated")
        else:
            trainer.probation.append((manifest, slates))


def retire(trainer: Trainer) -> None:
    """Remove versions, checkpoints and deltas that nobody needs. On the thread that releases."""
    good = {event.version for event in trainer.steering.events if event.event == "gated"}
    control, replicas = trainer.steering.control, trainer.steering.replicas
    trainer.releases.retire(good=good, control=control, replicas=replicas, now=now_us())
    needed = trainer.releases.needed_sequence(trainer.loop.learner.epoch)
    offset = trainer.deltas.offset_of(needed)
    if offset:
        delete_before(trainer.kafka, offset)
        trainer.deltas.forget_before(needed)


def tell(trainer: Trainer, manifest: Manifest, event: str, **fields: Any) -> None:
    """Tell of an event in a version's life."""
    trainer.steering.tell(event_of(manifest, event, trainer.store.uri(manifest.version), **fields))
    log(event, version=manifest.version, epoch=manifest.epoch, sequence=manifest.sequence)
