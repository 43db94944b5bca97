"""Progressive validation: first scores, settled labels, counted once."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedback.events import NEGATIVE, OBSERVED, POSITIVE, REVISION, Sample
from tests.trainer.loop.world import START, WINDOW, sample, slates
from trainer.baseline import Baseline, fingerprint
from trainer.batch import ELSEWHERE
from trainer.groups import ValidationSettings
from trainer.settled import SettledFile, read_settled
from trainer.validate import Validation

SETTINGS = ValidationSettings()


def validation() -> Validation:
    return Validation(SETTINGS, None)


def see(v: Validation, partition: int, sample: Sample, scores: list[float], step: int) -> None:
    """Let one sample be seen."""
    v.observe([partition], [sample], np.array(scores, np.float32), step)


def test_a_row_counts_when_its_watermark_has_passed_and_not_before() -> None:
    v = validation()
    see(v, 0, sample(1, [7, 8], [NEGATIVE, POSITIVE], [0, 1]), [0.1, 0.9], 1)
    assert v.settle(0, START + WINDOW - 1) is None
    settled = v.settle(0, START + WINDOW)
    assert settled is not None
    assert settled.rows["label"].tolist() == [False, True]
    assert settled.rows["score"].tolist() == pytest.approx([0.1, 0.9])
    assert v.open_rows == 0


def test_a_revision_turns_the_label_and_keeps_the_first_score() -> None:
    v = validation()
    see(v, 0, sample(1, [7, 8], [NEGATIVE, NEGATIVE], [0, 1]), [0.1, 0.2], 1)
    see(v, 0, sample(1, [8], [REVISION], [1]), [0.7], 2)
    settled = v.settle(0, START + WINDOW)
    assert settled is not None
    assert settled.rows["label"].tolist() == [False, True]
    assert settled.rows["score"].tolist() == pytest.approx([0.1, 0.2])


def test_negatives_that_come_after_the_positive_join_the_same_slate() -> None:
    v = validation()
    see(v, 0, sample(1, [8], [POSITIVE], [1]), [0.9], 1)
    see(v, 0, sample(1, [7, 9], [NEGATIVE, NEGATIVE], [0, 2]), [0.1, 0.2], 2)
    settled = v.settle(0, START + WINDOW)
    assert settled is not None
    assert len(settled.slates) == 1
    assert settled.rows["position"].tolist() == [1, 0, 2]


def test_a_revision_after_settling_is_counted_apart() -> None:
    v = validation()
    see(v, 0, sample(1, [7], [NEGATIVE], [0]), [0.1], 1)
    v.settle(0, START + WINDOW)
    see(v, 0, sample(1, [7], [REVISION], [0]), [0.3], 2)
    assert v.unmatched == 1
    assert v.settle(0, START + 2 * WINDOW) is None


def test_a_partition_settles_by_its_own_watermark() -> None:
    v = validation()
    see(v, 0, sample(1, [7], [NEGATIVE], [0]), [0.1], 1)
    v.settle(1, START + 10 * WINDOW)
    assert v.open_rows == 1
    assert v.watermark == START + 10 * WINDOW
    v.settle(0, START)
    assert v.watermark == START


def test_the_baseline_learns_only_what_settled() -> None:
    v = validation()
    for number in range(50):
        see(v, 0, sample(number, [7], [POSITIVE], [0]), [0.5], 1)
    assert rate(v.baseline, "i7") == rate(v.baseline, "i1")
    v.settle(0, START + WINDOW)
    assert rate(v.baseline, "i7") > rate(v.baseline, "i1")


def rate(baseline: Baseline, item: str, time: int = START) -> float:
    """The baseline's score of an item."""
    return float(baseline.sight(baseline.number([item], time), np.array([time]))[0][0])


def count(baseline: Baseline, item: str, labels: list[int], time: int) -> None:
    """Let settled labels of an item be learned."""
    numbers = baseline.number([item] * len(labels), time)
    baseline.learn(numbers, np.array(labels, bool), np.full(len(labels), time))


def test_the_baseline_forgets_by_half_lives() -> None:
    baseline = Baseline(ValidationSettings(half_life_s=10.0, prior=1.0))
    count(baseline, "a", [1] * 8, START)
    count(baseline, "b", [0] * 100, START)
    assert rate(baseline, "a", START) > 0.85
    assert rate(baseline, "a", START + 100_000_000) < 0.15
    count(baseline, "a", [1] * 8, START + 10_000_000_000)
    assert 0.85 < rate(baseline, "a", START + 10_000_000_000) < 0.95


def test_the_baseline_remembers_the_items_seen_last_and_those_that_wait() -> None:
    v = Validation(ValidationSettings(items=50), None)
    for number in range(80):
        time = START + number * 1_000_000
        see(v, 0, sample(number, [number], [POSITIVE if number == 3 else NEGATIVE], [0], time=time), [0.5], number)
        if number == 40:
            v.settle(0, START + WINDOW)
    settled = v.settle(0, START + 3 * WINDOW)
    assert settled is not None
    assert len(settled.rows) == 79
    assert settled.rows["item"].tolist() == [fingerprint(f"i{number}") for number in range(1, 80)]


def test_slices_tell_positions_policies_and_readers_apart() -> None:
    v = validation()
    for number in range(60):
        see(v, 0, sample(number, [1, 2, 3, 4], [POSITIVE, 0, 0, 0], [0, 1, 2, 3], user=f"u{number % 6}"), [0.5] * 4, 1)
    v.settle(0, START + WINDOW)
    v.fold()
    slices = v.metrics.slices()
    assert slices["position_1"]["click_rate"] == 1.0
    assert slices["position_4_10"]["rows"] == 60
    assert slices["reader_new"]["rows"] == 24
    assert slices["reader_known"]["rows"] == 216
    assert slices["policy_test"]["rows"] == 240


@pytest.mark.parametrize("fallback", ["", OBSERVED])
def test_a_slate_that_something_else_chose_counts_for_the_model_and_not_for_what_was_served(fallback: str) -> None:
    v = validation()
    for number in range(60):
        ours = sample(number, [1, 2], [POSITIVE, NEGATIVE], [0, 1])
        theirs = sample(1_000 + number, [3, 4, 5], [POSITIVE, NEGATIVE, NEGATIVE], [0, 1, 2])
        theirs = msgspec.structs.replace(theirs, policy=OBSERVED, fallback=fallback, scores=[0.0] * 3)
        see(v, 0, ours, [0.5] * 2, 1)
        see(v, 0, theirs, [0.5] * 3, 1)
        see(v, 0, msgspec.structs.replace(theirs, emissions=[REVISION], items=["i4"], positions=[1]), [0.5], 2)
    settled = v.settle(0, START + WINDOW)
    assert settled is not None
    assert settled.rows["position"].tolist()[:5] == [0, 1, 0, 1, 0], "slates settle in the order of their names"
    assert (settled.rows["position"] == ELSEWHERE).sum() == 180
    v.fold()
    total = v.metrics.figures()["total"]
    assert (total["rows"], total["rows_served"]) == (300, 120)
    slices = v.metrics.slices()
    assert slices["policy_observed"]["rows"] == 180
    assert slices["policy_observed"]["click_rate"] == pytest.approx(2 / 3)
    assert (slices["position_1"]["rows"], slices["position_2_3"]["rows"]) == (60, 60)
    assert sum(each["rows"] for name, each in slices.items() if name.startswith("position_")) == 120


def test_the_window_forgets_and_the_total_does_not() -> None:
    v = Validation(ValidationSettings(window_s=120.0), None)
    for slate in slates(600):
        for each in slate:
            see(v, 0, each, [0.5] * len(each.items), 1)
    v.settle(0, START + 10 * 600_000_000)
    v.fold()
    figures = v.metrics.figures()
    assert figures["total"]["rows"] == 3000
    assert 500 <= figures["window"]["rows"] <= 600


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 59), st.integers(0, 3))
def test_going_on_from_a_saved_state_counts_the_same_rows(
    tmp_path_factory: pytest.TempPathFactory, cut: int, back: int
) -> None:
    folder: Path = tmp_path_factory.mktemp("settled")
    world = list(slates(60))

    def feed(v: Validation, part: slice) -> None:
        for number, slate in enumerate(world[part], part.start):
            for each in slate:
                see(v, number % 2, each, [0.3 + 0.01 * p for p in each.positions], number)
            v.settle(number % 2, slate[0].event_time)
        v.fold()

    whole = Validation(SETTINGS, SettledFile(folder / "whole", keep_rows=1000))
    feed(whole, slice(0, 60))
    first = Validation(SETTINGS, SettledFile(folder / "killed", keep_rows=1000))
    feed(first, slice(0, cut))
    saved = msgspec.msgpack.decode(msgspec.msgpack.encode(first.state()))
    feed(first, slice(cut, min(60, cut + back)))
    second = Validation(SETTINGS, SettledFile(folder / "killed", keep_rows=1000))
    second.restore(saved)
    feed(second, slice(cut, 60))
    assert second.metrics.state() == whole.metrics.state()
    assert read_settled(folder / "killed").tobytes() == read_settled(folder / "whole").tobytes()
    assert second.open_rows == whole.open_rows
