"""Where a step ends, and that a recorded step is taken again."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedback.deltas import Step
from feedback.errors import CorruptError
from tests.trainer.loop.world import START, progress, sample
from trainer.groups import StepSettings
from trainer.steps import Record, Steps, Take


def record(partition: int, offset: int, examples: int, *, timestamp: int = 0) -> Record:
    """A sample with so many examples, or, with none, a progress."""
    event = sample(offset, list(range(examples)), [0] * examples, list(range(examples))) if examples else None
    return Record(partition, offset, timestamp, event or progress(partition, START))


def test_a_step_is_due_when_it_is_full_or_its_first_sample_waited() -> None:
    steps = Steps(StepSettings(examples=10, wait_s=0.5), {})
    assert steps.due_in(0.0) == float("inf")
    steps.offer(record(0, 0, 4), 1.0)
    assert steps.due_in(1.2) == pytest.approx(0.3)
    steps.offer(record(0, 1, 6), 1.2)
    assert steps.due_in(1.2) == 0.0


def test_progress_alone_waits_for_the_idle_time() -> None:
    steps = Steps(StepSettings(idle_s=2.0), {})
    steps.offer(record(0, 0, 0), 1.0)
    assert steps.due_in(1.0) == 2.0
    assert steps.take(3.0).examples == 0


def test_a_step_ends_on_a_sample_boundary_and_takes_the_progress_behind_it() -> None:
    steps = Steps(StepSettings(examples=10), {})
    for each in (record(0, 0, 6), record(0, 1, 4), record(0, 2, 0), record(0, 3, 1)):
        steps.offer(each, 0.0)
    take = steps.take(0.0)
    assert [r.offset for r in take.records] == [0, 1, 2]
    assert take.offsets == {0: 3}


def test_a_sample_larger_than_a_step_is_a_step_of_its_own() -> None:
    steps = Steps(StepSettings(examples=3), {})
    steps.offer(record(0, 0, 7), 0.0)
    steps.offer(record(0, 1, 1), 0.0)
    assert [steps.take(0.0).examples, steps.take(0.0).examples] == [7, 1]


def test_a_backlog_is_learned_in_the_order_in_which_it_was_appended() -> None:
    steps = Steps(StepSettings(examples=2), {})
    for partition in (0, 1):
        for offset in range(3):
            steps.offer(record(partition, offset, 1, timestamp=10 * offset + partition), 0.0)
    assert [steps.take(0.0).offsets for _ in range(3)] == [{0: 1, 1: 1}, {0: 2, 1: 2}, {0: 3, 1: 3}]


def test_records_that_were_taken_already_are_ignored() -> None:
    steps = Steps(StepSettings(), {0: 5})
    steps.offer(record(0, 4, 3), 0.0)
    assert steps.waiting == 0


def test_a_recorded_step_that_does_not_fit_the_topic_is_refused() -> None:
    steps = Steps(StepSettings(), {})
    steps.offer(record(0, 0, 3), 0.0)
    with pytest.raises(CorruptError, match="recorded 4 examples"):
        steps.retake(Step(step=1, offsets={0: 1}, examples=4), 0.0)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 6), max_size=12), min_size=1, max_size=3),
    st.integers(1, 12),
    st.randoms(use_true_random=False),
)
def test_whatever_way_records_arrive_the_recorded_steps_are_taken_again(
    partitions: list[list[int]], size: int, chance: random.Random
) -> None:
    records = [
        [record(p, 2 * at, n, timestamp=chance.randrange(100)) for at, n in enumerate(sizes)]
        for p, sizes in enumerate(partitions)
    ]
    live = Steps(StepSettings(examples=size), {})
    taken: list[Take] = []
    queues = [list(each) for each in records]
    while any(queues) or live.due_in(1e9) <= 0:
        chosen = chance.randrange(len(queues))
        if queues[chosen]:
            live.offer(queues[chosen].pop(0), 0.0)
        if chance.random() < 0.4 or not any(queues):
            taken.append(live.take(0.0))
    again = Steps(StepSettings(examples=size), {})
    for each in records:
        for one in each:
            again.offer(one, 0.0)
    for number, take in enumerate(taken):
        if take.records:
            step = Step(step=number, offsets=take.offsets, examples=take.examples)
            assert again.retake(step, 0.0) == take
    assert again.offsets == live.offsets
    assert again.waiting == live.waiting == 0
