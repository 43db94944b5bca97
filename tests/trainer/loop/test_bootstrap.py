"""A line's first version from a log: the same figures as the loop's, and the trainer goes on from it."""

from __future__ import annotations

from pathlib import Path

import pytest

from feedback.errors import UsageError
from feedback.features import Feature
from tests.trainer.loop.running import World, taken, turn_until
from tests.trainer.loop.test_gate import clean
from tests.trainer.loop.world import FEATURES, slates
from trainer.bootstrap import train_from
from trainer.checkpoint import Checkpoints
from trainer.fake import FakeLearner
from trainer.groups import StepSettings
from trainer.line import line_of
from trainer.settings import ModelSettings, TrainerSettings
from trainer.versions import VersionStore

SETTINGS = TrainerSettings(steps=StepSettings(examples=50))


def test_a_log_becomes_a_version_a_checkpoint_and_figures(tmp_path: Path) -> None:
    told: list[int] = []
    found = train_from(
        clean(800, 1), features=FEATURES, settings=SETTINGS, data=tmp_path, make=FakeLearner, say=told.append
    )
    assert (found.samples, found.rows, found.version) == (800, 4000, 1)
    assert told[-1] == 4000
    assert found.auc > found.auc_baseline > 0.5
    assert found.log_loss < found.log_loss_baseline
    assert found.auc_second_half > 0.7
    manifest = VersionStore(tmp_path / "models" / "news").manifest(1)
    assert manifest.checkpoint == found.checkpoint
    assert Checkpoints(tmp_path / "checkpoints" / found.line).load(found.checkpoint).mark.offsets == {}


def test_a_measurement_writes_nothing(tmp_path: Path) -> None:
    train_from(clean(50, 1), features=FEATURES, settings=SETTINGS, data=tmp_path, make=FakeLearner, write=False)
    assert not list(tmp_path.iterdir())


def test_a_line_that_has_learned_is_left_alone_and_another_feature_makes_another_line(tmp_path: Path) -> None:
    train_from(clean(50, 1), features=FEATURES, settings=SETTINGS, data=tmp_path, make=FakeLearner)
    with pytest.raises(UsageError, match="has learned before"):
        train_from(clean(50, 1), features=FEATURES, settings=SETTINGS, data=tmp_path, make=FakeLearner)
    more = (*FEATURES, Feature(name="hour", source="hour"))
    second = train_from(clean(50, 1), features=more, settings=SETTINGS, data=tmp_path, make=FakeLearner)
    assert second.version == 2


def test_a_line_is_named_by_features_and_shape_and_not_by_rates() -> None:
    from feedback.features import FeatureSpec
    from trainer.settings import AdamSettings

    spec = FeatureSpec(features=FEATURES)
    same = line_of(spec, ModelSettings())
    assert line_of(spec, ModelSettings(adam=AdamSettings(rate=0.5), threads=1)) == same
    assert line_of(spec, ModelSettings(dim=8)) != same
    assert line_of(FeatureSpec(features=FEATURES[:2]), ModelSettings()) != same


def test_an_empty_log_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no samples"):
        train_from([], features=FEATURES, settings=SETTINGS, data=tmp_path, make=FakeLearner)


def test_the_trainer_goes_on_from_what_the_log_taught(world: World) -> None:
    settings = world.settings()
    train_from(clean(200, 1), features=FEATURES, settings=settings, data=world.data, make=FakeLearner)
    trainer = world.trainer()
    step = trainer.loop.learner.step
    assert step > 0
    assert {e.event for e in trainer.steering.events if e.version == 1} >= {"exported", "gated"}
    world.join.write(list(slates(20, first=1000)))
    turn_until(trainer, taken(trainer, 100))
    assert trainer.loop.learner.step > step
    assert trainer.loop.learner.epoch == 1
