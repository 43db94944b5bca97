"""A minute of poison: nothing of it stays, nothing leaves behind the alarm, and the last clean state is live again."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import numpy as np
import pytest

from feedback.errors import UsageError
from feedback.events import Sample
from feedback.features import Feature
from tests.trainer.loop.test_gate import SETTINGS, clean
from tests.trainer.loop.world import FEATURES
from trainer.fake import FakeLearner
from trainer.groups import StepSettings
from trainer.poison import POISONS
from trainer.settings import TrainerSettings
from trainer.trial import CLEAN, Plan, Trial, summed, trials

NUMBERED = (*FEATURES, Feature(name="weight", source="candidate", kind="number"))
"""With a number, so that there is one that can be spoilt."""


def log(count: int) -> Iterator[Sample]:
    for sample in clean(count, 7):
        features = sample.features | {"weight": [1.0] * len(sample.items)}
        yield msgspec.structs.replace(sample, features=features, settle_time=sample.event_time)


def tried(kafka: str, seeds: int) -> list[Trial]:
    plan = Plan(seeds=seeds, first=1600, apart=60, length_s=190.0)
    settings = TrainerSettings(gate=SETTINGS, steps=StepSettings(examples=25))
    samples = log(1600 + seeds * 260)
    return list(trials(samples, bootstrap=kafka, features=NUMBERED, settings=settings, plan=plan, make=FakeLearner))


def check(found: list[Trial], seeds: int) -> None:
    assert len(found) == seeds * (1 + len(POISONS))
    assert [trial.check for trial in found if trial.kind == CLEAN] == [""] * seeds
    for trial in found:
        assert (trial.late_deltas, trial.bad_live if trial.check else 0, trial.not_finite) == (0, 0, 0), trial
        assert trial.good, trial
        if trial.kind != CLEAN:
            assert trial.check, trial
    figures = {name: values for name, _, values in summed(found)}
    for kind in POISONS:
        assert figures[f"{kind}_served_log_loss_excess"][0] <= 0.02, kind


def test_a_minute_of_poison_leaves_no_trace(kafka: str) -> None:
    check(tried(kafka, 1), 1)


@pytest.mark.slow
@pytest.mark.timeout(1_800)
def test_no_poison_at_any_of_twenty_moments_leaves_a_trace(kafka: str) -> None:
    check(tried(kafka, 20), 20)


def test_a_log_that_ends_before_the_last_onset_is_refused(kafka: str) -> None:
    with pytest.raises(UsageError, match="onset 1 of 1"):
        list(
            trials(
                log(100),
                bootstrap=kafka,
                features=NUMBERED,
                settings=TrainerSettings(),
                plan=Plan(seeds=1, first=100),
                make=FakeLearner,
            )
        )


def test_an_excess_is_over_all_rows_of_a_kind() -> None:
    def trial(kind: str, seed: int, loss: list[float], refused: str = "") -> Trial:
        return Trial(
            kind=kind,
            seed=seed,
            check=refused,
            slates=3,
            late_deltas=0,
            bad_live=0,
            good=True,
            not_finite=0,
            loss=np.array(loss),
        )

    found = [
        trial(CLEAN, 0, [0.4, 0.4]),
        trial("flood", 0, [0.5, 0.5], "user_share"),
        trial(CLEAN, 1, [0.6, 0.6]),
        trial("flood", 1, [0.6, 0.6]),
    ]
    figures = {name: values for name, _, values in summed(found)}
    assert figures["clean_alarms"] == [0.0]
    assert figures["flood_refused"] == [1.0]
    assert figures["flood_served_log_loss_excess"] == pytest.approx([0.1])
