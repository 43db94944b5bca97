"""Which slates of a log are answered, and with which label."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from everloop.evaluation.pair import Labelled, Partition, Rules, Span
from everloop.evaluation.policies import parse
from feedback.clock import SECOND
from feedback.errors import UsageError
from feedback.events import Outcome, Prediction, Tick
from streams.settings import JoinSettings, LabelSettings
from tests.evaluation.build import START, click, log

ONE = next(log(parse("epsilon_greedy(0.5)"), 1)).prediction
FIRST, SECOND_ITEM = ONE.items
LATER = Tick(event_time=START + 4_000 * SECOND, sent_time=0)
RULES = Rules(JoinSettings(window_s=600.0, skew_s=5.0), LabelSettings())


def paired(
    predictions: list[Prediction], outcomes: list[Outcome], *, rules: Rules = RULES, span: Span | None = None
) -> tuple[list[Labelled], Partition]:
    partition = Partition(span or Span(), rules)
    partition.feed("outcomes", [*outcomes, LATER])
    partition.feed("predictions", [*predictions, LATER])
    return list(partition.slates()), partition


def labels(*outcomes: Outcome, rules: Rules = RULES) -> list[bool]:
    (slate,), _ = paired([ONE], list(outcomes), rules=rules)
    return slate.clicked


def test_an_item_that_was_clicked_inside_the_window_is_positive() -> None:
    assert labels() == [False, False]
    assert labels(click("r0", SECOND_ITEM, START + 600 * SECOND)) == [False, True]
    assert labels(click("r0", FIRST, START - 5 * SECOND)) == [True, False]


@pytest.mark.parametrize("seconds", [601, -6])
def test_a_click_outside_the_window_does_not_count(seconds: int) -> None:
    assert labels(click("r0", FIRST, START + seconds * SECOND)) == [False, False]


def test_clicks_on_what_was_not_shown_and_of_other_requests_do_not_count() -> None:
    assert labels(click("r0", "zzz", START), click("r1", FIRST, START)) == [False, False]


def test_the_label_is_the_joins_own() -> None:
    rules = Rules(RULES.join, LabelSettings(min_dwell_s=10.0))
    clicked = click("r0", FIRST, START)
    assert labels(clicked, rules=rules) == [False, False]
    assert labels(clicked, click("r0", FIRST, START, "dwell", 12.0), rules=rules) == [True, False]


def test_slates_whose_window_is_open_are_left_out_and_counted() -> None:
    late = replace(ONE, request_id="r9", event_time=LATER.event_time - 609 * SECOND)
    found, partition = paired([ONE, late], [])
    assert [slate.prediction.request_id for slate in found] == ["r0"]
    assert partition.left_out == {"unsettled": 1}


def test_where_one_topic_lags_behind_nothing_is_final() -> None:
    partition = Partition(Span(), RULES)
    partition.feed("predictions", [ONE, LATER])
    assert list(partition.slates()) == []
    assert partition.left_out == {"unsettled": 1}


def test_a_prediction_that_was_sent_twice_counts_once() -> None:
    found, _ = paired([ONE, replace(ONE, items=[SECOND_ITEM, FIRST])], [])
    assert [slate.prediction for slate in found] == [ONE]


def test_only_slates_of_the_range_are_answered_with_clicks_that_came_after_it() -> None:
    before, after = (
        replace(ONE, request_id="b", event_time=START - 1),
        replace(ONE, request_id="a", event_time=START + 1),
    )
    found, _ = paired([before, ONE, after], [click("r0", FIRST, START + 9 * SECOND)], span=Span(START, START + 1))
    assert [(slate.prediction.request_id, slate.clicked) for slate in found] == [("r0", [True, False])]


def test_a_range_that_ends_before_it_begins_is_refused() -> None:
    with pytest.raises(UsageError, match="from 7 to 7"):
        Span(7, 7)
