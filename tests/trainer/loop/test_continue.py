"""Killed at any moment, a trainer goes on as if it had never been: the same bytes, nothing published twice."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from feedback.errors import FencedError
from feedback.features import FeatureSpec
from tests.trainer.loop.running import World, caught_up, taken, turn_until
from tests.trainer.loop.world import FEATURES, slates
from trainer.checkpoint import Checkpoints
from trainer.consume import Reader
from trainer.contract import Makes
from trainer.fake import FakeLearner
from trainer.gate import Gate
from trainer.learner import Learner
from trainer.loop import Loop
from trainer.replay import replay_version
from trainer.resume import retake
from trainer.steps import Steps
from trainer.validate import Validation


def examples(count: int, first: int = 0) -> int:
    return sum(len(each.emissions) for slate in slates(count, first=first) for each in slate)


def undisturbed(world: World, line: str, make: Makes = FakeLearner) -> Loop:
    """A fresh learner that takes all recorded steps in one go: what a trainer that was never killed would be."""
    settings = world.settings()
    spec = FeatureSpec(features=FEATURES)
    loop = Loop(
        spec,
        make(spec, settings.model, line=line),
        Validation(settings.validation, None),
        Gate(settings.gate),
        line=line,
        checksum_every=1 << 60,
        warmup_rows=0,
    )
    reader = Reader(world.kafka, {}, limit=1 << 30)
    try:
        done = retake(world.published(line), loop=loop, steps=Steps(settings.steps, {}), reader=reader, now=0)
    finally:
        reader.close()
    assert done.diverged == ""
    return loop


def check_published_once(world: World, line: str) -> None:
    sequences = [each.header.sequence for each in world.published(line)]
    assert sequences == list(range(1, len(sequences) + 1))


@pytest.mark.parametrize("make", [FakeLearner, Learner], ids=["plain", "tensorflow"])
def test_killed_between_a_step_and_its_delta_it_ends_with_the_same_bytes(world: World, make: Makes) -> None:
    world.join.write(list(slates(40)))
    first = world.trainer(make=make, deltas={"every_steps": 2, "every_s": 1000.0})
    turn_until(first, lambda: first.loop.learner.step >= 3 and first.loop.learned)
    assert first.loop.learner.sequence >= 1
    first.deltas.flush()
    world.forget(first)
    world.join.write(list(slates(20, first=40)))
    second = world.trainer(make=make)
    assert second.loop.learner.epoch == 1
    turn_until(second, lambda: second.loop.examples >= examples(40) + examples(20, 40) and not second.loop.learned)
    second.deltas.flush()
    check_published_once(world, second.line)
    assert undisturbed(world, second.line, make).learner.digest() == second.loop.learner.digest()


def test_killed_behind_a_checkpoint_it_goes_on_from_there_and_counts_each_row_once(world: World) -> None:
    world.join.write(list(slates(100)))
    first = world.trainer()
    turn_until(first, taken(first, 300))
    first.cut()
    first.save()
    turn_until(first, taken(first, examples(100)))
    first.releases.wait()
    world.forget(first)
    world.join.write(list(slates(100, first=100)))
    second = world.trainer()
    again = second.loop.examples
    assert again < examples(100)
    turn_until(second, lambda: second.loop.examples >= again + examples(100, 100) and not second.loop.learned)
    second.deltas.flush()
    second.loop.validation.fold()
    whole = undisturbed(world, second.line)
    whole.validation.fold()
    assert second.loop.learner.digest() == whole.learner.digest()
    assert second.loop.validation.metrics.state() == whole.validation.metrics.state()
    assert second.settled.rows == whole.validation.metrics.total["score"].rows


def test_killed_by_the_system_at_random_moments_it_publishes_every_sequence_once(world: World) -> None:
    chance = random.Random(7)
    written = 0
    for _ in range(4):
        process = world.process(checkpoints={"every_s": 0.3}, versions={"every_s": 0.5}, deltas={"every_s": 0.02})
        until = time.monotonic() + chance.uniform(0.1, 1.5)
        while time.monotonic() < until:
            world.join.write(list(slates(5, first=written)))
            written += 5
        process.kill()
        process.wait()
    last = world.trainer(versions={"keep": 50})
    turn_until(last, caught_up(last))
    last.deltas.flush()
    assert last.loop.learner.epoch == 1
    headers = [each.header for each in world.published(last.line)]
    assert [h.sequence for h in headers] == list(range(headers[0].sequence, headers[-1].sequence + 1))
    steps = [step.step for h in headers for step in h.steps if step.examples]
    assert steps == list(range(steps[0], steps[-1] + 1))
    assert last.loop.validation.open_rows + last.loop.validation.metrics.total["score"].rows > 0


def test_a_trainer_that_was_replaced_is_fenced(world: World) -> None:
    first = world.trainer()
    second = world.trainer()
    world.join.write(list(slates(20)))
    turn_until(second, taken(second, 50))
    with pytest.raises(FencedError, match="another trainer"):
        turn_until(first, lambda: False)


def test_where_the_bytes_differ_the_epoch_is_raised_and_a_base_is_published(world: World) -> None:
    world.join.write(list(slates(60)))
    first = world.trainer()
    turn_until(first, taken(first, examples(60)))
    first.deltas.flush()
    before = first.loop.learner.sequence
    world.forget(first)

    class Otherwise(FakeLearner):
        """Another kind of machine: its sums come out a little different."""

        def take_delta(self) -> bytes:
            value = super().take_delta()
            return value.replace(b"e-", b"E-").replace(b"}", b" }") if value else value

    second = world.trainer(make=Otherwise)
    assert second.loop.learner.epoch == 2
    assert second.loop.learner.sequence >= before
    bases = [m for m in second.store.manifests() if m.epoch == 2]
    assert [m.sequence for m in bases] == [second.loop.learner.sequence]
    assert {e.version for e in second.steering.events if e.event == "gated"} >= {bases[0].version}


def test_with_the_newest_checkpoint_broken_the_one_before_it_leads_to_the_same_state(world: World) -> None:
    world.join.write(list(slates(100)))
    first = world.trainer()
    for count in (100, 300):
        turn_until(first, taken(first, count))
        first.cut()
        first.save()
        first.releases.wait()
    turn_until(first, taken(first, examples(100)))
    first.deltas.flush()
    digest = first.loop.learner.digest()
    world.forget(first)
    newest = Checkpoints(first.places.checkpoints).names()[-1]
    (first.places.checkpoints / newest / "loop.msgpack").write_bytes(b"")
    second = world.trainer()
    turn_until(second, caught_up(second))
    assert second.loop.learner.epoch == 1
    assert second.loop.learner.digest() == digest


def test_a_version_is_rebuilt_from_the_topics_with_the_same_digest(world: World) -> None:
    world.join.write(list(slates(60)))
    trainer = world.trainer()
    turn_until(trainer, taken(trainer, examples(60)))
    trainer.cut()
    manifest = trainer.release_version()
    world.forget(trainer)
    replayed = replay_version(
        manifest.version,
        kafka=world.kafka,
        features=FEATURES,
        settings=world.settings(),
        data=world.data,
        make=FakeLearner,
    )
    assert replayed.same, replayed.verdict
    assert replayed.deltas == manifest.sequence
    assert replayed.status == 0


def test_a_trainer_that_is_told_to_end_saves_and_leaves_with_status_0(world: World) -> None:
    world.join.write(list(slates(30)))
    process = world.process()
    folder = next(Path(world.data / "checkpoints").iterdir())
    while Checkpoints(folder).mark(Checkpoints(folder).names()[-1]).sequence == 0 and process.poll() is None:
        if world.published(folder.name):
            process.terminate()
            assert process.wait(timeout=60) == 0
    published = world.published(folder.name)
    mark = Checkpoints(folder).mark(Checkpoints(folder).names()[-1])
    assert mark.sequence == published[-1].header.sequence
