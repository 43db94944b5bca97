"""What the gate refuses and what operators order: nothing leaves, the last good state is live again, and resume goes on."""

from __future__ import annotations

from typing import Any

import msgspec

from feedback.clock import now_us
from feedback.events import Sample
from feedback.versions import Control
from tests.trainer.loop.running import World, caught_up, taken, turn_until
from tests.trainer.loop.world import slates
from trainer.train import Trainer

GATE = {"reference": 400, "arm": 80, "share_slates": 40, "probation": 0}


def inverted(slate: list[Sample]) -> list[Sample]:
    first = slate[0]
    turned = {item for each in slate[1:] for item in each.items}
    emissions = [int(item in turned or e > 0) for item, e in zip(first.items, first.emissions, strict=True)]
    return [msgspec.structs.replace(first, emissions=[1 - emission for emission in emissions])]


def order(trainer: Trainer, **fields: Any) -> Control:
    """Write a control record as a command does, and let the trainer carry it out."""
    control = Control(model="news", time=max(now_us(), trainer.control_time + 1), by="test", **fields)
    trainer.steering.order(control)
    turn_until(trainer, lambda: trainer.control_time == control.time)
    return control


def events(trainer: Trainer, kind: str) -> set[int]:
    return {event.version for event in trainer.steering.events if event.event == kind}


def poisoned(world: World) -> Trainer:
    """A trainer that learned 400 clean slates, with a version in between, and then was fed inverted labels until it refused."""
    trainer = world.trainer(gate=GATE)
    world.join.write(list(slates(300)))
    turn_until(trainer, taken(trainer, 1000))
    trainer.cut()
    trainer.release_version(probation=False)
    world.join.write(list(slates(100, first=300)))
    turn_until(trainer, caught_up(trainer))
    world.join.write([inverted(slate) for slate in slates(150, first=400)])
    turn_until(trainer, lambda: trainer.paused)
    return trainer


def test_a_refusal_stops_the_deltas_and_makes_the_last_good_state_live_again(world: World) -> None:
    trainer = poisoned(world)
    control = trainer.steering.control
    refusal = next(e for e in trainer.steering.events if e.event == "refused" and e.version == 0)
    assert refusal.by == "gate"
    assert refusal.detail["check"] in refusal.reason
    base = trainer.store.manifest(control.version)
    assert control.paused
    assert control.by == "gate"
    assert control.epoch == base.epoch == trainer.loop.learner.epoch == 2
    assert base.step < refusal.detail["since_step"]
    assert base.version in events(trainer, "gated")
    assert events(trainer, "rolled_back")
    trainer.deltas.flush()
    before = [each.header for each in world.published(trainer.line)]
    assert base.sequence >= max(header.sequence for header in before)
    for _ in range(5):
        trainer.turn()
    trainer.deltas.flush()
    assert len(world.published(trainer.line)) == len(before)


def test_skip_leaves_the_poison_out_and_goes_on_in_the_new_epoch(world: World) -> None:
    trainer = poisoned(world)
    order(trainer, epoch=trainer.loop.learner.epoch, resume="skip")
    assert not trainer.paused
    learned = trainer.loop.examples
    world.join.write(list(slates(40, first=600)))
    turn_until(trainer, lambda: trainer.loop.examples >= learned + 200 and not trainer.loop.learned)
    trainer.deltas.flush()
    fresh = [each.header for each in world.published(trainer.line) if each.header.epoch == 2]
    base = next(m for m in trainer.store.manifests() if m.epoch == 2)
    assert fresh[0].previous == base.sequence
    assert [h.sequence for h in fresh] == list(range(base.sequence + 1, base.sequence + 1 + len(fresh)))


def test_a_skip_is_not_repeated_by_a_restart(world: World) -> None:
    trainer = poisoned(world)
    order(trainer, epoch=trainer.loop.learner.epoch, resume="skip")
    trainer.releases.wait()
    world.join.write(list(slates(40, first=600)))
    turn_until(trainer, taken(trainer, 200))
    trainer.deltas.flush()
    digest = trainer.loop.learner.digest()
    world.forget(trainer)
    second = world.trainer(gate=GATE)
    turn_until(second, caught_up(second))
    assert second.loop.learner.digest() == digest
    assert not second.paused


def test_a_restart_while_paused_stays_paused(world: World) -> None:
    trainer = poisoned(world)
    where = trainer.where()
    world.forget(trainer)
    second = world.trainer(gate=GATE)
    second.turn()
    assert second.where() == where


def test_a_rollback_by_command_exports_a_base_from_that_versions_checkpoint(world: World) -> None:
    trainer = world.trainer()
    world.join.write(list(slates(60)))
    turn_until(trainer, taken(trainer, 150))
    trainer.cut()
    old = trainer.release_version(probation=False)
    turn_until(trainer, caught_up(trainer))
    sequence = trainer.loop.learner.sequence
    assert sequence > old.sequence
    order(trainer, version=old.version, epoch=2, paused=True)
    assert trainer.paused
    base = trainer.store.manifests()[-1]
    assert (base.epoch, base.step) == (2, old.step)
    assert base.sequence >= sequence
    order(trainer, epoch=2, resume="relearn")
    turn_until(trainer, caught_up(trainer))
    assert trainer.loop.learner.step > old.step
    assert trainer.loop.validation.unmatched == 0


def test_a_pause_by_command_holds_back_and_resume_goes_on_where_it_stood(world: World) -> None:
    trainer = world.trainer()
    world.join.write(list(slates(20)))
    turn_until(trainer, taken(trainer, 100))
    order(trainer, epoch=1, paused=True)
    world.join.write(list(slates(20, first=20)))
    learned = trainer.loop.examples
    for _ in range(3):
        trainer.turn()
    assert trainer.loop.examples == learned
    order(trainer, epoch=1)
    turn_until(trainer, lambda: trainer.loop.examples >= learned + 100)
    assert trainer.loop.learner.epoch == 1


def test_a_rollback_to_a_version_that_is_not_there_says_so_and_stays_paused(world: World) -> None:
    trainer = world.trainer()
    order(trainer, version=77, epoch=5, paused=True)
    assert trainer.paused
    refusal = next(e for e in trainer.steering.events if e.event == "refused")
    assert refusal.version == 0
    assert refusal.detail["wanted"] == 77
    assert "no checkpoint" in refusal.reason


def test_a_version_on_probation_goes_live_only_when_enough_slates_settled(world: World) -> None:
    trainer = world.trainer(gate=GATE | {"probation": 50}, versions={"every_s": 1000.0})
    world.join.write(list(slates(300)))
    turn_until(trainer, caught_up(trainer))
    trainer.cut()
    manifest = trainer.release_version()
    assert manifest.version in events(trainer, "exported") - events(trainer, "gated")
    world.join.write(list(slates(120, first=300)))
    turn_until(trainer, lambda: manifest.version in events(trainer, "gated"))
