"""Samples become columns."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from feedback.events import NEGATIVE, OBSERVED, POSITIVE, Sample
from feedback.features import Feature, FeatureSpec
from trainer.batch import ELSEWHERE, batch_of, padded
from trainer.learner import Learner
from trainer.settings import ModelSettings

SPEC = FeatureSpec(
    features=(
        Feature(name="user", source="user"),
        Feature(name="item", source="item"),
        Feature(name="topics", source="candidate", kind="strings"),
        Feature(name="ctr", source="item_state", kind="number"),
        Feature(name="hour", source="hour"),
    )
)


def sample(user: str, items: list[str], **given: object) -> Sample:
    return Sample(
        sample_id=f"{user}-0",
        request_id=user,
        user_id=user,
        event_time=3_600_000_000 * 5,
        settle_time=0,
        label_policy="click",
        emissions=[POSITIVE] + [NEGATIVE] * (len(items) - 1),
        positions=list(range(len(items))),
        items=items,
        **given,  # type: ignore[arg-type]
    )


def test_samples_are_joined_in_order_and_padded_to_the_longest_list() -> None:
    first = sample("ann", ["a", "b"], features={"topics": [["x", "y"], []], "ctr": [0.5, 1]})
    second = sample("bob", ["c"], weights=[2.0])
    batch = batch_of(SPEC, [first, second])
    assert batch.columns["user"].tolist() == ["ann", "ann", "bob"]
    assert batch.columns["topics"].tolist() == [["x", "y"], ["", ""], ["", ""]]
    assert batch.columns["ctr"].tolist() == [0.5, 1.0, 0.0] and batch.columns["ctr"].dtype == np.float32
    assert batch.columns["hour"].tolist() == ["5"] * 3
    assert batch.emissions.tolist() == [1, 0, 1]
    assert batch.weights.tolist() == [1.0, 1.0, 2.0]
    assert batch.positions.tolist() == [0, 1, 0]
    assert batch.starts is not None and batch.starts.tolist() == [0, 2]
    assert (len(batch), batch.event_time) == (3, first.event_time)


def test_a_slate_that_something_else_chose_stands_in_none_of_our_positions() -> None:
    ours, theirs = sample("ann", ["a", "b"], policy="greedy"), sample("bob", ["c", "d", "e"], policy=OBSERVED)
    batch = batch_of(SPEC, [ours, theirs, ours])
    assert batch.positions.tolist() == [0, 1, ELSEWHERE, ELSEWHERE, ELSEWHERE, 0, 1]
    assert batch.positions.dtype == np.int32
    assert ELSEWHERE < 0


def test_features_with_one_value_per_slate_may_be_read_there_only() -> None:
    model = Learner(SPEC, ModelSettings(crosses=("user*topics",)), line="test")
    samples = [sample(str(i % 3), ["a", "b", "c"][: i % 3 + 1]) for i in range(12)]
    batch = batch_of(SPEC, samples)
    everywhere = replace(batch, starts=None)
    for ours, theirs in zip(model.prepare(batch).keys, model.prepare(everywhere).keys, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_no_lists_at_all_are_one_empty_column() -> None:
    assert padded([[], []]).tolist() == [[""], [""]]
