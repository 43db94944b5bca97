"""A line that begins with a table of made-up rows: its keys are real, and learning goes on from it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from feedback.features import Feature, FeatureSpec
from trainer.batch import Batch
from trainer.checkpoint import Checkpoints
from trainer.fill import Order, fill
from trainer.learner import Learner
from trainer.line import Places, line_of
from trainer.settings import ModelSettings, SlotSettings, TrainerSettings
from trainer.versions import VersionStore

FEATURES = (Feature(name="user", source="user"), Feature(name="item", source="item"))
SETTINGS = TrainerSettings(
    model=ModelSettings(crosses=("user*item",), dim=4, hidden=(8,), slots=SlotSettings(capacity=256))
)


def batch(user: str, item: str) -> Batch:
    columns = {"user": np.array([user], dtype=object), "item": np.array([item], dtype=object)}
    one = np.zeros(1, np.int8)
    return Batch(columns, one, np.ones(1, np.float32), np.zeros(1, np.int32), event_time=1)


def test_every_value_has_its_row_and_a_new_one_gets_the_next(tmp_path: Path) -> None:
    order = Order(
        data=str(tmp_path), features=FEATURES, settings=SETTINGS, rows=1_000, prefixes={"user": "u", "item": "i"}
    )
    number = fill(order)
    places = Places(tmp_path, "news", line_of(FeatureSpec(features=FEATURES), SETTINGS.model))
    loaded = Checkpoints(places.checkpoints).newest(lambda name, error: None)
    assert loaded is not None
    assert VersionStore(places.models).manifest(number).checkpoint == loaded.mark.name
    learner = Learner.load(loaded.learner)
    slots = learner.tables[0].slots
    assert (slots.owned, learner.tables[1].slots.owned) == (1_000, 0)
    assert learner.score(batch("u7", "i3")) != learner.score(batch("u8", "i3"))
    assert learner.score(batch("nobody", "i3")) == learner.score(batch("another", "i3")), "they share the default row"
    learner.learn(batch("u499", "i499"))
    assert slots.owned == 1_000
    learner.learn(batch("u500", "i500"))
    assert slots.owned == 1_002
    learner.close()
