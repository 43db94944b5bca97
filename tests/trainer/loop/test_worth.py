"""What admission saves and freshness is worth: the same rows in the same order, scored as they would have been served."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from feedback.clock import SECOND
from feedback.errors import UsageError
from tests.trainer.loop.test_gate import clean
from tests.trainer.loop.world import FEATURES
from trainer.batch import batch_of
from trainer.fake import FakeLearner
from trainer.groups import StepSettings
from trainer.lesson import Lesson, takes
from trainer.settings import Admission, ModelSettings, SlotSettings, TrainerSettings
from trainer.worth import INTERVALS_S, asked, worth

STEPS = StepSettings(examples=25)


def test_a_row_is_scored_with_the_weights_that_its_interval_began_with() -> None:
    log, settings = list(clean(120, 3)), TrainerSettings(steps=STEPS)
    served = asked(Lesson(FEATURES, settings, make=FakeLearner), takes(log, 25), (60.0, 20.0))
    for length_s, scores in served.items():
        lesson, expected = Lesson(FEATURES, settings, make=FakeLearner), []
        steps = list(takes(log, 25))
        number = [take.records[0].timestamp // round(length_s * SECOND) for take in steps]
        for at in sorted(set(number)):
            window = [take for take, mine in zip(steps, number, strict=True) if mine == at]
            samples = [record.event for take in window for record in take.records[:-1]]
            expected.append(lesson.loop.learner.score(batch_of(lesson.loop.spec, samples)))  # type: ignore[arg-type]
            for take in window:
                lesson.learn(take)
        np.testing.assert_array_equal(scores, np.concatenate(expected))


def test_asking_changes_nothing_of_what_is_learned() -> None:
    log, settings = list(clean(120, 3)), TrainerSettings(steps=STEPS)
    plain, asked_too = (Lesson(FEATURES, settings, make=FakeLearner) for _ in range(2))
    asked(plain, takes(log, 25), ())
    asked(asked_too, takes(log, 25), (60.0, 20.0))
    np.testing.assert_array_equal(plain.rows(), asked_too.rows())


def test_what_admission_saves_is_the_share_of_keys_that_never_got_a_row() -> None:
    slots = SlotSettings(counts="exact", per={"user*item": Admission(sightings=3)})
    model = ModelSettings(kind="linear", crosses=("user*item",), slots=slots)
    log = list(clean(300, 3))
    found = {
        name: values[0]
        for name, _, values in worth(lambda: log, features=FEATURES, settings=TrainerSettings(model=model, steps=STEPS))
    }
    pairs: dict[tuple[str, str], int] = {}
    for sample in log:
        for item in sample.items:
            pairs[sample.user_id, item] = pairs.get((sample.user_id, item), 0) + 1
    others = {("u", s.user_id) for s in log} | {("i", i) for s in log for i in s.items} | {("m", x) for x in "01"}
    every = len(pairs) + len(others)
    assert found["rows_of_all_keys"] == every
    assert found["rows_saved"] == pytest.approx(sum(count < 3 for count in pairs.values()) / every)
    assert found["admission_auc_of_all_keys"] - found["admission_auc"] <= found["admission_auc_lost"]
    aucs = [found[f"auc_published_every_{each:g}_s"] for each in INTERVALS_S] + [found["auc_published_every_step"]]
    assert found["publishing_auc_fall"] == max(a - b for a, b in pairwise(aucs))


def test_settings_that_give_every_key_a_row_are_refused() -> None:
    with pytest.raises(UsageError, match="sightings above 1"):
        worth(lambda: clean(10, 1), features=FEATURES, settings=TrainerSettings())
    forgetful = ModelSettings(slots=replace(SlotSettings(), every=Admission(sightings=2, unseen_s=5.0)))
    with pytest.raises(UsageError, match="unseen_s = 0"):
        worth(lambda: clean(10, 1), features=FEATURES, settings=TrainerSettings(model=forgetful))
